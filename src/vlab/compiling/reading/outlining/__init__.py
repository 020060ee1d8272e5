"""A model's graph in one shape for every format: operators in order with their tensors, and nothing of any compiler.

The limits, the inputs of the reference check and the search for a wrong operator read it.
"""

from collections.abc import Mapping, Sequence

from vlab.compiling.reading.outlining.outline import Operator, Outline, Quantisation
from vlab.compiling.reading.outlining.ranges import table_range, whole_range
from vlab.records import ModelFormat

__all__ = ["Operator", "Outline", "Quantisation", "outline_model", "table_range", "whole_range"]


def outline_model(content: bytes, format_: ModelFormat, shapes: Mapping[str, Sequence[int]]) -> Outline:
    """The outline of a model.

    Args:
        content: the serialised model.
        format_: its format.
        shapes: shapes for inputs with free dimensions, by input name.

    Raises:
        ModelError: the model is damaged.
    """
    if format_ is ModelFormat.onnx:
        from vlab.compiling.reading.outlining.from_onnx import outline_onnx

        return outline_onnx(content, shapes)
    from vlab.compiling.reading.outlining.from_tflite import outline_tflite

    return outline_tflite(content)
