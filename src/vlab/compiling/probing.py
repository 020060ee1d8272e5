"""On which inputs an artifact is checked: real or random ones, and the edges of what a model may be given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.compiling.reading.outlining import Outline, table_range, whole_range
from vlab.datasets import columns, load_dataset
from vlab.errors import MeasureError, ModelError
from vlab.records import TensorSpec
from vlab.targets import Target

Array = npt.NDArray[Any]

LARGE = (1e6, 1e4, 1e2)
"""Magnitudes of the case `large`, of which the first is taken that the reference runtime computes without overflow."""

_MOST_SAMPLES = 32
_SEEDS = (1, 2, 3)
_RANDOM_SAMPLES = 12
_MOST_OPERATIONS = 1_500_000_000
"""Of all samples together: an emulator of RISC-V computes some two hundred million a second."""
_SOFT_FLOAT_COST = 40
"""Instructions of a float operation on a CPU without floating point (Cortex-M3 and rv32imac, DS-CNN)."""
_NATIVE_SPEED = 20
"""How much faster, at the least, a target runs that has no emulator."""
_UNSCALED = 100.0
"""Size of whole numbers that a model does not scale down; their products stay far below what float32 and int32 hold."""
_BYTES = 256.0
"""The same for bytes, which take their whole type: images and what was quantised outside the model."""
_ROUNDING = 2.0**-18
"""Relative: some 30 units of float32 roundoff, what a few dozen layers may lose."""
_HALF_ROUNDING = 2.0**-9
"""The same for models that compute in float16: four units of its roundoff."""


@dataclass(frozen=True)
class Case:
    """Inputs of one kind."""

    name: str
    columns: tuple[Array, ...]
    """For each input of the model [N, ...shape of the input], N at least 1."""
    edge: bool = False
    """Whether such inputs hardly occur, so that the figures of an artifact leave them out."""


def cases(
    specs: Sequence[TensorSpec],
    outline: Outline,
    path: Path | None,
    *,
    operations: int,
    magnitude: float | None = None,
    narrow: bool = False,
) -> list[Case]:
    """Inputs for the check, the same everywhere: how many follows from the operations and not from a clock.

    At most 32 rows of a data set, or 12 random ones of 3 seeds; then `zeros`, `largest`, `smallest` and `ends` of what each
    input may be (its table for indices, its type for quantised values, otherwise the range of the data set, of the model's
    calibration, or of what the graph does with whole numbers (`whole_range`), or -1 to 1), `large` and `denormals`. Up to half
    of what can be afforded goes to these edges.

    Args:
        specs: the model's inputs.
        outline: the model's graph, for what the inputs may be.
        path: a data set; random rows without.
        operations: of one inference, see `cost`.
        magnitude: of `large`; left out without.
        narrow: give whole numbers 0 and 1 only, for a model whose reference takes no others.

    Returns:
        At least one case; edges last.

    Raises:
        ModelError: the file cannot be read or its rows do not fit the inputs.
    """
    affordable = max(1, _MOST_OPERATIONS // max(1, operations))
    rows = _rows(specs, path)
    inputs = [_Input.of(spec, outline, None if rows is None else rows[place], narrow) for place, spec in enumerate(specs)]
    narrowest = np.dtype(np.float16 if computes_in_halves(outline) else np.float32)
    edges = _edges(inputs, magnitude, narrowest)[: affordable // 2]
    left = affordable - len(edges)
    if rows is not None:
        return [Case("rows of the data set", tuple(column[: min(_MOST_SAMPLES, left)] for column in rows)), *edges]
    count = min(_RANDOM_SAMPLES, left)
    shares = {seed: count // len(_SEEDS) + (place < count % len(_SEEDS)) for place, seed in enumerate(_SEEDS)}
    ordinary = [Case(f"random, seed {seed}", _random(inputs, seed, share)) for seed, share in shares.items() if share]
    return [*ordinary, *edges]


def cost(operations: int, target: Target) -> int:
    """Operations of one inference, weighted by how fast the target's executables run here; nothing of this machine counts."""
    if target.emulator is None:
        return operations // _NATIVE_SPEED
    abi = target.lower.mabi or ""
    soft = target.lower.mfloat_abi == "soft" or abi in ("ilp32", "lp64")
    return operations * _SOFT_FLOAT_COST if soft else operations


def computes_in_halves(outline: Outline) -> bool:
    """Whether any output is computed in float16 on the way."""
    return any(outline.precision(name) == "float16" for name in outline.outputs)


