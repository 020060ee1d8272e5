"""Quantised models as integer kernels.

`ToIntegers` recognises dequantise → operator → quantise in a Relax function, whichever importer wrote it, and puts an integer
kernel in its place: int8 by int8 into int32, then back to int8 by a fixed-point multiplier, bit for bit as LiteRT's reference
kernels do it. `fixed_point` says what must come out, `dialects` how a CPU gets there; convolutions and matrix products are
written loop by loop (`dot`, `depthwise`, `pointwise`), the rest is computed for the schedule (`reducing`). An operator without
a kernel stays as it is, in float32, and the reason is reported.
"""

from vlab.compiling.integer.recognising import ToIntegers

__all__ = ["ToIntegers"]
