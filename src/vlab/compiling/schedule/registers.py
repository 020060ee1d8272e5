"""What the schedule knows about a CPU."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Registers:
    """Vectors and registers of a CPU."""

    lanes: int
    """float32 values in a vector; 1 without vectors."""
    accumulators: int
    """Vector registers to keep sums in."""


def as_int(value: Any) -> int:
    """A constant of TVM's as a Python integer."""
    return int(getattr(value, "value", value))
