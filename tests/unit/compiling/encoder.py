"""A small transformer in the two styles that exporters write: BERT's by PyTorch below opset 17, and GPT-2's above it."""

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.unit.compiling.conftest import onnx_model, tensor

SEQUENCE, HIDDEN, HEADS, INNER, VOCABULARY = 16, 64, 4, 256, 100


class Encoder:
    """A graph under construction."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(11)
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operator with one output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """An operator with several outputs."""
        outputs = [f"{kind.lower()}{len(self.nodes)}_{place}" for place in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs

    def known(self, value: Any, dtype: str = "float32") -> str:
        """A weight, or another value the model knows."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def normal(self, *shape: int, scale: float = 0.1, mean: float = 0.0) -> str:
        """A random weight."""
        return self.known(self.random.normal(mean, scale, shape))

    def linear(self, data: str, inputs: int, outputs: int) -> str:
        """MatMul and Add."""
        return self.op("Add", self.normal(outputs), self.op("MatMul", data, self.normal(inputs, outputs, scale=inputs**-0.5)))

    def reshaped(self, data: str, *shape: int) -> str:
        """Reshape to known extents."""
        return self.op("Reshape", data, self.known(shape, "int64"))

    def heads(self, data: str, order: list[int]) -> str:
        """[1, sequence, hidden] split into heads."""
        return self.op("Transpose", self.reshaped(data, 1, SEQUENCE, HEADS, HIDDEN // HEADS), perm=order)

    def attended(self, scores: str, value: str) -> str:
        """Softmax of scores, times values, heads joined."""
        context = self.op("MatMul", self.op("Softmax", scores, axis=-1), value)
        return self.reshaped(self.op("Transpose", context, perm=[0, 2, 1, 3]), 1, SEQUENCE, HIDDEN)

    def norm_in_pieces(self, data: str) -> str:
        """Layer normalisation as nine operators."""
        last = self.known([-1], "int64")
        centred = self.op("Sub", data, self.op("ReduceMean", data, last))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.known(2.0)), last)
        scaled = self.op("Div", centred, self.op("Sqrt", self.op("Add", variance, self.known(1e-12))))
        return self.op("Add", self.op("Mul", scaled, self.normal(HIDDEN, mean=1.0)), self.normal(HIDDEN))

    def bert_layer(self, data: str, mask: str) -> str:
        """Additive mask, normalisation after the residual, GELU by erf."""
        query, key, value = (self.linear(data, HIDDEN, HIDDEN) for _ in range(3))
        scores = self.op("MatMul", self.heads(query, [0, 2, 1, 3]), self.heads(key, [0, 2, 3, 1]))
        scores = self.op("Add", self.op("Div", scores, self.known((HIDDEN / HEADS) ** 0.5)), mask)
        data = self.norm_in_pieces(
            self.op("Add", self.linear(self.attended(scores, self.heads(value, [0, 2, 1, 3])), HIDDEN, HIDDEN), data)
        )
        inner = self.linear(data, HIDDEN, INNER)
        half = self.op("Mul", inner, self.op("Add", self.op("Erf", self.op("Div", inner, self.known(2**0.5))), self.known(1.0)))
        return self.norm_in_pieces(self.op("Add", self.linear(self.op("Mul", half, self.known(0.5)), INNER, HIDDEN), data))

    def gpt_layer(self, data: str, allowed: str) -> str:
        """One projection for all three, mask by Where, normalisation before, GELU by tanh of a cubic."""
        before = self.op("LayerNormalization", data, self.normal(HIDDEN, mean=1.0), self.normal(HIDDEN), axis=-1)
        flat = self.op(
            "Gemm", self.reshaped(before, SEQUENCE, HIDDEN), self.normal(HIDDEN, 3 * HIDDEN), self.normal(3 * HIDDEN)
        )
        query, key, value = self.ops(
            "Split", 3, self.reshaped(flat, 1, SEQUENCE, 3 * HIDDEN), self.known([HIDDEN] * 3, "int64"), axis=2
        )
        scores = self.op("MatMul", self.heads(query, [0, 2, 1, 3]), self.heads(key, [0, 2, 3, 1]))
        scores = self.op("Where", allowed, self.op("Mul", scores, self.known(0.25)), self.known(np.finfo(np.float32).min))
        data = self.op("Add", data, self.linear(self.attended(scores, self.heads(value, [0, 2, 1, 3])), HIDDEN, HIDDEN))
        before = self.op("LayerNormalization", data, self.normal(HIDDEN, mean=1.0), self.normal(HIDDEN), axis=-1)
        inner = self.linear(before, HIDDEN, INNER)
        cubic = self.op("Add", inner, self.op("Mul", self.op("Pow", inner, self.known(3.0)), self.known(0.044715)))
        bent = self.op("Add", self.op("Tanh", self.op("Mul", cubic, self.known((2 / np.pi) ** 0.5))), self.known(1.0))
        inner = self.op("Mul", self.op("Mul", inner, self.known(0.5)), bent)
        return self.op("Add", data, self.linear(inner, INNER, HIDDEN))


def small_transformer() -> Any:
    """Token numbers and a mask, both int64 [1, 16], through an embedding and one layer of each style to [1, 16, 64]."""
    graph = Encoder()
    wide = graph.op("Unsqueeze", "attention_mask", graph.known([1, 2], "int64"))
    off = graph.op("Sub", graph.known(1.0), graph.op("Cast", wide, to=TensorProto.FLOAT))
    added = graph.op("Mul", off, graph.known(np.finfo(np.float32).min))
    causal = graph.known(np.tril(np.ones((1, 1, SEQUENCE, SEQUENCE))), "bool")
    allowed = graph.op("And", causal, graph.op("Cast", wide, to=TensorProto.BOOL))
    data = graph.op("Gather", graph.normal(VOCABULARY, HIDDEN, scale=0.5), "input_ids")
    data = graph.norm_in_pieces(graph.op("Add", data, graph.normal(1, SEQUENCE, HIDDEN, scale=0.5)))
    data = graph.gpt_layer(graph.bert_layer(data, added), allowed)
    inputs = [tensor(name, [1, SEQUENCE], TensorProto.INT64) for name in ("input_ids", "attention_mask")]
    return onnx_model(graph.nodes, inputs, [tensor(data, [1, SEQUENCE, HIDDEN])], graph.weights)
