"""What each CPU multiplies int8 with: its dialect, and the kernels that are written in it."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vlab.compiling.integer.broadcast import BroadcastKernel
from vlab.compiling.integer.chained import ChainedKernel
from vlab.compiling.integer.depthwise import DepthwiseKernel
from vlab.compiling.integer.dialects.avx2 import Avx2
from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.dialects.dsp import Dsp
from vlab.compiling.integer.dialects.neon import Neon, NeonDot
from vlab.compiling.integer.dialects.rvv import Rvv
from vlab.compiling.integer.dot import DotKernel
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.pairs import PairsKernel
from vlab.compiling.integer.planar import PlanarKernel, is_shorter
from vlab.compiling.integer.quads import QuadKernel
from vlab.compiling.integer.rescaling import Rescaling
from vlab.compiling.integer.sliding import SlidingKernel
from vlab.compiling.integer.window import Window
from vlab.targets import Target


class Form(Protocol):
    """What gives a kernel for a convolution or a matrix product."""

    def __call__(self, window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling) -> Kernel:
        """The kernel.

        Args:
            window: of the convolution.
            weights: [outputs, kernel height, kernel width, channels]; depthwise ones without the last.
            zero_point: of the data.
            rescaling: from sums to codes.
        """


@dataclass(frozen=True)
class Cpu:
    """A way to multiply int8, and the forms of its kernels."""

    dialect: Dialect
    product: Form
    """Convolutions whose outputs take all channels, and matrix products."""
    depthwise: Form
    """Convolutions whose outputs take one channel each."""


def cpu_of(target: Target) -> Cpu:
    """What a target's CPU has."""
    emit = target.emit or target.lower
    if emit.mtriple.startswith("aarch64"):
        return _neon(NeonDot() if "+dotprod" in emit.mattr else Neon())
    if emit.mtriple.startswith("thumbv7em"):
        return _dsp(Dsp())
    if emit.mtriple.startswith("riscv64") and "+v" in emit.mattr:
        return _rvv(Rvv.of(emit.mattr))
    return _plain(Avx2() if emit.mtriple.startswith("x86_64") and target.lanes >= 8 else Dialect())


def _plain(dialect: Dialect) -> Cpu:
    return Cpu(dialect, partial(DotKernel, dialect=dialect), partial(DepthwiseKernel, dialect=dialect))


def _neon(dialect: Neon) -> Cpu:
    return Cpu(dialect, partial(QuadKernel, dialect=dialect), partial(DepthwiseKernel, dialect=dialect))


def _dsp(dialect: Dsp) -> Cpu:
    return Cpu(dialect, partial(PairsKernel, dialect=dialect), partial(DepthwiseKernel, dialect=dialect))


def _rvv(dialect: Rvv) -> Cpu:
    def product(window: Window, weights: npt.NDArray[np.int8], zero_point: int, rescaling: Rescaling) -> Kernel:
        if window.kernel == (1, 1) and window.pixels == 1:
            return ChainedKernel(window, weights, rescaling, dialect)
        form = PlanarKernel if is_shorter(window, dialect) else BroadcastKernel
        return form(window, weights, zero_point, rescaling, dialect)

    return Cpu(dialect, product, partial(SlidingKernel, dialect=dialect))
