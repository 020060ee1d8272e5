"""ONNX bytes → Relax module, with every refusal before the importer would fail without naming a node."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx

from vlab.compiling.foreign import said
from vlab.compiling.importing.imported import UNNAMED, Imported, Shape
from vlab.compiling.importing.refusing import refusal
from vlab.compiling.importing.rewriting import Rewritten, rewrite
from vlab.compiling.importing.undefined import named, set_apart
from vlab.errors import ModelError

_TYPES = (
    *(onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BOOL),
    *(onnx.TensorProto.INT8, onnx.TensorProto.INT16, onnx.TensorProto.INT32, onnx.TensorProto.INT64),
    *(onnx.TensorProto.UINT8, onnx.TensorProto.UINT16, onnx.TensorProto.UINT32, onnx.TensorProto.UINT64),
)
"""Element types of inputs and outputs."""
_FREE = -1
"""Extent that some exporters write where ONNX has a name or nothing."""
_NAMELESS = "?"
"""Stands for a free extent without a name."""


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
    _refuse_versions(model)
    _refuse_weights(model)
    inputs, notices = _fix_shapes(model, shapes)
    undefined = set_apart(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the model is not valid ONNX: {said(error)}; export it again") from error
    rewritten = rewrite(model, takes)
    if rewritten.refused:
        raise ModelError(refusal([named(one, undefined) for one in rewritten.refused]))
    _refuse_types(model, rewritten)
    module, nodes, refused = convert(rewritten)
    if refused:
        raise ModelError(refusal(refused))
    return Imported(module, tuple(inputs), tuple(output.name for output in model.graph.output), tuple(notices), nodes)


def _refuse_versions(model: Any) -> None:
    """A version that is newer than the installed onnx may mean anything."""
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"the model has ONNX's file format {model.ir_version}, expected at most {onnx.IR_VERSION}; save it by an older one"
        )
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and not 1 <= opset.version <= newest:
            raise ModelError(
                f"the model has ONNX's operator set {opset.version}, expected 1 to {newest}; export it with one "
                f"of these, or convert it: onnx.version_converter.convert_version(model, {newest})"
            )


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


def _refuse_weights(model: Any) -> None:
    for graph in _graphs(model.graph):
        for sparse in graph.sparse_initializer:
            raise ModelError(
                f"weight {sparse.values.name} is sparse; expected dense tensors, so export the model without sparsity"
            )
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
    given = {value.name: _given(value.name, _dimensions(value), shapes[value.name]) for value in inputs if value.name in shapes}
    extents = _named_extents({value.name: _dimensions(value) for value in inputs}, given)
    notices, free = [], []
    for value in inputs:
        if value.name in given:
            _write_shape(value, given[value.name])
            continue
        dimensions = _dimensions(value)
        if dimensions is not None:
            dimensions = [extents.get(extent, extent) if isinstance(extent, str) else extent for extent in dimensions]
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


def _named_extents(dimensions: Mapping[str, list[int | str] | None], given: Mapping[str, list[int]]) -> dict[str, int]:
    """What the given shapes say about names that several inputs may have, as of one batch."""
    extents: dict[str, int] = {}
    for name, shape in given.items():
        for known, extent in zip(dimensions[name] or [], shape, strict=False):
            if isinstance(known, str) and known != _NAMELESS and extents.setdefault(known, extent) != extent:
                raise ModelError(
                    f"the shapes given make {known} both {extents[known]} and {extent} (input {name}); give it one extent"
                )
    return extents


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
    for place, extent in enumerate(tensor.shape.dim):
        if extent.HasField("dim_value") and (extent.dim_value == 0 or extent.dim_value < _FREE):
            raise ModelError(
                f"input {value.name} has the extent {extent.dim_value} on axis {place}; expected 1 or more, or a name or "
                f"{_FREE} for one that is free, so export the model with other inputs"
            )
    return [extent.dim_value if extent.dim_value > 0 else extent.dim_param or _NAMELESS for extent in tensor.shape.dim]


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