def rounded(columns: Sequence[Array], seed: int, *, halves: bool = False) -> tuple[Array, ...] | None:
    """The same inputs, each float value moved by about what rounding loses, in float16 with `halves`; None without floats.

    An answer of the reference that changes by this is no answer to hold a compiled model to.
    """
    if not any(column.dtype.kind == "f" for column in columns):
        return None
    random = np.random.default_rng(seed)
    most = _HALF_ROUNDING if halves else _ROUNDING
    return tuple(
        (column * (1 + most * random.choice((-1.0, 1.0), column.shape))).astype(column.dtype)
        if column.dtype.kind == "f"
        else column
        for column in columns
    )


def _rows(specs: Sequence[TensorSpec], path: Path | None) -> list[Array] | None:
    if path is None:
        return None
    try:
        inputs, _ = load_dataset(path)
        return columns(inputs, specs)
    except MeasureError as error:
        raise ModelError(str(error)) from error


@dataclass(frozen=True)
class _Input:
    """What one input of the model may be given."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    low: float
    high: float
    zero: int
    """What stands for zero."""
    normal: bool
    """Whether random values are normal rather than uniform from low to high."""

    @classmethod
    def of(cls, spec: TensorSpec, outline: Outline, rows: Array | None, narrow: bool) -> "_Input":
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            calibrated = outline.value_range(spec.name)
            usual = calibrated or (-1.0, 1.0)
            low, high = (rows.min().item(), rows.max().item()) if rows is not None and np.isfinite(rows).all() else usual
            return cls(spec.shape, dtype, low, high, 0, calibrated is None)
        quantised = outline.quantisation.get(spec.name)
        low, high = (0, 1) if dtype.kind == "b" else cls._whole(spec.name, dtype, outline, rows, narrow)
        return cls(spec.shape, dtype, low, high, quantised.zero_point if quantised else min(max(0, low), high), False)

    @staticmethod
    def _whole(name: str, dtype: np.dtype[Any], outline: Outline, rows: Array | None, narrow: bool) -> tuple[int, int]:
        """Ends of whole numbers: what a quantisation, a table, the data set or the graph says, in this order."""
        ends = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        if name in outline.quantisation:
            return ends
        if narrow:
            return 0, 1  # small enough to be an index nobody told about
        given = table_range(outline, name)
        if given is None and rows is not None:
            given = rows.min().item(), rows.max().item()
        low, high = given or whole_range(outline, name, _BYTES if dtype.itemsize == 1 else _UNSCALED)
        return max(low, ends[0]), min(high, ends[1])

    def sample(self, values: Any) -> Array:
        """One sample of these values, [1, ...shape]."""
        return np.broadcast_to(np.asarray(values), (1, *self.shape)).astype(self.dtype)


def _random(inputs: Sequence[_Input], seed: int, count: int) -> tuple[Array, ...]:
    random = np.random.default_rng(seed)
    found = []
    for one in inputs:
        shape = (count, *one.shape)
        values: Array
        if one.normal:
            values = random.standard_normal(shape)
        elif one.dtype.kind == "f":
            values = random.uniform(one.low, one.high, shape)
        else:
            values = random.integers(int(one.low), int(one.high), shape, endpoint=True)
        found.append(values.astype(one.dtype))
    return tuple(found)


def _edges(inputs: Sequence[_Input], magnitude: float | None, narrowest: np.dtype[Any]) -> list[Case]:
    """One sample each, the most telling first; large values are not too large for the narrowest type computed in."""
    random = np.random.default_rng(_SEEDS[0])

    def case(name: str, value: Callable[[_Input], Any]) -> Case:
        return Case(name, tuple(one.sample(value(one)) for one in inputs), edge=True)

    def signs(one: _Input) -> Array:
        return random.choice((-1.0, 1.0), one.shape)

    def large(one: _Input) -> Any:
        if one.dtype.kind != "f":
            return one.zero
        most = float(np.sqrt(np.finfo(narrowest).max)) / 16  # so that a few hundred squares still add up
        return random.standard_normal(one.shape) * min(magnitude or 0, most)

    found = [
        case("zeros", lambda one: one.zero),
        case("ends", lambda one: np.where(signs(one) > 0, one.high, one.low)),
        case("largest", lambda one: one.high),
        case("smallest", lambda one: one.low),
    ]
    if any(one.dtype.kind == "f" for one in inputs):
        found.append(
            case("denormals", lambda one: signs(one) * np.finfo(one.dtype).tiny / 4 if one.dtype.kind == "f" else one.zero)
        )
        if magnitude is not None:
            found.insert(1, case(f"large, up to {magnitude:g}", large))
    return found
