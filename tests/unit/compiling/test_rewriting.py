"""Rewriting before import: what comes out computes the same as what went in, in operators the importer takes."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.unit.compiling.conftest import onnx_model, tensor
from vlab.compiling.importing.converting import takes
from vlab.compiling.importing.rewriting import Rewritten, rewrite

RANDOM = np.random.default_rng(11)


def floats(*shape: int) -> Any:
    """Random float32."""
    return RANDOM.standard_normal(shape).astype(np.float32)


def rewritten(model: Any) -> Rewritten:
    """The model, which must be rewritten completely."""
    result = rewrite(model, takes)

    assert () == result.refused
    return result


def operators(result: Rewritten) -> set[str]:
    """Operators that are left."""
    return {node.op_type for node in result.graph.node}


def outputs(model: Any, inputs: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)


def as_model(model: Any, result: Rewritten) -> Any:
    """The rewritten graph as a model; its nodes must be of one version."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.CopyFrom(result.graph)
    for about in copy.graph.output:
        about.type.CopyFrom(result.types[about.name])
    return copy


def single(
    operator: str, inputs: dict[str, Any], outputs_: int = 1, data: int = 1, version: int = 18, **attributes: Any
) -> Any:
    """A model of one node, whose first inputs are data and whose others are weights."""
    names = list(inputs)
    given = [name if inputs[name] is not None else "" for name in names]
    node = helper.make_node(operator, given, [f"y{place}" for place in range(outputs_)], name="node", **attributes)
    described = [tensor(name, inputs[name].shape, helper.np_dtype_to_tensor_dtype(inputs[name].dtype)) for name in names[:data]]
    weights = {name: value for name, value in list(inputs.items())[data:] if value is not None}
    results = [helper.make_empty_tensor_value_info(name) for name in node.output]
    model = onnx_model([node], described, results, weights)
    model.opset_import[0].version = version
    return model


def assert_same(model: Any, inputs: dict[str, Any]) -> Rewritten:
    """The rewritten model computes what the model does."""
    result = rewritten(model)
    for ours, theirs in zip(outputs(as_model(model, result), inputs), outputs(model, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6)
    return result


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("operator", "gates", "attributes"),
    [
        ("LSTM", 4, {}),
        ("LSTM", 4, {"clip": 0.5, "input_forget": 1}),
        ("GRU", 3, {}),
        ("GRU", 3, {"linear_before_reset": 1}),
        ("RNN", 1, {"clip": 0.7}),
    ],
)
def test_recurrent_layers_are_unrolled(operator: str, gates: int, attributes: dict[str, Any], direction: str):
    """All directions, with biases, initial states and sequences that end early."""
    count, size, hidden, steps, batch = 1 + (direction == "bidirectional"), 3, 4, 5, 2
    inputs = {
        "x": floats(steps, batch, size),
        "w": floats(count, gates * hidden, size),
        "r": floats(count, gates * hidden, hidden),
        "b": floats(count, 2 * gates * hidden),
        "lengths": np.asarray([5, 3], np.int32),
        "h": floats(count, batch, hidden),
    }
    states = 2
    if operator == "LSTM":
        states, inputs = 3, {**inputs, "c": floats(count, batch, hidden), "p": floats(count, 3 * hidden)}
    model = single(operator, inputs, states, direction=direction, hidden_size=hidden, **attributes)

    assert operator not in operators(assert_same(model, {"x": inputs["x"]}))


