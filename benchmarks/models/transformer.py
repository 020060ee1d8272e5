"""The encoder of BERT (Devlin et al., 2019) in the size of MiniLM-L6: 6 layers, sequence 64, hidden 384, 12 heads.

Written as PyTorch exports the encoder of Hugging Face's `modeling_bert.py` below opset 17, which is how most published ONNX
files of such models look and the harder form to compile: layer normalisation and GELU stand as their single operations, biases
apart from their matrix products. Shapes are static, as after constant folding. The embedding lookup before the encoder is left
out; the attention mask is an input.
"""

import math

import numpy as np
from onnx import TensorProto

from benchmarks.models.graph import Graph, Network

LAYERS, SEQUENCE, HIDDEN, HEADS, INNER = 6, 64, 384, 12, 1536
_HEAD = HIDDEN // HEADS
_LARGEST_NEGATIVE = np.finfo(np.float32).min


def bert() -> Network:
    """Hidden states [1, 64, 384] and a mask [1, 64] of zeros and ones to hidden states [1, 64, 384]."""
    graph = Graph("bert-6", seed=6)
    data = graph.input("hidden_states", (1, SEQUENCE, HIDDEN))
    mask = _extended_mask(graph, graph.input("attention_mask", (1, SEQUENCE), TensorProto.INT64))
    for layer in range(LAYERS):
        name = f"layer{layer}"
        attended = _dense(graph, _attention(graph, data, mask, f"{name}.attention"), f"{name}.attention.output", HIDDEN)
        data = _layer_norm(graph, graph.add(attended, data, f"{name}.attention.residual"), f"{name}.attention.norm")
        inner = _gelu(graph, _dense(graph, data, f"{name}.intermediate", INNER))
        inner = _dense(graph, inner, f"{name}.output", HIDDEN)
        data = _layer_norm(graph, graph.add(inner, data, f"{name}.output.residual"), f"{name}.output.norm")
    return graph.finish(data)


def _extended_mask(graph: Graph, mask: str) -> str:
    """(1 - mask) times the most negative float32, shaped [1, 1, 1, sequence] to be added to the scores."""
    shape = (1, 1, 1, SEQUENCE)
    mask = graph.node("Unsqueeze", [mask, graph.constant(np.array([1, 2], np.int64), "mask.axes")], "mask.unsqueeze", shape)
    mask = graph.node("Cast", [mask], "mask.cast", shape, to=TensorProto.FLOAT)
    mask = graph.node("Sub", [graph.constant(np.float32(1), "mask.one"), mask], "mask.sub", shape)
    return graph.node("Mul", [mask, graph.constant(np.float32(_LARGEST_NEGATIVE), "mask.lowest")], "mask.mul", shape)


def _dense(graph: Graph, data: str, name: str, outputs: int) -> str:
    inputs = graph.shape(data)[-1]
    weights = graph.normal((inputs, outputs), math.sqrt(1 / inputs), f"{name}.weight")
    bias = graph.normal((outputs,), 0.02, f"{name}.bias")
    graph.macs += SEQUENCE * inputs * outputs
    data = graph.node("MatMul", [data, weights], f"{name}.matmul", (1, SEQUENCE, outputs))
    return graph.node("Add", [bias, data], f"{name}.add", (1, SEQUENCE, outputs))


def _attention(graph: Graph, data: str, mask: str, name: str) -> str:
    query, key, value = (_heads(graph, data, f"{name}.{part}") for part in ("query", "key", "value"))
    square = (1, HEADS, SEQUENCE, SEQUENCE)
    graph.macs += 2 * SEQUENCE * SEQUENCE * HIDDEN
    scores = graph.node("MatMul", [query, key], f"{name}.scores", square)
    root = graph.constant(np.float32(math.sqrt(_HEAD)), f"{name}.root")
    scores = graph.node("Div", [scores, root], f"{name}.scaled", square)
    scores = graph.node("Add", [scores, mask], f"{name}.masked", square)
    shares = graph.node("Softmax", [scores], f"{name}.softmax", square, axis=-1)
    context = graph.node("MatMul", [shares, value], f"{name}.context", (1, HEADS, SEQUENCE, _HEAD))
    context = graph.node("Transpose", [context], f"{name}.transposed", (1, SEQUENCE, HEADS, _HEAD), perm=[0, 2, 1, 3])
    joined = graph.constant(np.array([1, SEQUENCE, HIDDEN], np.int64), f"{name}.joined_shape")
    return graph.node("Reshape", [context, joined], f"{name}.joined", (1, SEQUENCE, HIDDEN))


def _heads(graph: Graph, data: str, name: str) -> str:
    """Projection split into heads: [1, heads, sequence, head], the key with its last two axes exchanged."""
    data = _dense(graph, data, name, HIDDEN)
    split = graph.constant(np.array([1, SEQUENCE, HEADS, _HEAD], np.int64), f"{name}.split_shape")
    data = graph.node("Reshape", [data, split], f"{name}.split", (1, SEQUENCE, HEADS, _HEAD))
    if name.endswith("key"):
        return graph.node("Transpose", [data], f"{name}.transposed", (1, HEADS, _HEAD, SEQUENCE), perm=[0, 2, 3, 1])
    return graph.node("Transpose", [data], f"{name}.transposed", (1, HEADS, SEQUENCE, _HEAD), perm=[0, 2, 1, 3])


def _layer_norm(graph: Graph, data: str, name: str) -> str:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis (Ba et al., 2016)."""
    shape, column = (1, SEQUENCE, HIDDEN), (1, SEQUENCE, 1)
    mean = graph.node("ReduceMean", [data], f"{name}.mean", column, axes=[-1])
    centred = graph.node("Sub", [data, mean], f"{name}.centred", shape)
    squared = graph.node("Pow", [centred, graph.constant(np.float32(2), f"{name}.two")], f"{name}.squared", shape)
    variance = graph.node("ReduceMean", [squared], f"{name}.variance", column, axes=[-1])
    epsilon = graph.constant(np.float32(1e-12), f"{name}.epsilon")
    deviation = graph.node("Add", [variance, epsilon], f"{name}.stabilised", column)
    deviation = graph.node("Sqrt", [deviation], f"{name}.deviation", column)
    data = graph.node("Div", [centred, deviation], f"{name}.normalised", shape)
    data = graph.node("Mul", [data, graph.normal((HIDDEN,), 0.1, f"{name}.weight", mean=1.0)], f"{name}.scaled", shape)
    return graph.node("Add", [data, graph.normal((HIDDEN,), 0.1, f"{name}.bias")], name, shape)


def _gelu(graph: Graph, data: str) -> str:
    """Half of x (1 + erf(x / sqrt(2))), as Hendrycks and Gimpel (2016) have it."""
    shape = graph.shape(data)
    root = graph.constant(np.float32(math.sqrt(2)), f"{data}.root")
    inner = graph.node("Div", [data, root], f"{data}.divided", shape)
    inner = graph.node("Erf", [inner], f"{data}.erf", shape)
    inner = graph.node("Add", [inner, graph.constant(np.float32(1), f"{data}.one")], f"{data}.shifted", shape)
    inner = graph.node("Mul", [data, inner], f"{data}.product", shape)
    return graph.node("Mul", [inner, graph.constant(np.float32(0.5), f"{data}.half")], f"{data}.gelu", shape)
