"""Control flow that becomes a flat graph: branches, and loops whose number of iterations is constant."""

from collections.abc import Callable, Iterable

import numpy as np
import onnx

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter
from vlab.compiling.importing.rewriting.scope import Scope

Walk = Callable[[Iterable[onnx.NodeProto], Scope], None]
Control = Callable[[Node, Scope, Emitter, Walk], list[str]]

_MOST_ITERATIONS = 1024


def _branch(node: Node, scope: Scope, emit: Emitter, walk: Walk) -> list[str]:
    """The branch that is taken; both where that is known only while the model runs, for nodes have no side effects."""
    condition = emit.graph.known(node.input(0))
    if condition is not None:
        return _run(node.graph("then_branch" if condition.item() else "else_branch"), [], scope, emit, walk)
    sides = [_run(node.graph(name), [], scope, emit, walk) for name in ("then_branch", "else_branch")]
    scalar = emit("Reshape", node.input(0), [])
    chosen = []
    for then, other in zip(*sides, strict=True):
        if emit.graph.shape(then) != emit.graph.shape(other):
            raise FormError("its branches give different shapes, and its condition is computed while the model runs")
        chosen.append(emit("Where", scalar, then, other))
    return chosen


def _loop(node: Node, scope: Scope, emit: Emitter, walk: Walk) -> list[str]:
    """The iterations one after the other (inputs are trip count, condition and carried values)."""
    trips = emit.graph.known(node.input(0)) if node.input(0) else np.asarray(np.iinfo(np.int64).max)
    if trips is None:
        raise FormError("its number of iterations is computed while the model runs")
    body = node.graph("body")
    carried, scanned = node.inputs[2:], [list[str]() for _ in body.output[len(node.inputs[2:]) + 1 :]]
    condition = node.input(1) or emit.graph.constant(np.asarray(True))
    iteration = 0
    while iteration < trips.item():
        goes_on = emit.graph.known(condition)
        if goes_on is None:
            raise FormError("its condition is computed while the model runs")
        if not goes_on.item():
            break
        if iteration == _MOST_ITERATIONS:
            raise FormError(f"it iterates more than {_MOST_ITERATIONS} times; export a shorter one")
        given = [emit.graph.constant(np.asarray(iteration, np.int64)), condition, *carried]
        condition, *rest = _run(body, given, scope, emit, walk)
        carried, found = rest[: len(carried)], rest[len(carried) :]
        for list_, value in zip(scanned, found, strict=True):
            list_.append(value)
        iteration += 1
    return [*carried, *(_stack(values, 0, emit) for values in scanned)][: len(node.wanted)]


def _scan(node: Node, scope: Scope, emit: Emitter, walk: Walk) -> list[str]:
    """The elements of the scanned inputs one after the other (ONNX Operators, Scan, since version 9)."""
    if node.version < 9:
        raise FormError("version 8 of it has a batch axis of its own; export with operator set 9 or newer")
    body = node.graph("body")
    count = int(node.get("num_scan_inputs", 0))
    states, sources = node.inputs[:-count], node.inputs[-count:]
    outputs = len(body.output) - len(states)
    in_axes = [
        axis % len(emit.graph.shape(name)) for axis, name in zip(node.get("scan_input_axes", [0] * count), sources, strict=True)
    ]
    in_backwards = node.get("scan_input_directions", [0] * count)
    out_axes, out_backwards = node.get("scan_output_axes", [0] * outputs), node.get("scan_output_directions", [0] * outputs)
    length = emit.graph.shape(sources[0])[in_axes[0]]
    if length > _MOST_ITERATIONS:
        raise FormError(f"it iterates more than {_MOST_ITERATIONS} times; export a shorter one")
    scanned: list[list[str]] = [[] for _ in range(outputs)]
    for iteration in range(length):
        places = [length - 1 - iteration if backwards else iteration for backwards in in_backwards]
        slices = [_element(*one, emit) for one in zip(sources, in_axes, places, strict=True)]
        results = _run(body, [*states, *slices], scope, emit, walk)
        states = results[: len(states)]
        for list_, value in zip(scanned, results[len(states) :], strict=True):
            list_.append(value)
    ordered = [values[::-1] if backwards else values for values, backwards in zip(scanned, out_backwards, strict=True)]
    stacked = [_stack(values, axis, emit) for values, axis in zip(ordered, out_axes, strict=True)]
    return [*states, *stacked][: len(node.wanted)]


CONTROL: dict[tuple[str, str], Control] = {("", "If"): _branch, ("", "Loop"): _loop, ("", "Scan"): _scan}
"""Domain and operator → what runs it at import."""


def _run(body: onnx.GraphProto, given: list[str], scope: Scope, emit: Emitter, walk: Walk) -> list[str]:
    names = {about.name: name for about, name in zip(body.input, given, strict=True)}
    names |= {tensor.name: emit.graph.constant(tensor) for tensor in body.initializer}
    inner = scope.inner(names)
    walk(body.node, inner)
    return [inner.names[output.name] for output in body.output]


def _element(name: str, axis: int, place: int, emit: Emitter) -> str:
    return emit("Squeeze", emit("Slice", name, [place], [place + 1], [axis]), [axis])


def _stack(values: list[str], axis: int, emit: Emitter) -> str:
    if not values:
        raise FormError("it has no iterations, so a scanned output has no elements; drop that output")
    rank = len(emit.graph.shape(values[0])) + 1
    return emit("Concat", *(emit("Unsqueeze", value, [axis % rank]) for value in values), axis=axis % rank)
