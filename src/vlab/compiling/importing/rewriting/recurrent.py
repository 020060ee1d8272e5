"""LSTM, GRU and RNN, unrolled over a sequence of fixed length.

Equations, gate order and defaults: ONNX Operators, LSTM, GRU and RNN (versions 7 to 22). The products of all inputs with the
input weights are one matrix product before the steps; each step multiplies the hidden state alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlab.compiling.importing.rewriting.node import FormError, Node
from vlab.compiling.importing.rewriting.rules import Emitter, rewrites

_MOST_STEPS = 1024

_Activation = Callable[[str], str]


@dataclass(frozen=True)
class _Direction:
    """Weights of one direction, without the axis that numbers directions, and its activations."""

    inputs: str
    """[input size, gates × hidden size]"""
    hidden: str
    """[hidden size, gates × hidden size]"""
    input_bias: str
    hidden_bias: str
    """Both [gates × hidden size]; empty for none."""
    peepholes: list[str]
    """Of input, output and forget gate, each [hidden size]."""
    activations: list[_Activation]
    first_hidden: str
    first_cell: str
    """Both [batch, hidden size]; empty for zeros."""
    backwards: bool


@dataclass(frozen=True)
class _Steps:
    """What every step of a layer needs."""

    emit: Emitter
    node: Node
    hidden_size: int
    lengths: str
    """[batch, 1]; empty where every sequence has full length."""


@rewrites("LSTM")
def _lstm(node: Node, emit: Emitter) -> list[str]:
    return _layer(node, emit, 4, ["Sigmoid", "Tanh", "Tanh"], _lstm_step)


@rewrites("GRU")
def _gru(node: Node, emit: Emitter) -> list[str]:
    return _layer(node, emit, 3, ["Sigmoid", "Tanh"], _gru_step)


@rewrites("RNN")
def _rnn(node: Node, emit: Emitter) -> list[str]:
    return _layer(node, emit, 1, ["Tanh"], _rnn_step)


_Step = Callable[[_Steps, _Direction, str, str, str], tuple[str, str]]
"""Of the projected input [batch, gates × hidden size], the hidden and the cell state; gives the next states."""


def _layer(node: Node, emit: Emitter, gates: int, defaults: list[str], step: _Step) -> list[str]:
    graph = emit.graph
    x, layout = node.input(0), node.get("layout", 0)
    if layout:
        x = emit("Transpose", x, perm=[1, 0, 2])
    length, batch, _ = graph.shape(x)
    count, _, hidden_size = graph.shape(node.input(2))
    if length > _MOST_STEPS:
        raise FormError(f"its sequence has {length} steps; expected at most {_MOST_STEPS}, so cut it into pieces")
    way = node.get("direction", "forward")
    lengths = ""
    if node.input(4) and not _all_full(node, emit, length):
        lengths = emit("Reshape", node.input(4), [batch, 1])
    steps = _Steps(emit, node, hidden_size, lengths)

    sequences, hiddens, cells = [], [], []
    for number in range(count):
        direction = _direction(node, emit, number, gates, defaults, backwards=way == "reverse" or number == 1)
        outputs, hidden, cell = _run(steps, direction, x, gates, step)
        sequences.append(_stacked(outputs, emit))
        hiddens.append(emit("Unsqueeze", hidden, [0]))
        cells.append(emit("Unsqueeze", cell, [0]))
    y = emit("Concat", *(emit("Unsqueeze", one, [1]) for one in sequences), axis=1)
    results = [y, emit("Concat", *hiddens, axis=0), emit("Concat", *cells, axis=0)]
    if layout:
        results = [emit("Transpose", y, perm=[2, 0, 1, 3]), *(emit("Transpose", one, perm=[1, 0, 2]) for one in results[1:])]
    return results[: len(node.wanted)]


def _all_full(node: Node, emit: Emitter, length: int) -> bool:
    lengths = emit.graph.known(node.input(4))
    return lengths is not None and bool((lengths == length).all())


def _direction(node: Node, emit: Emitter, number: int, gates: int, defaults: list[str], *, backwards: bool) -> _Direction:
    def of(place: int) -> str:
        name = node.input(place)
        return emit("Squeeze", emit("Slice", name, [number], [number + 1], [0]), [0]) if name else ""

    def state(place: int) -> str:
        name = node.input(place)
        if not name:
            return ""
        axis = 1 if node.get("layout", 0) else 0
        return emit("Squeeze", emit("Slice", name, [number], [number + 1], [axis]), [axis])

    hidden_size = emit.graph.shape(node.input(2))[2]
    input_bias = hidden_bias = ""
    if node.input(3):
        input_bias, hidden_bias = emit.several(2, "Split", of(3), axis=0, num_outputs=2)
    lstm = node.operator == "LSTM"
    peepholes = emit.several(3, "Split", of(7), axis=0, num_outputs=3) if lstm and node.input(7) else []
    inputs, hidden = (emit("Transpose", of(place), perm=[1, 0]) for place in (1, 2))
    if emit.graph.shape(hidden) != (hidden_size, gates * hidden_size):
        raise FormError(f"its recurrent weights are {list(emit.graph.shape(hidden))[::-1]} for hidden size {hidden_size}")
    activations = _activations(node, emit, number, defaults)
    cell = state(6) if lstm else ""
    return _Direction(inputs, hidden, input_bias, hidden_bias, peepholes, activations, state(5), cell, backwards)


def _run(steps: _Steps, direction: _Direction, x: str, gates: int, step: _Step) -> tuple[list[str], str, str]:
    """Outputs in the order of the sequence, and the last states."""
    emit, hidden_size = steps.emit, steps.hidden_size
    length, batch, size = emit.graph.shape(x)
    flat = emit("MatMul", emit("Reshape", x, [length * batch, size]), direction.inputs)
    if direction.input_bias:
        flat = emit("Add", flat, direction.input_bias)
    projected = emit("Reshape", flat, [length, batch, gates * hidden_size])
    slices = emit.several(length, "Split", projected, axis=0, num_outputs=length) if length > 1 else [projected]
    zero = emit.graph.constant(np.zeros((batch, hidden_size), emit.graph.dtype(x)))
    hidden, cell = direction.first_hidden or zero, direction.first_cell or zero
    outputs = [""] * length
    for time in reversed(range(length)) if direction.backwards else range(length):
        now = emit("Reshape", slices[time], [batch, gates * hidden_size])
        new_hidden, new_cell = step(steps, direction, now, hidden, cell)
        outputs[time] = new_hidden
        if steps.lengths:  # a sequence that has ended keeps its states and gives zeros
            runs = emit("Less", np.asarray([[time]], emit.graph.dtype(steps.lengths)), steps.lengths)
            outputs[time] = emit("Where", runs, new_hidden, zero)
            new_hidden, new_cell = emit("Where", runs, new_hidden, hidden), emit("Where", runs, new_cell, cell)
        hidden, cell = new_hidden, new_cell
    return outputs, hidden, cell


def _lstm_step(steps: _Steps, direction: _Direction, x: str, hidden: str, cell: str) -> tuple[str, str]:
    emit = steps.emit
    f, g, h = direction.activations
    gates = emit("Add", x, _recurrent(emit, direction, hidden))
    i_, o_, f_, c_ = emit.several(4, "Split", gates, axis=1, num_outputs=4)
    if direction.peepholes:
        i_ = emit("Add", i_, emit("Mul", direction.peepholes[0], cell))
        f_ = emit("Add", f_, emit("Mul", direction.peepholes[2], cell))
    entry = f(_clipped(steps, i_))
    kept = emit("Sub", emit.like(1, entry), entry) if steps.node.get("input_forget", 0) else f(_clipped(steps, f_))
    new_cell = emit("Add", emit("Mul", kept, cell), emit("Mul", entry, g(_clipped(steps, c_))))
    if direction.peepholes:
        o_ = emit("Add", o_, emit("Mul", direction.peepholes[1], new_cell))
    return emit("Mul", f(_clipped(steps, o_)), h(new_cell)), new_cell


def _gru_step(steps: _Steps, direction: _Direction, x: str, hidden: str, cell: str) -> tuple[str, str]:
    emit, size = steps.emit, steps.hidden_size
    f, g = direction.activations
    x_zr, x_h = emit.several(2, "Split", x, [2 * size, size], axis=1)
    if steps.node.get("linear_before_reset", 0):
        zr, candidate = emit.several(2, "Split", _recurrent(emit, direction, hidden), [2 * size, size], axis=1)
        z, r = _gates(steps, x_zr, zr, f)
        candidate = emit("Mul", r, candidate)
    else:
        weights_zr, weights_h = emit.several(2, "Split", direction.hidden, [2 * size, size], axis=1)
        zr, bias_h = emit("MatMul", hidden, weights_zr), ""
        if direction.hidden_bias:
            bias_zr, bias_h = emit.several(2, "Split", direction.hidden_bias, [2 * size, size], axis=0)
            zr = emit("Add", zr, bias_zr)
        z, r = _gates(steps, x_zr, zr, f)
        candidate = emit("MatMul", emit("Mul", r, hidden), weights_h)
        candidate = emit("Add", candidate, bias_h) if bias_h else candidate
    candidate = g(_clipped(steps, emit("Add", x_h, candidate)))
    fresh = emit("Mul", emit("Sub", emit.like(1, z), z), candidate)
    return emit("Add", fresh, emit("Mul", z, hidden)), cell


def _gates(steps: _Steps, x: str, hidden: str, f: _Activation) -> list[str]:
    """Update and reset gate."""
    both = f(_clipped(steps, steps.emit("Add", x, hidden)))
    return steps.emit.several(2, "Split", both, axis=1, num_outputs=2)


def _rnn_step(steps: _Steps, direction: _Direction, x: str, hidden: str, cell: str) -> tuple[str, str]:
    (f,) = direction.activations
    return f(_clipped(steps, steps.emit("Add", x, _recurrent(steps.emit, direction, hidden)))), cell


def _recurrent(emit: Emitter, direction: _Direction, hidden: str) -> str:
    product = emit("MatMul", hidden, direction.hidden)
    return emit("Add", product, direction.hidden_bias) if direction.hidden_bias else product


def _clipped(steps: _Steps, x: str) -> str:
    bound = steps.node.get("clip", 0.0)
    return steps.emit("Clip", x, steps.emit.like(-bound, x), steps.emit.like(bound, x)) if bound else x


def _stacked(values: list[str], emit: Emitter) -> str:
    return emit("Concat", *(emit("Unsqueeze", value, [0]) for value in values), axis=0)


_DEFAULTS = {"LeakyRelu": (0.01, 0.0), "ThresholdedRelu": (1.0, 0.0), "ScaledTanh": (1.0, 1.0), "HardSigmoid": (0.2, 0.5),
             "Elu": (1.0, 0.0), "Affine": (1.0, 0.0)}  # fmt: skip
"""alpha and beta of the activations that have them."""
_TAKES = {"LeakyRelu": "alpha", "ThresholdedRelu": "alpha", "HardSigmoid": "alpha beta", "Elu": "alpha"}
"""Attributes of the operators of the same name."""
_PLAIN = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")


def _activations(node: Node, emit: Emitter, number: int, defaults: list[str]) -> list[_Activation]:
    """The activations of a direction; alpha and beta are given out in order to those that have them."""
    names = node.get("activations", []) or defaults * emit.graph.shape(node.input(2))[0]
    alphas, betas = list(node.get("activation_alpha", [])), list(node.get("activation_beta", []))
    made = []
    for name in names:
        canonical = next((known for known in [*_PLAIN, *_DEFAULTS] if known.lower() == name.lower()), None)
        if canonical is None:
            raise FormError(f"activation {name} is none of {', '.join([*_PLAIN, *_DEFAULTS])}")
        alpha, beta = _DEFAULTS.get(canonical, (0.0, 0.0))
        if canonical in _DEFAULTS:
            alpha = alphas.pop(0) if alphas else alpha
            if canonical in ("ScaledTanh", "HardSigmoid", "Affine"):
                beta = betas.pop(0) if betas else beta
        made.append(_activation(canonical, alpha, beta, emit))
    return made[number * len(defaults) : (number + 1) * len(defaults)]


def _activation(name: str, alpha: float, beta: float, emit: Emitter) -> _Activation:
    def scaled(x: str) -> str:
        return emit("Add", emit("Mul", x, emit.like(alpha, x)), emit.like(beta, x))

    def scaled_tanh(x: str) -> str:
        return emit("Mul", emit("Tanh", emit("Mul", x, emit.like(beta, x))), emit.like(alpha, x))

    def operator(x: str) -> str:
        values: dict[str, Any] = {"alpha": alpha, "beta": beta}
        return emit(name, x, **{key: values[key] for key in _TAKES.get(name, "").split()})

    return {"Affine": scaled, "ScaledTanh": scaled_tanh}.get(name, operator)
