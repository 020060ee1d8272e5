"""Which whole numbers an input may be given, from what the graph does with it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vlab.compiling.reading.outlining.outline import Operator, Outline

_REAL = 1.0
"""Size that values have once the model has scaled them down."""
_ADDING, _TAKING, _TIMES, _OVER = ("Add", "ADD"), ("Sub", "SUB"), ("Mul", "MUL"), ("Div", "DIV")
_POWERS = ("Pow", "POW")
_POWERED = 25.0
"""What a base counts for: unscaled it is at most 4, whose powers up to the 15th are an int32."""
_REMAINDERS = ("Mod", "FLOOR_DIV", "FLOOR_MOD")
_COMPARING = frozenset(
    (
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not"),
        *("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"),
    )
)
_CHOOSING = ("Where", "SELECT", "SELECT_V2")
_MERGING = frozenset(
    (
        *("Concat", "Max", "Min", "Clip", "Where", "Gather"),
        *("CONCATENATION", "MAXIMUM", "MINIMUM", "SELECT", "SELECT_V2", "GATHER", "PACK"),
    )
)
"""Their outputs hold values of any of their inputs."""


@dataclass(frozen=True)
class _Reach:
    """A tensor's values as `factor * input + offset`."""

    factor: float
    offset: float


def table_range(outline: Outline, tensor: str) -> tuple[int, int] | None:
    """Smallest and largest value of an input that the tables it looks into have, also behind sums and products with constants.

    None for an input that is no index.
    """
    allowed = [use for use in _uses(outline, tensor) if isinstance(use, range)]
    if not allowed:
        return None
    low = max(one.start for one in allowed)
    return low, max(low, min(one.stop for one in allowed) - 1)


def whole_range(outline: Outline, tensor: str, unscaled: float) -> tuple[int, int]:
    """Smallest and largest value to try an input of whole numbers with that is no index.

    What is only compared or made a truth value reaches a little beyond the numbers it is compared with, and what is divided by
    begins at 1. Values that enter arithmetic reach as far as the model's own constant factor brings them to 1, so that samples
    of 16 bits which are divided by 32768 take their whole type; without such a factor to `unscaled`, and less where they are
    scaled up, down to 0 and 1 for a mask that is multiplied by a thousand.
    """
    uses = list(_uses(outline, tensor))
    turns = [use.value for use in uses if isinstance(use, _Compared)]
    factors = [abs(use) for use in uses if isinstance(use, float) and use]
    low, high = -round(unscaled), round(unscaled)
    if factors:
        largest = max(factors)
        reach = math.ceil((_REAL if largest < 1 else unscaled) / largest)
        low, high = (-reach, reach) if reach > 1 else (0, 1)
    elif turns:
        low, high = min(0, math.floor(min(turns)) - any(turns)), max(1, math.ceil(max(turns)) + any(turns))
    return (1, max(1, high)) if None in uses else (low, high)


@dataclass(frozen=True)
class _Compared:
    value: float
    """Of the input, where the comparison turns."""


def _uses(outline: Outline, tensor: str) -> Iterator["range | _Compared | float | None"]:
    """Every use of an input: the values that a table allows, where a comparison turns, a factor, or None for a divisor."""
    reached = {tensor: _Reach(1.0, 0.0)}
    for operator in outline.operators:
        for place, name in enumerate(operator.inputs):
            if name not in reached:
                continue
            reach = reached[name]
            if name in operator.indexes:
                yield _allowed(reach, operator.indexes[name])
                continue
            onward = _onward(outline, operator, place, reach)
            if isinstance(onward, _Reach):
                reached.update(dict.fromkeys(operator.outputs, onward))
            else:
                yield onward


def _allowed(reach: _Reach, places: int) -> range:
    """Values of the input whose index is within the table."""
    ends = sorted((end - reach.offset) / reach.factor for end in (0, places - 1)) if reach.factor else [0.0, 0.0]
    return range(math.ceil(ends[0]), math.floor(ends[1]) + 1)


def _onward(outline: Outline, operator: Operator, place: int, reach: _Reach) -> "_Reach | _Compared | float | None":
    """What an operator makes of values that it reads."""
    kind, values = operator.kind, [outline.scalars.get(name) for name in operator.inputs]
    other = values[1 - place] if len(values) == 2 and place < 2 else None
    if outline.dtypes.get(operator.outputs[0]) == "bool" or kind in _COMPARING or (kind in _CHOOSING and place == 0):
        return _Compared(((other or 0.0) - reach.offset) / reach.factor if reach.factor else 0.0)
    if place == 1 and kind in (*_OVER, *_REMAINDERS):
        return None
    if operator.carries or kind in _MERGING:
        return reach
    if kind in _POWERS:
        return reach.factor * _POWERED
    return reach.factor if other is None else _scaled(kind, place, reach, other)


def _scaled(kind: str, place: int, reach: _Reach, constant: float) -> "_Reach | float":
    """Values after arithmetic with a constant; their factor after an operator that is none."""
    if kind in _ADDING:
        return _Reach(reach.factor, reach.offset + constant)
    if kind in _TAKING:
        return _Reach(reach.factor, reach.offset - constant) if place == 0 else _Reach(-reach.factor, constant - reach.offset)
    factor = constant if kind in _TIMES else 1 / constant if kind in _OVER and constant else None
    return reach.factor if factor is None else _Reach(reach.factor * factor, reach.offset * factor)
