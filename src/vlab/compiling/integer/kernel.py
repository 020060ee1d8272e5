"""What a convolution or matrix product written loop by loop is made of."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.window import Window


class Kernel(ABC):
    """One kernel: its packed weights, and its code."""

    window: Window
    packed: npt.NDArray[np.int8]
    """Weights in the order in which they are read."""
    rescaling: Rescaling
    planes = False
    """Whether it reads its data as planes, one of each channel, rather than as pixels."""

    @abstractmethod
    def build(self) -> Any:
        """The kernel as a PrimFunc of data, packed weights, the arrays of the rescaling, and output."""
