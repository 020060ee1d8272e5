"""How many channels and columns of an output are computed at once: a model of instructions, small enough to try every tile.

One step of a reduction multiplies `columns` values of the input by `vectors` vectors of weights: that many products go into as
many sums, which stay in registers, and every value and every vector of weights is loaded once (Goto and van de Geijn, "Anatomy
of high-performance matrix multiplication", ACM TOMS 34(3), 2008, section 4.2.1).
"""

from dataclasses import dataclass

from vlab.compiling.schedule.registers import Registers

_LATENCY = 8
"""Sums that must be under way to keep the arithmetic busy: two units of four cycles each are common."""
_OVERHEAD = 1
"""Instructions of one step for the loop itself."""


@dataclass(frozen=True)
class Tile:
    """What one set of registers holds."""

    channels: int
    columns: int


@dataclass(frozen=True)
class Plan:
    """How an output is cut."""

    tile: Tile
    merged_rows: int
    """Rows that are taken for one."""


def plan(channels: int, rows: int, columns: int, registers: Registers, *, mergeable: bool) -> Plan:
    """The cheapest tile, over as few rows in one as it takes.

    Args:
        channels: of the output, or of a group of it.
        rows: of the output.
        columns: of the output.
        registers: the CPU's.
        mergeable: whether neighbouring rows may be taken for one, which fills the registers where rows are short.
    """
    best: Plan | None = None
    best_cost = 0.0
    for factor in range(1, rows + 1 if mergeable else 2):
        if rows % factor:
            continue
        tile, cost = choose(channels, columns * factor, registers)
        if best is None or cost / factor < best_cost:
            best, best_cost = Plan(tile, factor), cost / factor
    return best or Plan(Tile(1, 1), 1)


def pieces(channels: int, lanes: int) -> list[int]:
    """Vectors that cover so many channels exactly: whole ones, then ever smaller powers of two."""
    sizes = [lanes] * (channels // lanes)
    rest = channels % lanes
    while rest:
        sizes.append(1 << (rest.bit_length() - 1))
        rest -= sizes[-1]
    return sizes


def choose(channels: int, columns: int, registers: Registers) -> tuple[Tile, int]:
    """The tile with which a step over the whole output takes the fewest instructions.

    Args:
        channels: of the output, at least 1.
        columns: of the output, at least 1.
        registers: the CPU's.

    Returns:
        The tile, and the instructions. Tiles need not divide: the rest is a smaller tile.
    """
    lanes, most = registers.lanes, registers.accumulators
    best, best_cost = Tile(1, 1), 0
    widths = {lanes * count for count in range(1, most + 1) if lanes * count <= channels} | {pieces(channels, lanes)[0]}
    for width in sorted(widths | ({channels} if len(pieces(channels, lanes)) <= most else set())):
        vectors = len(pieces(width, lanes))
        tiles, rest = divmod(channels, width)
        for count in range(1, min(columns, most // vectors) + 1):
            if not registers.hold(vectors, count):
                break
            whole, last = divmod(columns, count)
            cost = sum(
                number * (whole * _step(size, count) + (_step(size, last) if last else 0))
                for number, size in ((tiles, vectors), (1, len(pieces(rest, lanes))))
                if size
            )
            if not best_cost or cost < best_cost:
                best, best_cost = Tile(width, count), cost
    return best, best_cost


def _step(vectors: int, columns: int) -> int:
    return max(vectors * columns, _LATENCY) + vectors + columns + _OVERHEAD
