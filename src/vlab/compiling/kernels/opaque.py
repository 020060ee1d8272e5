"""Kernels that TVM writes as whole loop nests (scatter), in the form that pointers without a runtime can take."""

from typing import Any

import tvm
from tvm import tirx
from tvm_ffi import structural_map


def plain_kernels(module: Any) -> Any:
    """The module with every kernel's buffers beginning at their pointers, and without parallel loops.

    TVM leaves both to its packed calling convention and its thread pool, which are not on the board.
    """
    functions = {variable: _plain(function) for variable, function in module.functions.items()}
    return tvm.IRModule(functions, attrs=module.attrs)


def _plain(function: Any) -> Any:
    if not isinstance(function, tirx.PrimFunc):
        return function
    shifted = [buffer for buffer in function.params if isinstance(getattr(buffer, "elem_offset", None), tirx.Var)]
    if shifted:
        function = function.specialize({one: tirx.decl_buffer(one.shape, one.dtype, one.name) for one in shifted})
    return function.with_body(structural_map(function.body, (tirx.For, _serial)))


def _serial(loop: Any) -> Any:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body, loop.thread_binding, loop.annotations)
