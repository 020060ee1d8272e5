"""Values that a kernel written loop by loop names, kept apart while it is lowered.

Simplifying puts a pure integer, vectors too, in place of its name wherever that is read (stmt_simplify.cc), and so what that is
made of as well: kernels whose steps have names grow fiftyfold. A call that no pass looks into keeps the names.
"""

from typing import Any

from tvm import tirx
from tvm.ir import Call
from tvm.ir.expr import TensorLoad, Var
from tvm_ffi import structural_map, structural_walk

from vlab.compiling.schedule import ANNOTATION, WRITTEN

_HELD = "held"
_LARGEST = 24
"""Calls in what is put in place of a name: a few change nothing but the order, in which some CPUs need fewer registers."""


def hold(kernel: Any) -> Any:
    """The kernel with what it binds behind calls where that grows large; as it is if it is not written loop by loop."""
    if not kernel.attrs or kernel.attrs.get(ANNOTATION) != WRITTEN:
        return kernel
    large = _large(kernel.body)

    def behind_a_call(bind: Any) -> Any:
        if bind.var not in large:
            return bind
        return tirx.Bind(bind.var, tirx.call_extern(str(bind.value.ty.dtype), _HELD, bind.value))

    return kernel.with_body(structural_map(kernel.body, (tirx.Bind, behind_a_call)))


def release(kernel: Any) -> Any:
    """The kernel without those calls."""
    return kernel.with_body(structural_map(kernel.body, (Call, _released)))


def _large(body: Any) -> set[Any]:
    """Variables that stand for more calls than are to be put in their place, with all that is put in place within them."""
    sizes: dict[Any, int] = {}
    large: set[Any] = set()

    def measure(bind: Any) -> None:
        size, loads = 0, 0

        def call(_: Any) -> None:
            nonlocal size
            size += 1

        def load(_: Any) -> None:
            nonlocal loads
            loads += 1

        def variable(used: Any) -> None:
            nonlocal size
            size += sizes.get(used, 0)

        structural_walk(bind.value, [(Call, call), (TensorLoad, load), (Var, variable)])
        if loads:
            return  # keeps its name anyway
        if size > _LARGEST:
            large.add(bind.var)
        else:
            sizes[bind.var] = size

    structural_walk(body, (tirx.Bind, measure))
    return large


def _released(call: Any) -> Any:
    held = getattr(call.op, "name", "") == "tirx.call_extern" and getattr(call.args[0], "value", "") == _HELD
    return call.args[1] if held else call
