"""What the schedule knows about a CPU, and what every rule shares."""

from dataclasses import dataclass
from typing import Any

ANNOTATION = "schedule_rule"
"""Key of the attribute of a `te.compute`, and so of a block, that names its rule."""


@dataclass(frozen=True)
class Registers:
    """Vectors and registers of a CPU."""

    lanes: int
    """float32 values in a vector; 1 without vectors."""
    accumulators: int
    """Vector registers to keep sums in."""
    total: int = 32
    """Vector registers there are; where several make one vector, such groups of them."""
    scalar_factors: bool = False
    """Whether vectors are multiplied by scalar registers, so that a factor needs no vector register."""

    def hold(self, vectors: int, factors: int) -> bool:
        """Whether a step of a product has room: the sums of all pairs, the vectors, and a factor at a time."""
        return vectors * factors + vectors + (not self.scalar_factors) <= self.total


class UnfitError(Exception):
    """A rule does not fit a kernel; says why."""

    def __init__(self, reason: str, partly: Any = None) -> None:
        super().__init__(reason)
        self.partly = partly
        """The kernel as far as the rule did apply, where that is worth keeping."""


def shape(buffer: Any) -> list[int]:
    """Shape of a buffer."""
    return [int(extent) for extent in buffer.shape]
