"""Constants computed by numpy, where TVM's own folding compiles and runs a function for each; and shaped for their use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst
from tvm.ir.expr import TensorLoad
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm_ffi import structural_walk

from vlab.datasets import Array

_ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "relax.add": np.add,
    "relax.subtract": np.subtract,
    "relax.multiply": np.multiply,
    "relax.divide": np.divide,
    "relax.maximum": np.maximum,
    "relax.minimum": np.minimum,
}
"""Operators of two tensors that broadcast."""

_COMPUTED: dict[str, Callable[..., Array]] = {**_ELEMENTWISE, "relax.isnan": np.isnan, "relax.where": np.where}
"""Exact or rounded once, so that numpy and the board agree to the bit."""

_SAME_VALUES = {"relax.reshape", "relax.expand_dims", "relax.squeeze", "relax.flatten"}

_LOOPS: dict[str, Callable[..., Any]] = {"Max": relax.op.maximum, "Min": relax.op.minimum}
"""Relax's operator for an expression of two loads."""


def fold_constants(module: Any) -> Any:
    """Replace what depends on constants alone by constants, and give constants the rank of what they are combined with.

    The second lets a change of layout go through: TVM does not carry it through an operator over tensors of different rank.
    """
    main = module["main"]
    folder = _Folder(module)
    folder.builder_.update_func(module.get_global_var("main"), folder.visit_expr(main))
    return folder.builder_.finalize()


@mutator
class _Folder(PyExprMutator):  # type: ignore[misc]
    """A pass over the main function."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self._module = module

    def visit_call_(self, call: Any) -> Any:
        """Fold a call, or unify the ranks of its arguments."""
        ty = call.ty
        call = self.visit_expr_post_order(call)
        arrays = [self._constant(argument) for argument in call.args]
        value = _evaluated(call, ty, arrays)
        if value is not None and str(value.dtype) == str(ty.dtype):
            return relax.const(np.asarray(value, order="C"), str(value.dtype))
        name = getattr(call.op, "name", "")
        if name == "relax.call_tir":
            return self._operator(call, ty)
        if name in _ELEMENTWISE:
            return relax.Call(call.op, self._of_one_rank(call.args), call.attrs)
        return call

    def _of_one_rank(self, arguments: Any) -> list[Any]:
        """Operands of which none that is constant has fewer axes than the other."""
        ranks = [len(argument.ty.shape) if argument.ty.shape is not None else 0 for argument in arguments]
        arrays = [self._constant(argument) for argument in arguments]
        return [
            argument
            if array is None or rank >= max(ranks)
            else relax.const(array.reshape((1,) * (max(ranks) - rank) + array.shape), str(array.dtype))
            for argument, array, rank in zip(arguments, arrays, ranks, strict=True)
        ]

    def _operator(self, call: Any, ty: Any) -> Any:
        """A call of loops that are one elementwise operator on tensors of one shape or a scalar, as that operator.

        The importer writes Clip as loops, through which no change of layout goes.
        """
        function, arguments = self._module[call.args[0]], list(call.args[1])
        stores: list[Any] = []
        structural_walk(function.body, (tirx.BufferStore, stores.append))
        operator = _LOOPS.get(type(stores[0].value).__name__) if len(stores) == 1 and len(arguments) == 2 else None
        if operator is None:
            return call
        loads = [stores[0].value.a, stores[0].value.b]
        whole = [_shape(argument.ty) == _shape(ty) or _shape(argument.ty) == [] for argument in arguments]
        reads = all(
            isinstance(load, TensorLoad)
            and load.source.same_as(parameter)
            and (
                len(load.indices) == 0
                or all(one.same_as(other) for one, other in zip(load.indices, stores[0].indices, strict=True))
            )
            for load, parameter in zip(loads, function.params, strict=False)
        )
        return operator(*self._of_one_rank(arguments)) if all(whole) and reads else call

    def _constant(self, argument: Any) -> Array | None:
        if isinstance(argument, relax.Var):
            argument = self.lookup_binding(argument)
        if not isinstance(argument, GenericConst) or not isinstance(argument.value, tvm.runtime.Tensor):
            return None
        return argument.value.numpy()  # type: ignore[no-any-return]


def _evaluated(call: Any, ty: Any, arrays: list[Array | None]) -> Array | None:
    """What a call of constants gives; None for an operator that is not computed here, or where something is not constant."""
    name = getattr(call.op, "name", "")
    if not arrays or arrays[0] is None:
        return None
    if name in _SAME_VALUES:
        return arrays[0].reshape(_shape(ty))
    if any(array is None for array in arrays):
        return None
    if name == "relax.permute_dims":
        axes = call.attrs.axes
        return arrays[0].transpose(None if axes is None else [int(axis) for axis in axes])
    return _COMPUTED[name](*arrays) if name in _COMPUTED else None


def _shape(ty: Any) -> list[int]:
    return [int(extent) for extent in ty.shape]
