"""TFLite bytes → Relax module."""

from collections.abc import Mapping
from functools import partial

from vlab.compiling.foreign import said
from vlab.compiling.importing.imported import Imported, Shape
from vlab.compiling.importing.refusing import Refused, refusal
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

    from vlab.compiling.importing.tflite_converting import Converter
    from vlab.compiling.lineage import Origins

    origins = Origins()
    refused: list[Refused] = []
    try:
        model = tflite.Model.GetRootAsModel(content, 0)
        graphs = model.SubgraphsLength()
        graph = model.Subgraphs(0)
        names = {index: graph.Tensors(index).Name().decode() for index in range(graph.TensorsLength())}
        inputs = tuple(names[int(index)] for index in graph.InputsAsNumpy())
        outputs = tuple(names[int(index)] for index in graph.OutputsAsNumpy())
    except Exception as error:  # the flatbuffer reader follows damaged offsets wherever they lead
        raise ModelError(f"the model is a damaged TFLite file: {said(error)}; get it again") from error
    try:
        module = from_tflite(model, op_converter=partial(Converter, origins, refused))
    except Exception as error:
        if not refused:
            raise ModelError(f"the TFLite model cannot be imported: {said(error)}") from error
    if refused:
        raise ModelError(refusal(refused))
    if graphs != 1:
        raise ModelError(f"the TFLite model has {graphs} graphs; expected 1, so convert it with one signature")
    return Imported(module, inputs, outputs, (), origins.nodes(module))
