"""A model with other outputs than its own: those that some of its operators compute on the way."""

import struct
from collections.abc import Sequence

from vlab.compiling.reading.outlining import Outline
from vlab.errors import ModelError
from vlab.records import ModelFormat

_OUTPUTS_FIELD = 2
"""Place of `outputs` in the table of a SubGraph (schema.fbs)."""


def cut(content: bytes, format_: ModelFormat, outline: Outline, outputs: Sequence[str]) -> bytes:
    """The model that computes these tensors and what they need.

    Args:
        content: the serialised model.
        format_: its format.
        outline: its outline, which knows shapes and types of the tensors.
        outputs: names of tensors that operators compute.

    Raises:
        ModelError: the model has no such tensors.
    """
    return _cut_onnx(content, outline, outputs) if format_ is ModelFormat.onnx else _cut_tflite(content, outputs)


def _cut_onnx(content: bytes, outline: Outline, outputs: Sequence[str]) -> bytes:
    import numpy as np
    import onnx

    model = onnx.load_model_from_string(content)
    needed, kept = set(outputs), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(name for attribute in node.attribute for name in _outer(attribute))
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    del model.graph.output[:]
    for name in outputs:
        if name not in outline.shapes or name not in outline.dtypes:
            raise ModelError(f"shape or type of tensor {name} is not known, so it cannot be an output")
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(outline.dtypes[name]))
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, dtype, outline.shapes[name]))
    return bytes(model.SerializeToString())


def _outer(attribute: object) -> list[str]:
    """Names that graphs within an attribute read, their own and those of the graph around them."""
    graphs = [attribute.g, *attribute.graphs]  # type: ignore[attr-defined]
    return [name for graph in graphs for node in graph.node for name in node.input] + [
        value.name for graph in graphs for value in graph.output
    ]


def _cut_tflite(content: bytes, outputs: Sequence[str]) -> bytes:
    """The same file with another vector of outputs at its end: an offset in a flatbuffer may lead anywhere further on."""
    import tflite

    model = tflite.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    numbers = {(graph.Tensors(index).Name() or b"").decode(): index for index in range(graph.TensorsLength())}
    if missing := [name for name in outputs if name not in numbers]:
        raise ModelError(f"the model has no tensor {missing[0]}")
    padded = bytearray(content)
    padded += bytes(-len(padded) % 4)
    table = graph._tab  # noqa: SLF001 - the generated classes read only, and offer no other way to a field's place
    field = table.Pos + table.Offset(4 + 2 * _OUTPUTS_FIELD)
    struct.pack_into("<I", padded, field, len(padded) - field)
    padded += struct.pack(f"<I{len(outputs)}i", len(outputs), *(numbers[name] for name in outputs))
    return bytes(padded)
