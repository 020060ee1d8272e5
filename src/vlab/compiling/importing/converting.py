"""A rewritten graph → Relax, by TVM's converters of single operators or our own."""

from typing import Any

from onnx.helper import tensor_dtype_to_np_dtype
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from vlab.compiling.foreign import said
from vlab.compiling.importing.imported import UNNAMED
from vlab.compiling.importing.operators import CONVERTERS
from vlab.compiling.importing.refusing import Refused
from vlab.compiling.importing.rewriting import Rewritten
from vlab.compiling.lineage import Origins
from vlab.errors import ModelError

_CONTRIBUTED = {"Attention", "EmbedLayerNormalization"}
"""Operators that TVM knows in the form of the domain com.microsoft."""
_NOT_TENSORS = {"Optional", "OptionalGetElement", "OptionalHasElement", "SequenceLength", "SequenceEmpty", "If"}


def takes(domain: str, operator: str) -> bool:
    """Whether an operator can be converted, in some form at least."""
    if (domain, operator) in CONVERTERS:
        return True
    known = onnx_frontend._get_convert_map()  # noqa: SLF001 - the pinned TVM offers no other list
    allowed = operator in _CONTRIBUTED if domain == "com.microsoft" else not domain and operator not in _CONTRIBUTED
    return allowed and operator in known and operator not in _NOT_TENSORS


def convert(rewritten: Rewritten) -> tuple[Any, dict[str, str], tuple[Refused, ...]]:
    """The graph as a Relax module with the nodes by their variables, or None with the nodes that stand in the way.

    Raises:
        ModelError: the graph as a whole cannot be imported.
    """
    importer = _Importer(rewritten)
    try:
        module = importer.from_onnx(rewritten.graph, 0)
    except Exception as error:
        if importer.refused:
            return None, {}, tuple(importer.refused)
        raise ModelError(f"the model cannot be imported: {said(error)}") from error
    return (None, {}, tuple(importer.refused)) if importer.refused else (module, importer.origins.nodes(module), ())


class _Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer with our own converters beside its own, a version for each node, and errors that name nodes."""

    def __init__(self, rewritten: Rewritten) -> None:
        super().__init__(None, "float32")
        self._rewritten = rewritten
        self._nodes_by_name = {node.name: node for node in rewritten.graph.node}
        self.refused: list[Refused] = []
        self.origins = Origins()

    def _check_for_unsupported_ops(self, graph: Any) -> None:
        """Rewriting has refused them."""

    def _convert_operator(self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int) -> Any:  # noqa: ARG002
        name = attrs["tvm_custom"]["name"]
        node = self._nodes_by_name[name]
        try:
            if own := CONVERTERS.get((node.domain, op_name)):
                result = self.bb.normalize(own(self.bb, list(inputs), attrs))
            else:
                result = super()._convert_operator(op_name, inputs, attrs, self._rewritten.versions[name])
        except Exception as error:
            self.refused.append(Refused(op_name, self._rewritten.origins[name], said(error)))
            stand_in = self._stand_in(node)
            if stand_in is None:
                raise
            return stand_in
        self.origins.note(self._rewritten.origins[name].removeprefix(UNNAMED), result)
        return result

    def _stand_in(self, node: Any) -> Any:
        """Values of the types that a node should have given, so that what else cannot be converted is found too."""
        values = []
        for output in node.output:
            about = self._rewritten.types.get(output)
            if about is None or any(not extent.HasField("dim_value") for extent in about.tensor_type.shape.dim):
                return None
            shape = [extent.dim_value for extent in about.tensor_type.shape.dim]
            dtype = str(tensor_dtype_to_np_dtype(about.tensor_type.elem_type))
            values.append(relax.Var(output, relax.TensorType(shape, dtype)))
        return values[0] if len(values) == 1 else relax.Tuple(values)
