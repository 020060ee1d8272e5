"""RISC-V's vectors."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vlab.compiling.integer.dialects.chains import longest_run
from vlab.compiling.integer.dialects.dialect import Dialect


@dataclass(frozen=True)
class Rvv(Dialect):
    """RISC-V vectors of 128 bits or more: VWMACC by a scalar, with int32 sums in groups of eight registers."""

    pixels: int = 3
    vector: int = 32
    widths: tuple[int, ...] = (64, 32, 16, 8)

    def taps(self, weights: npt.NDArray[np.int8]) -> int:
        """As far as int16 holds the products."""
        return longest_run(weights)
