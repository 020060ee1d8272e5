"""Small words for kernels that are written loop by loop rather than computed and scheduled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder

from vlab.compiling.schedule import ANNOTATION, WRITTEN

_OPAQUE = 8
"""Operator pattern of kernels that are not fused (relax/op_attr_types.h, kOpaque)."""


@contextmanager
def written() -> Iterator[IRBuilder]:
    """Write a kernel; `get` of the builder gives it afterwards."""
    with IRBuilder() as kernel, builder.prim_func(private=True):
        builder.func_attr({"op_pattern": _OPAQUE, ANNOTATION: WRITTEN})
        yield kernel


@contextmanager
def loop(extent: int) -> Iterator[Any]:
    """A loop, or nothing where it would run once."""
    if extent == 1:
        yield 0
        return
    with builder.serial(0, extent) as index:
        yield index


def split(size: int, tile: int) -> list[tuple[int, int, int]]:
    """Start, tile and count of the whole tiles and of what is left as one smaller tile."""
    whole, rest = divmod(size, tile)
    return [part for part in ((0, tile, whole), (whole * tile, rest, 1 if rest else 0)) if part[2]]


def vector(buffer: Any, offset: Any, lanes: int) -> Any:
    """Neighbouring values of a flat buffer."""
    return buffer[span(offset, lanes)]


def span(offset: Any, lanes: int) -> Any:
    """Indices of neighbouring values."""
    return offset if lanes == 1 else builder.ramp(offset, 1, lanes)


def zeros(dtype: str, lanes: int) -> Any:
    """A vector of zeros."""
    return tirx.const(0, typed(dtype, lanes))


def typed(dtype: str, lanes: int) -> str:
    """TVM's name of a vector type."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def clamp(value: Any, low: int, high: int, lanes: int = 1) -> Any:
    """int32 values within bounds, by LLVM's intrinsics.

    TVM drops its own min and max where it concludes that nothing is outside, and from shifts by a variable and from products of
    64 bits it concludes bounds that are too narrow.
    """
    dtype, suffix = typed("int32", lanes), "i32" if lanes == 1 else f"v{lanes}i32"
    capped = tirx.call_llvm_pure_intrin(dtype, f"llvm.smin.{suffix}", value, tirx.const(high, dtype))
    return tirx.call_llvm_pure_intrin(dtype, f"llvm.smax.{suffix}", capped, tirx.const(low, dtype))


def shaped(kernel: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    """A kernel over flat buffers as one over tensors of these shapes, whose bytes are the same."""
    tensors = [
        tirx.decl_buffer(shape, str(flat.dtype), name=flat.name) for flat, shape in zip(kernel.params, shapes, strict=True)
    ]
    views = [tirx.DeclBuffer(flat, data=tirx.buffer_data(tensor)) for flat, tensor in zip(kernel.params, tensors, strict=True)]
    result = tirx.PrimFunc(tensors, tirx.SeqStmt([*views, kernel.body]))
    for key, value in kernel.attrs.items():
        result = result.with_attr(key, value)
    return result
