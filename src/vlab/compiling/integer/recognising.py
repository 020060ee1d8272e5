"""Find dequantise → operator → quantise in a Relax function and put integer kernels in its place."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
from tvm import relax

from vlab.compiling.integer.constants import QuantisedConstant, is_constant, value
from vlab.compiling.integer.cpus import cpu_of
from vlab.compiling.integer.fixed_point import NoMultiplierError, OverflowingError, activation_range
from vlab.compiling.integer.functions import function_of_one
from vlab.compiling.integer.graph import Graph, NoKernelError, Real, numbers, operator, shape_of
from vlab.compiling.integer.operators import HANDLERS, WITH_BIAS, looked_up, rescaled
from vlab.compiling.integer.rescaling import Codes
from vlab.records import Kernel
from vlab.targets import Target

_MOVING = ("reshape", "expand_dims", "squeeze", "flatten", "strided_slice", "nn.max_pool2d", "split", "take", "tile")
"""Operators that only move codes, or choose among them, and so are the same over codes as over the numbers."""


class ToIntegers:
    """A pass that replaces what is quantised by integer kernels for a target."""

    def __init__(self, target: Target) -> None:
        self.cpu = cpu_of(target)
        self.reasons: tuple[str, ...] = ()
        """For each operator that stays in float32 although it stands between codes, why."""
        self.origins: dict[str, str] = {}
        """Name of a new variable → that of the one it stands for."""

    def __call__(self, module: Any) -> Any:
        """The module with integer kernels."""
        module = relax.transform.CanonicalizeBindings()(module)
        main = module["main"]
        if not any(operator(one.value) in ("quantize", "dequantize") for one in _bindings(main)):
            return module
        kernels = {variable: function for variable, function in module.functions.items() if variable.name_hint != "main"}
        builder = relax.BlockBuilder(tvm.IRModule(kernels))
        graph = Graph(builder, self.cpu)
        reasons: list[str] = []
        with builder.function("main", list(main.params), attrs=_attributes(main)):
            with builder.dataflow():
                for binding in _bindings(main):
                    _take(graph, binding.var, binding.value, reasons)
                result = builder.emit_output(_renamed(graph, main.body.body))
            builder.emit_func_output(result)
        self.reasons = tuple(dict.fromkeys(reasons))
        self.origins = {
            new.name: old.name
            for old, renamed in graph.renamed.items()
            for new in (renamed, graph.turned.get(renamed, (renamed,))[0])
            if isinstance(new, relax.Var)
        }
        return relax.transform.DeadCodeElimination()(builder.finalize())

    def explained(self, report: Sequence[Kernel]) -> tuple[Kernel, ...]:
        """A report on kernels, with the reasons at those that compute in float32 between codes."""
        if not self.reasons:
            return tuple(report)
        told = f"in float32 between dequantise and quantise: {'; '.join(self.reasons)}"
        return tuple(
            kernel.model_copy(update={"reason": "; ".join(filter(None, [kernel.reason, told]))})
            if "quantize" in kernel.name.removesuffix("_quantize").removesuffix("_dequantize")
            else kernel
            for kernel in report
        )


def _bindings(main: Any) -> list[Any]:
    return [binding for block in main.body.blocks for binding in block.bindings]


def _attributes(main: Any) -> dict[str, Any]:
    return {key: main.attrs[key] for key in main.attrs.keys() if key != "global_symbol"} if main.attrs else {}  # noqa: SIM118


def _take(graph: Graph, variable: Any, expression: Any, reasons: list[str]) -> None:
    """Carry one binding over, and note what its variable stands for."""
    graph.bindings[variable] = expression
    name = operator(expression)
    quantise = expression if name == "quantize" else _clamped_quantise(graph, expression)
    if quantise is not None:
        try:
            codes = _quantised(graph, quantise, *([] if quantise is expression else _code_bounds(expression)))
        except (NoKernelError, NoMultiplierError, OverflowingError) as error:
            reasons.append(f"{_label(graph, quantise.args[0])}: {error}")
        else:
            if codes is not None:
                graph.define(variable, codes)
                return
    graph.renamed[variable] = graph.builder.emit(_renamed(graph, expression))
    try:
        if name == "dequantize":
            _dequantised(graph, variable, expression)
        elif name == "permute_dims":
            _turned(graph, variable, expression)
        elif name in _MOVING:
            _moved(graph, variable, expression)
    except NoKernelError as error:
        reasons.append(f"{name}: {error}")


def _renamed(graph: Graph, expression: Any) -> Any:
    """An expression over original variables as one over new ones."""
    kind = type(expression).__name__
    if expression in graph.renamed:
        return graph.renamed[expression]
    if kind == "Tuple":
        return relax.Tuple([_renamed(graph, one) for one in expression.fields])
    if kind == "TupleGetItem":
        return relax.TupleGetItem(_renamed(graph, expression.tuple_value), expression.index)
    if kind == "Call":
        arguments = [_renamed(graph, one) for one in expression.args]
        return tvm.ir.Call(expression.op, arguments, expression.attrs, expression.ty_args)
    return expression


def _dequantised(graph: Graph, variable: Any, call: Any) -> None:
    scale, zero_point = value(call.args[1]), value(call.args[2])
    if scale is None or zero_point is None:
        raise NoKernelError("a scale is computed while the model runs")
    codes = value(call.args[0])
    axis = int(call.attrs.axis)
    if codes is not None:
        graph.constants[variable] = QuantisedConstant.of(codes, scale, zero_point, axis)
    elif call.args[0] in graph.constants:  # codes that were turned or reshaped on their way
        moved = graph.constants[call.args[0]]
        graph.constants[variable] = QuantisedConstant.of(moved.codes, scale, zero_point, axis)
    else:
        graph.reals[variable] = Real(graph.as_int8(call.args[0]), _meaning(scale, zero_point, str(call.args[0].ty.dtype)))


def _meaning(scale: Any, zero_point: Any, dtype: str) -> Codes:
    if scale.size != 1 or zero_point.size != 1:
        raise NoKernelError("activations have a scale for each channel")
    below = 128 if dtype == "uint8" else 0
    return Codes(float(scale.ravel()[0]), int(zero_point.ravel()[0]) - below)


def _turned(graph: Graph, variable: Any, call: Any) -> None:
    source = call.args[0]
    rank = len(shape_of(variable))
    axes = numbers(call.attrs.axes) if call.attrs.axes is not None else tuple(reversed(range(rank)))
    axes = tuple(axis % rank for axis in axes)
    if source in graph.reals:
        real = graph.reals[source]
        graph.reals[variable] = replace(real, codes=graph.turn(real.codes, axes))
    elif _constant(graph, source) is not None:
        graph.constants[variable] = _known(graph, source).transposed(axes)


def _moved(graph: Graph, variable: Any, call: Any) -> None:
    source = call.args[0]
    if source in graph.reals:
        real = graph.reals[source]
        arguments = [real.codes, *(_renamed(graph, one) for one in call.args[1:])]
        graph.reals[variable] = replace(
            real, codes=graph.builder.emit(tvm.ir.Call(call.op, arguments, call.attrs, call.ty_args))
        )
    elif source in graph.codes:
        arguments = [graph.codes[source], *(_renamed(graph, one) for one in call.args[1:])]
        graph.codes[variable] = graph.builder.emit(tvm.ir.Call(call.op, arguments, call.attrs, call.ty_args))
    elif _constant(graph, source) is not None and operator(call) in ("reshape", "expand_dims", "squeeze", "flatten"):
        graph.constants[variable] = _known(graph, source).reshaped(shape_of(variable))


def _constant(graph: Graph, expression: Any) -> Any:
    return expression if expression in graph.constants or is_constant(expression) else None


def _known(graph: Graph, expression: Any) -> QuantisedConstant:
    """A constant; a plain one as codes of scale 1, which is what it is before it is dequantised."""
    if expression in graph.constants:
        return graph.constants[expression]
    array = value(expression)
    if array is None or array.dtype.kind not in "iu":
        raise NoKernelError("a constant is not quantised")
    return QuantisedConstant.of(array, np.ones(1), np.zeros(1), 0)


def _clamped_quantise(graph: Graph, call: Any) -> Any:
    """The quantise whose codes a clip clamps; None of anything else."""
    if operator(call) != "clip" or str(call.ty.dtype) not in ("int8", "uint8"):
        return None
    quantise = graph.bindings.get(call.args[0])
    return quantise if operator(quantise) == "quantize" else None


def _code_bounds(call: Any) -> tuple[int, int]:
    """Of a clip over codes, as int8."""
    below = 128 if str(call.ty.dtype) == "uint8" else 0
    low, high = (int(float(bound.value)) - below for bound in call.args[1:])
    return low, high


def _quantised(graph: Graph, call: Any, lowest: int = -128, highest: int = 127) -> Any:
    """The int8 codes of a quantise by an integer kernel, clamped; None if its operand does not come from codes."""
    scale, zero_point, dtype = value(call.args[1]), value(call.args[2]), str(call.attrs.out_dtype)
    if not _from_codes(graph, call.args[0]):
        return None
    if dtype not in ("int8", "uint8"):
        raise NoKernelError(f"the output is {dtype}")
    if scale is None or zero_point is None:
        raise NoKernelError("a scale is computed while the model runs")
    meaning = _meaning(scale, zero_point, dtype)
    expression, low, high, axes = _without_activations(graph, call.args[0])
    clamped = activation_range(meaning.scale, meaning.zero_point, low, high, np.int8)
    output = replace(meaning, low=max(clamped[0], lowest), high=min(clamped[1], highest))
    codes = _operator(graph, expression, output)
    return graph.turn(codes, axes) if axes else codes


def _without_activations(graph: Graph, expression: Any) -> tuple[Any, float, float, tuple[int, ...] | None]:
    """What is below activations and changes of layout: the bounds that they set, and the order of axes."""
    low, high = -math.inf, math.inf
    axes: tuple[int, ...] | None = None
    while expression not in graph.reals:
        call: Any = graph.bindings.get(expression)
        name = operator(call)
        if name == "nn.relu":
            bounds = (0.0, math.inf)
        elif name == "clip":
            bounds = (float(call.args[1].value), float(call.args[2].value))
        elif name == "nn.relu6":
            bounds = (0.0, 6.0)
        elif name == "permute_dims" and call.attrs.axes is not None:
            inner = tuple(axis % len(shape_of(expression)) for axis in numbers(call.attrs.axes))
            axes = inner if axes is None else tuple(inner[axis] for axis in axes)
            expression = call.args[0]
            continue
        else:
            break
        low, high = max(low, bounds[0]), min(high, bounds[1])
        expression = call.args[0]
    return expression, low, high, axes


def _operator(graph: Graph, expression: Any, output: Codes) -> Any:
    if expression in graph.reals:
        return rescaled(graph, graph.reals[expression], output)
    found = function_of_one(graph, expression)
    if found is not None:
        return looked_up(graph, *found, output)
    call: Any = graph.bindings.get(expression)
    name = operator(call)
    if name == "add":
        for product, bias in (call.args, tuple(reversed(call.args))):
            inner: Any = graph.bindings.get(product)
            if operator(inner) in WITH_BIAS and (bias in graph.constants or is_constant(bias)):
                return WITH_BIAS[operator(inner)](graph, inner, output, bias)
    if name not in HANDLERS:
        raise NoKernelError("there is no integer kernel for it")
    return HANDLERS[name](graph, call, output)


def _from_codes(graph: Graph, expression: Any) -> bool:
    """Whether a real tensor is computed, directly or not, from codes."""
    waiting, seen = [expression], set()
    while waiting:
        one = waiting.pop()
        if one in graph.reals:
            return True
        call: Any = graph.bindings.get(one)
        if call is None or one in seen or operator(call) == "quantize":
            continue
        seen.add(one)
        waiting += [argument for argument in _operands(call) if argument not in graph.constants]
    return False


def _operands(call: Any) -> list[Any]:
    fields = [list(one.fields) if type(one).__name__ == "Tuple" else [one] for one in getattr(call, "args", ())]
    inner = [call.tuple_value] if type(call).__name__ == "TupleGetItem" else []
    return [one for group in fields for one in group] + inner


def _label(graph: Graph, expression: Any) -> str:
    expression, _, _, _ = _without_activations(graph, expression)
    return operator(graph.bindings.get(expression)) or "quantize"
