"""How a CPU multiplies int8 by int8 into int32: the innermost step of the dot-product kernels, one class for each way.

A kernel takes rows of codes in chunks of bytes. For each of `pixels` rows of data and `channels` rows of weights it keeps one
sum, which is a vector of `lanes` partial sums.
"""

from vlab.compiling.integer.dialects.avx2 import Avx2
from vlab.compiling.integer.dialects.dialect import Dialect
from vlab.compiling.integer.dialects.dsp import Dsp
from vlab.compiling.integer.dialects.neon import Neon, NeonDot
from vlab.compiling.integer.dialects.rvv import Rvv
from vlab.targets import Target

__all__ = ["Dialect", "dialect_of"]


def dialect_of(target: Target) -> Dialect:
    """The way of a target's CPU."""
    emit = target.emit or target.lower
    if emit.mtriple.startswith("aarch64"):
        return NeonDot() if "+dotprod" in emit.mattr else Neon()
    if emit.mtriple.startswith("thumbv7em"):
        return Dsp()
    if emit.mtriple.startswith("riscv64") and "+v" in emit.mattr:
        return Rvv.of(emit.mattr)
    if emit.mtriple.startswith("x86_64"):
        return Avx2() if target.lanes >= 8 else Dialect()
    return Dialect()
