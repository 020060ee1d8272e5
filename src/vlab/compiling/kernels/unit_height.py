"""Convolution and pooling over one axis as the same over images of unit height, so that everything made for images applies."""

from typing import Any

from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from vlab.compiling.expressions import bindings, constant, operator, shape
from vlab.compiling.kernels.rewriting import Definitions, rewrite

_RANK = 3
"""Of batch, channels and one axis."""
_HEIGHT = 2
"""Axis of the height in NCHW data, and in OIHW and IOHW weights."""


def widen(module: Any) -> Any:
    """Give the convolutions and poolings over one axis in the main function of a Relax module a height of 1.

    Each gets the axis with its data and loses it with its result: `join` removes both where the next one needs it again.
    """
    if not any(operator(binding.value) in _WIDENED for binding in bindings(module["main"])):
        return module

    def rule(binding: Any, _definitions: Definitions, _builder: Any) -> Any:
        wide = _WIDENED.get(operator(binding.value))
        return None if wide is None else relax.op.squeeze(wide(binding.value), [_HEIGHT])

    return rewrite(module, rule)


def join(module: Any) -> Any:
    """Keep the height between the operators that `widen` gave one: what is elementwise between them is computed with it."""
    main = module["main"]
    if not any(operator(binding.value) == "relax.squeeze" for binding in bindings(main)):
        return module
    joiner = _Joiner(module)
    joiner.builder_.update_func(module.get_global_var("main"), joiner.visit_expr(main))
    return joiner.builder_.finalize()


@mutator
class _Joiner(PyExprMutator):  # type: ignore[misc]
    """Moves the loss of a height behind elementwise operators, up to where the height is wanted again."""

    def visit_call_(self, call: Any) -> Any:
        """The same value from an operator over images, where one of its operands was an image."""
        call = self.visit_expr_post_order(call)
        if operator(call) == "relax.expand_dims" and [int(axis) for axis in call.attrs.axis] == [_HEIGHT]:
            whole = self._image(call.args[0])
            return call if whole is None else whole
        if operator(call) not in _ELEMENTWISE or not all(map(_over_one_axis, call.args)):
            return call
        if all(self._image(argument) is None for argument in call.args):
            return call
        arguments = [self._lifted(argument) for argument in call.args]
        return relax.op.squeeze(self.builder_.emit(relax.Call(call.op, arguments, call.attrs, call.ty_args)), [_HEIGHT])

    def _image(self, value: Any) -> Any:
        """The value before it lost its height, or None where it had none."""
        bound: Any = self.lookup_binding(value) if isinstance(value, relax.Var) else None
        return bound.args[0] if operator(bound) == "relax.squeeze" and _loses_height(bound) else None

    def _lifted(self, argument: Any) -> Any:
        """An operand with a height."""
        whole, values = self._image(argument), constant(argument)
        if whole is not None:
            return whole
        if values is None:
            return self.builder_.emit(_image(argument)) if isinstance(argument, relax.Var) else argument
        return relax.const(values.reshape((1,) * (_RANK - values.ndim) + values.shape)[:, :, None], str(values.dtype))


def _loses_height(squeeze: Any) -> bool:
    axes = squeeze.attrs.axis
    return axes is not None and [int(axis) for axis in axes] == [_HEIGHT] and len(shape(squeeze.args[0])) == _RANK + 1


def _over_one_axis(argument: Any) -> bool:
    """Whether an operand can get a height; a constant always can, and a number needs none."""
    return not isinstance(argument, relax.Var) or len(shape(argument)) == _RANK


def _image(value: Any) -> Any:
    return relax.op.expand_dims(value, [_HEIGHT])


def _pair(extents: Any, above: int) -> tuple[int, int]:
    return above, int(extents[0])


def _padding(call: Any) -> tuple[int, int, int, int]:
    before, after = (int(extent) for extent in call.attrs.padding)
    return 0, before, 0, after


def _conv(call: Any) -> Any:
    data, weights = (_image(argument) for argument in call.args)
    attributes = call.attrs
    return relax.op.nn.conv2d(
        data,
        weights,
        strides=_pair(attributes.strides, 1),
        padding=_padding(call),
        dilation=_pair(attributes.dilation, 1),
        groups=int(attributes.groups),
    )


def _conv_transpose(call: Any) -> Any:
    data, weights = (_image(argument) for argument in call.args)
    attributes = call.attrs
    return relax.op.nn.conv2d_transpose(
        data,
        weights,
        strides=_pair(attributes.strides, 1),
        padding=_padding(call),
        output_padding=_pair(attributes.output_padding, 0),
        dilation=_pair(attributes.dilation, 1),
        groups=int(attributes.groups),
    )


def _pool(call: Any) -> Any:
    attributes = call.attrs
    pool = relax.op.nn.max_pool2d if call.op.name == "relax.nn.max_pool1d" else relax.op.nn.avg_pool2d
    return pool(
        _image(call.args[0]),
        pool_size=_pair(attributes.pool_size, 1),
        strides=_pair(attributes.strides, 1),
        padding=_padding(call),
        dilation=_pair(attributes.dilation, 1),
        ceil_mode=bool(attributes.ceil_mode),
        count_include_pad=bool(attributes.count_include_pad),
    )


_ELEMENTWISE = {
    f"relax.{name}"
    for name in (
        *("abs", "ceil", "clip", "cos", "erf", "exp", "floor", "log", "negative", "round", "rsqrt", "sigmoid", "sign", "sin"),
        *("sqrt", "square", "tanh", "nn.gelu", "nn.gelu_tanh", "nn.leakyrelu", "nn.relu", "nn.selu", "nn.silu", "nn.softplus"),
        *("add", "divide", "maximum", "minimum", "multiply", "power", "subtract"),
    )
}
"""Operators that compute each value by itself, and so do not mind another axis."""

_WIDENED = {
    "relax.nn.conv1d": _conv,
    "relax.nn.conv1d_transpose": _conv_transpose,
    "relax.nn.max_pool1d": _pool,
    "relax.nn.avg_pool1d": _pool,
}
"""What becomes of an operator over NCW data."""
