"""TFLite bytes → Relax module."""

from collections.abc import Mapping

from vlab.compiling.foreign import said
from vlab.compiling.importing.imported import Imported, Shape
from vlab.errors import ModelError


def import_tflite(content: bytes, shapes: Mapping[str, Shape]) -> Imported:
    """Import a TFLite model, in float32, with weights of float16, or quantised to int8 or uint8.

    Args:
        content: the serialised model.
        shapes: must be empty, for a TFLite model has fixed shapes.

    Raises:
        ModelError: damaged, with several graphs, or with operators that cannot be compiled; or a shape is given.
    """
    if shapes:
        raise ModelError(f"a shape is given for {', '.join(sorted(shapes))}, but a TFLite model has fixed shapes; give none")
    import tflite
    from tvm.relax.frontend.tflite import from_tflite

    from vlab.compiling.importing.tflite_quantised import QuantisedConverter
    from vlab.compiling.lineage import Origins

    origins = Origins()

    class NamingConverter(QuantisedConverter):
        """The converter, which also notes what comes of every operator; their names are index and output tensor."""

        def convert_op_to_relax(self) -> None:
            super().convert_op_to_relax()
            for index in range(self.subgraph.OperatorsLength()):
                for tensor in self.get_output_tensors(self.subgraph.Operators(index)):
                    name = names[tensor.tensor_idx]
                    if self.exp_tab.has_expr(name):
                        origins.note(f"{index} {name}", self.exp_tab.get_expr(name))

    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        graphs = model.SubgraphsLength()
        graph = model.Subgraphs(0)
        names = {index: graph.Tensors(index).Name().decode() for index in range(graph.TensorsLength())}
        inputs = tuple(names[int(index)] for index in graph.InputsAsNumpy())
        outputs = tuple(names[int(index)] for index in graph.OutputsAsNumpy())
    except Exception as error:  # the flatbuffer reader follows damaged offsets wherever they lead
        raise ModelError(f"the model is a damaged TFLite file: {said(error)}; get it again") from error
    if graphs != 1:
        raise ModelError(f"the TFLite model has {graphs} graphs; expected 1, without control flow")
    try:
        module = from_tflite(model, op_converter=NamingConverter)
    except Exception as error:
        raise ModelError(f"the TFLite model cannot be imported: {said(error)}") from error
    return Imported(module, inputs, outputs, (), origins.nodes(module))
