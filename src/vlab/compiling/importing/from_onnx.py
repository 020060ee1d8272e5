"""ONNX bytes → Relax module, with every refusal before the importer would fail without naming a node."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

from vlab.compiling.foreign import said
from vlab.compiling.importing.advice import advise
from vlab.compiling.importing.imported import UNNAMED, Imported, Shape
from vlab.compiling.importing.rewriting import Refused, Rewritten, rewrite
from vlab.errors import ModelError

_TYPES = (
    *(onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BOOL),
    *(onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64),
    *(onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64),
)
"""Element types of inputs and outputs."""


def import_onnx(content: bytes, shapes: Mapping[str, Shape]) -> Imported:
    """Import an ONNX model; a free first dimension is a batch and becomes 1, with a notice.

    Args:
        content: the serialised model.
        shapes: shapes for inputs with free dimensions, by input name.

    Raises:
        ModelError: not valid ONNX, weights in other files, operators nobody can compile (all of them, with their nodes), free
            shapes, or an operator in a form that the importer does not know.
    """
    from vlab.compiling.importing.converting import convert, takes

    model = _parse(content)
    _refuse_external_data(model)
    inputs, notices = _fix_shapes(model, shapes)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the model is not valid ONNX: {said(error)}; export it again") from error
    rewritten = rewrite(model, takes)
    module, nodes, refused = (None, {}, rewritten.refused) if rewritten.refused else convert(rewritten)
    if refused:
        raise ModelError(_refusal(refused))
    _refuse_types(model, rewritten)
    return Imported(module, tuple(inputs), tuple(output.name for output in model.graph.output), tuple(notices), nodes)


def _refuse_types(model: Any, rewritten: Rewritten) -> None:
    """Inputs and outputs must be tensors that a board can be handed."""
    pairs = [(f"input {about.name}", about.name) for about in rewritten.graph.input]
    pairs += [
        (f"output {named.name}", about.name) for named, about in zip(model.graph.output, rewritten.graph.output, strict=True)
    ]
    for title, name in pairs:
        about = rewritten.types.get(name)
        if about is None:
            continue
        tensor = about.tensor_type
        if not about.HasField("tensor_type") or tensor.elem_type not in _TYPES:
            kind = onnx.TensorProto.DataType.Name(tensor.elem_type) if about.HasField("tensor_type") else "no tensor"
            expected = ", ".join(onnx.TensorProto.DataType.Name(element) for element in _TYPES)
            raise ModelError(f"{title} is {kind}; expected one of {expected}, so convert it within the model by Cast")
        if any(extent.HasField("dim_value") and not extent.dim_value for extent in tensor.shape.dim):
            raise ModelError(f"{title} has no elements; drop it from the model")


def _refusal(refused: Sequence[Refused]) -> str:
    """All that cannot be compiled in one message: operators by name with their nodes, the reason, and what to use instead."""
    nodes: dict[tuple[str, str], list[str]] = {}
    for one in refused:
        nodes.setdefault((one.operator, one.why), []).append(one.node)
    told = []
    for (operator, why), names in sorted(nodes.items()):
        advice = advise(operator)
        told.append(
            f"{operator} (node {', '.join(dict.fromkeys(names))}){f': {why}' if why else ''}{f'; {advice}' if advice else ''}"
        )
    return f"the model has operators that cannot be compiled: {'. '.join(told)}"


def _parse(content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelError(f"the model is damaged: its protocol buffer cannot be parsed ({said(error)}); get it again") from error
    for graph in _graphs(model.graph):
        for node in graph.node:
            node.name = node.name or f"{UNNAMED}{', '.join(node.output)}"
    return model


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and all graphs within its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                yield from _graphs(inner)


def _refuse_external_data(model: Any) -> None:
    for graph in _graphs(model.graph):
        tensors = [
            *graph.initializer,
            *(attribute.t for node in graph.node for attribute in node.attribute if attribute.type == 4),
        ]
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise ModelError(
                    f"weight {tensor.name} is kept in another file, which the model's digest does not cover; "
                    "save the model as one file: onnx.save(onnx.load(path), path, save_as_external_data=False)"
                )


def _fix_shapes(model: Any, shapes: Mapping[str, Shape]) -> tuple[list[str], list[str]]:
    """Write fixed shapes into the model.

    Returns:
        Names of the inputs in the model's order, and notices about batches that became 1.
    """
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    names = [value.name for value in inputs]
    if not names:
        raise ModelError("the model has no inputs, so there is nothing to run it on; export it with an input")
    if strangers := sorted(set(shapes) - set(names)):
        raise ModelError(f"a shape is given for {', '.join(strangers)}; the inputs of the model are: {', '.join(names)}")
    notices, free = [], []
    for value in inputs:
        dimensions = _dimensions(value)
        if value.name in shapes:
            _write_shape(value, _given(value.name, dimensions, shapes[value.name]))
            continue
        unknown = None if dimensions is None else [place for place, extent in enumerate(dimensions) if isinstance(extent, str)]
        if dimensions is not None and unknown == [0]:
            notices.append(f"input {value.name}: batch {dimensions[0]} is free and was fixed to 1")
            dimensions = [1, *dimensions[1:]]
            unknown = []
        if dimensions is None or unknown:
            shown = "of unknown rank" if dimensions is None else f"[{', '.join(map(str, dimensions))}]"
            free.append(f"{value.name} is {shown}: --shape {value.name}={_example(dimensions)}")
        else:
            _write_shape(value, [int(extent) for extent in dimensions])
    if free:
        raise ModelError(f"the shapes of all inputs must be fixed; choose for example {'; '.join(free)}")
    return names, notices


def _write_shape(value: Any, shape: Sequence[int]) -> None:
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    tensor.shape.SetInParent()
    for extent in shape:
        tensor.shape.dim.add().dim_value = extent


def _dimensions(value: Any) -> list[int | str] | None:
    """Extents of an input, a name where one is free; None where not even their number is known."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or tensor.elem_type == onnx.TensorProto.STRING:
        raise ModelError(f"input {value.name} is not a tensor of numbers; expected only such inputs")
    if not tensor.HasField("shape"):
        return None
    return [extent.dim_value if extent.dim_value > 0 else extent.dim_param or "?" for extent in tensor.shape.dim]


def _given(name: str, dimensions: list[int | str] | None, shape: Shape) -> list[int]:
    agrees = dimensions is None or (
        len(dimensions) == len(shape)
        and all(isinstance(has, str) or has == wants for has, wants in zip(dimensions, shape, strict=True))
    )
    if not agrees or any(extent < 1 for extent in shape):
        expected = "positive extents" if dimensions is None else f"[{', '.join(map(str, dimensions))}]"
        raise ModelError(f"shape {list(shape)} is given for input {name}; expected {expected} with numbers for the names")
    return list(shape)


def _example(dimensions: list[int | str] | None) -> str:
    if dimensions is None:
        return "1,3,32,32"
    free = ["1" if place == 0 else "32" for place in range(len(dimensions))]
    return ",".join(free[place] if isinstance(extent, str) else str(extent) for place, extent in enumerate(dimensions))