@pytest.mark.parametrize(
    ("activation", "alpha", "beta"),
    [
        ("HardSigmoid", 0.3, 0.4),
        ("LeakyRelu", 0.2, None),
        ("ScaledTanh", 1.5, 0.5),
        ("Affine", 0.5, 0.1),
        ("Softsign", None, None),
    ],
)
def test_activations_of_recurrent_layers(activation: str, alpha: float | None, beta: float | None):
    """Any activation that ONNX names, with its parameters."""
    parameters = {"activation_alpha": [alpha]} if alpha is not None else {}
    parameters |= {"activation_beta": [beta]} if beta is not None else {}
    x = floats(3, 1, 2)
    inputs = {"x": x, "w": floats(1, 4, 2), "r": floats(1, 4, 4)}

    assert_same(single("RNN", inputs, 2, hidden_size=4, activations=[activation], **parameters), {"x": x})


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("way", ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"])
@pytest.mark.parametrize("size", [(4, 6), (9, 5), (16, 14)])
def test_resize_in_every_way(mode: str, way: str, size: tuple[int, int]):
    """Up and down, with sizes that do not divide."""
    x = floats(1, 2, 8, 7)
    sizes = np.asarray([1, 2, *size], np.int64)
    model = single("Resize", {"x": x, "": None, "": None, "sizes": sizes}, mode=mode, coordinate_transformation_mode=way)  # noqa: F601
    model.graph.node[0].input[:] = ["x", "", "", "sizes"]

    assert "Resize" not in operators(assert_same(model, {"x": x}))


@pytest.mark.parametrize("options", [{"onesided": 1}, {"onesided": 0}, {"inverse": 1}])
@pytest.mark.parametrize("length", [8, 9])
def test_fourier_transforms_are_matrix_products(options: dict[str, int], length: int):
    """Even and odd lengths, real and complex input."""
    x = floats(1, length, 2 if "inverse" in options else 1)
    result = assert_same(single("DFT", {"x": x}, axis=1, **options), {"x": x})

    assert {"MatMul"} <= operators(result) <= {"MatMul", "Transpose", "Reshape"}


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes"),
    [
        ("OneHot", {"x": np.asarray([[1, -1], [0, 2]]), "depth": np.asarray(3), "values": np.float32([2, 5])}, {}),
        ("ReverseSequence", {"x": floats(4, 3, 2), "lengths": np.asarray([4, 1, 2])}, {}),
        ("Compress", {"x": floats(3, 4), "chosen": np.asarray([True, False, True])}, {"axis": 1}),
        ("Pow", {"x": np.asarray([2, 3, 4]), "power": np.asarray(3)}, {}),
        ("Pow", {"x": floats(4) ** 2, "power": np.asarray(2, np.int32)}, {}),
        ("IsInf", {"x": np.asarray([np.inf, -np.inf, 1, np.nan], np.float32)}, {"detect_negative": 0}),
        ("MaxPool", {"x": floats(1, 2, 6, 7)}, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
        ("Col2Im", {"x": floats(1, 8, 9), "image": np.asarray([4, 4]), "block": np.asarray([2, 2])}, {}),
        ("LpNormalization", {"x": floats(3, 4)}, {"p": 1, "axis": 0}),
        ("Det", {"x": floats(2, 4, 4)}, {}),
        ("SpaceToDepth", {"x": floats(1, 2, 4, 6)}, {"blocksize": 2}),
        ("DepthToSpace", {"x": floats(1, 8, 2, 3)}, {"blocksize": 2}),
        ("DepthToSpace", {"x": floats(1, 8, 2, 3)}, {"blocksize": 2, "mode": "CRD"}),
        ("Celu", {"x": floats(3, 4)}, {"alpha": 0.7}),
        ("LayerNormalization", {"x": floats(2, 3, 4), "scale": floats(4)}, {}),
        ("ReduceLogSumExp", {"x": floats(2, 3), "axes": np.asarray([1])}, {}),
    ],
)  # fmt: skip
def test_single_operators(operator: str, inputs: dict[str, Any], attributes: dict[str, Any]):
    """Each rule computes what ONNX Runtime does."""
    several = {"MaxPool": 2, "LayerNormalization": 2}.get(operator, 1)

    assert_same(single(operator, inputs, several, **attributes), {"x": inputs["x"]})


def test_shapes_are_computed_at_import():
    """What exporters write to keep a shape free is gone once the shape is fixed."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"], name="flat"),
    ]
    weights = {"first": np.asarray([0]), "rest": np.asarray([-1])}
    nodes.append(helper.make_node("Relu", ["y"], ["z"]))
    result = rewritten(onnx_model(nodes, [tensor("x", [2, 3, 4])], [tensor("z", [2, 12])], weights))

    assert ["Reshape", "Relu"] == [node.op_type for node in result.graph.node]
    assert [2, 12] == list(onnx.numpy_helper.to_array(result.graph.initializer[0]))
    assert result.graph.node[0].name.startswith("flat")


def loop(trips: int | None) -> Any:
    """Doubles x in every iteration; the number of iterations is an input without a value."""
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "v"], ["w"]), helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [tensor("i", [], TensorProto.INT64), tensor("c", [], TensorProto.BOOL), tensor("v", [2])],
        [tensor("d", [], TensorProto.BOOL), tensor("w", [2]), tensor("w", [2])],
    )
    node = helper.make_node("Loop", ["n", "", "x"], ["y", "all"], name="loop", body=body)
    count = [] if trips is not None else [tensor("n", [], TensorProto.INT64)]
    weights = {"n": np.asarray(trips)} if trips is not None else {}
    return onnx_model([node], [tensor("x", [2]), *count], [tensor("y", [2]), tensor("all", [trips or "n", 2])], weights)


def test_a_loop_of_known_length_is_unrolled():
    """Three iterations are three nodes and what stacks their results."""
    assert "Loop" not in operators(assert_same(loop(3), {"x": floats(2)}))


def test_a_loop_of_unknown_length_is_refused_by_its_node():
    """The message says what is not known."""
    (refused,) = rewrite(loop(None), takes).refused

    assert ("Loop", "loop") == (refused.operator, refused.node)
    assert "number of iterations is computed" in refused.why


def test_a_branch_that_the_data_decides_becomes_a_choice():
    """Both sides are computed."""
    sides = {
        name: helper.make_graph([helper.make_node(operator, ["x"], [name])], name, [], [tensor(name, [3])])
        for name, operator in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=sides["then"], else_branch=sides["else"]),
    ]
    model = onnx_model(nodes, [tensor("x", [3])], [tensor("y", [3])], {"zero": np.float32(0)})

    assert_same(model, {"x": np.asarray([1, -2, 3], np.float32)})
    assert_same(model, {"x": np.asarray([-1, -2, -3], np.float32)})


def test_functions_of_the_model_are_expanded():
    """A call of a function that the model defines itself, with an attribute of the call."""
    inner = helper.make_node("LeakyRelu", ["a"], ["b"])
    inner.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    function = helper.make_function("own", "Leak", ["a"], ["b"], [inner], [helper.make_opsetid("", 18)], ["slope"])
    model = onnx_model(
        [helper.make_node("Leak", ["x"], ["y"], domain="own", slope=0.25)], [tensor("x", [3])], [tensor("y", [3])]
    )
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))

    assert {"LeakyRelu"} == operators(rewritten(model))
    np.testing.assert_array_equal([-0.5, 0, 2], outputs(as_model(model, rewritten(model)), {"x": np.float32([-2, 0, 2])})[0])


@pytest.mark.parametrize("operator", ["Gelu", "FastGelu", "BiasGelu", "SkipLayerNormalization"])
def test_operators_of_the_runtimes_own_domain(operator: str):
    """What ONNX Runtime's optimiser fuses is taken apart again."""
    x, more = floats(2, 3, 8), {"b": floats(8)}
    if operator == "SkipLayerNormalization":
        more = {"skip": floats(2, 3, 8), "gamma": floats(8), "beta": floats(8)}
    model = single(operator, {"x": x, **({} if operator == "Gelu" else more)}, version=20)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    assert_same(model, {"x": x})


def test_names_of_nodes_stay_unique_and_recognisable():
    """Two layers of the same kind give nodes that begin with the layers' own names."""
    inputs = {"x": floats(2, 1, 3), "w": floats(1, 12, 3), "r": floats(1, 12, 3)}
    model = single("LSTM", inputs, 2, hidden_size=3)
    second = helper.make_node("LSTM", ["h", "w", "r"], ["z"], name="second", hidden_size=3)
    model.graph.node[0].output[1] = "h"
    model.graph.output[1].name = "z"
    model.graph.node.append(second)
    names = [node.name for node in rewritten(model).graph.node]

    assert len(names) == len(set(names))
    assert {"node", "second"} == {name.partition("/")[0] for name in names}
