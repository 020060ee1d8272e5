"""Kernels that TVM writes as whole loop nests (scatter), in the form that pointers without a runtime can take."""

from typing import Any

import tvm
from tvm import tirx


def plain_kernels(module: Any) -> Any:
    """The module with every kernel's buffers beginning at their pointers, which TVM leaves to its packed calling convention."""
    functions = {variable: _plain(function) for variable, function in module.functions.items()}
    return tvm.IRModule(functions, attrs=module.attrs)


def _plain(function: Any) -> Any:
    if not isinstance(function, tirx.PrimFunc):
        return function
    shifted = [buffer for buffer in function.params if isinstance(getattr(buffer, "elem_offset", None), tirx.Var)]
    if shifted:
        function = function.specialize({one: tirx.decl_buffer(one.shape, one.dtype, one.name) for one in shifted})
    return function
