"""Refusals before and while a model is imported."""

from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tflite import BuiltinOperator

from tests.unit.compiling.conftest import onnx_model, small_cnn, tensor
from tests.unit.compiling.tflite_model import Operator, Tensor, dense_softmax, written
from vlab.compiling.importing import Imported, import_onnx, import_tflite
from vlab.errors import ModelError

DENSE = dense_softmax()


def imported(model: Any, **shapes: tuple[int, ...]) -> Imported:
    """The model through the importer."""
    return import_onnx(model.SerializeToString(), shapes)


def relu(shape: list[int | str] | None) -> Any:
    """A model of one node and one input."""
    return onnx_model([helper.make_node("Relu", ["x"], ["y"])], [tensor("x", shape)], [tensor("y", ["n"] * len(shape or [1]))])


def test_all_unknown_operators_are_named_with_their_nodes():
    """A model with several unknown operators is refused once, with all of them; a node without a name by what it computes."""
    nodes = [
        helper.make_node("Bernoulli", ["x"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Multinomial", ["r"], ["y"], name="draw0"),
        helper.make_node("Conv", ["x"], ["v"], name="theirs", domain="their.domain"),
    ]
    model = onnx_model(nodes, [tensor("x", [1, 3])], [tensor("y", [1, 1], TensorProto.INT32)])
    model.opset_import.append(helper.make_opsetid("their.domain", 1))

    expected = r"Bernoulli \(node that computes z\).*Multinomial \(node draw0\).*their\.domain\.Conv \(node theirs\)"
    with pytest.raises(ModelError, match=expected) as caught:
        imported(model)
    assert "Relu" not in str(caught.value)


def test_operators_that_onnx_lacks_are_named_all_at_once_with_the_nearest_it_has():
    """Misspelt, too new, dropped and invented operators, one of them within a branch, beside one of another domain."""
    branch = helper.make_graph([helper.make_node("Inner", ["x"], ["o"])], "branch", [], [tensor("o", [1, 3])])
    nodes = [
        helper.make_node("relu", ["x"], ["a"], name="lower"),
        helper.make_node("Convolution", ["a"], ["b"], name="long"),
        helper.make_node("Gelu", ["b"], ["c"], name="new"),
        helper.make_node("Scatter", ["c", "c", "c"], ["d"], name="old"),
        helper.make_node("If", ["t"], ["e"], name="branching", then_branch=branch, else_branch=branch),
        helper.make_node("Thing", ["d"], ["y"], name="theirs", domain="their.domain"),
    ]
    inputs = [tensor("x", [1, 3]), tensor("t", [], TensorProto.BOOL)]
    model = onnx_model(nodes, inputs, [tensor("y", [1, 3]), tensor("e", [1, 3])])
    model.opset_import.append(helper.make_opsetid("their.domain", 1))

    with pytest.raises(ModelError) as caught:
        imported(model)
    for told in (
        "Convolution (node long): ONNX has no such operator; the nearest is Conv",
        "Gelu (node new): ONNX has it from operator set 20 on, and the model says 18",
        "Inner (node branching): ONNX has no such operator",
        "Scatter (node old): ONNX dropped it before operator set 18; use ScatterElements",
        "relu (node lower): ONNX has no such operator; the nearest is Relu",
        "their.domain.Thing (node theirs)",
    ):
        assert told in str(caught.value)


@pytest.mark.parametrize("version", [0, 99])
def test_an_operator_set_nobody_knows_is_refused(version: int):
    """What operators mean in a version to come is not guessed."""
    model = relu([1, 3])
    model.opset_import[0].version = version
    with pytest.raises(ModelError, match=rf"operator set {version}, expected 1 to \d+; export it with one of these"):
        imported(model)


def test_text_among_the_weights_is_refused_by_node():
    """A table of words has no place on a board."""
    model = onnx_model([helper.make_node("Gather", ["words", "x"], ["y"], name="look")], [tensor("x", [1], TensorProto.INT64)],
                       [tensor("y", [1], TensorProto.STRING)])  # fmt: skip
    model.graph.initializer.append(helper.make_tensor("words", TensorProto.STRING, [2], [b"no", b"yes"]))
    with pytest.raises(ModelError, match=r"Gather \(node look\): it computes with text"):
        imported(model)


def test_sparse_weights_are_refused():
    """They are named instead of being missed."""
    model = onnx_model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("x", [1, 3])], [tensor("y", [1, 3])])
    values, places = (
        helper.make_tensor(*one) for one in (("w", TensorProto.FLOAT, [1], [2.0]), ("p", TensorProto.INT64, [1], [1]))
    )
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3]))
    with pytest.raises(ModelError, match="weight w is sparse"):
        imported(model)


def test_tflite_operators_that_cannot_be_compiled_are_named_all_at_once():
    """With their places and tensors, by the converter's list or by what it stumbles over."""
    tensors = [Tensor(name, (1, 3)) for name in ("x", "a", "b", "c", "y")]
    operators = [
        Operator(BuiltinOperator.WHILE, ["x"], "a"),
        Operator(BuiltinOperator.SOFTMAX, ["a"], "b"),
        Operator(BuiltinOperator.CONV_2D, ["b"], "c"),
        Operator(BuiltinOperator.SKIP_GRAM, ["c"], "y"),
    ]
    with pytest.raises(ModelError) as caught:
        import_tflite(written(tensors, operators), {})
    told = str(caught.value)
    assert all(
        one in told
        for one in ("CONV_2D (node 2 c): ", "SKIP_GRAM (node 3 y)", "SOFTMAX (node 1 b): ", "WHILE (node 0 a): control flow")
    )


def test_control_flow_is_refused_by_node():
    """A branch that the data decides cannot become a flat list of kernel calls where its sides differ in shape."""
    sides = {
        name: helper.make_graph([helper.make_node("Concat", ["x"] * count, [name], axis=0)], name, [], [tensor(name, [count])])
        for name, count in (("t", 2), ("e", 3))
    }
    node = helper.make_node("If", ["c"], ["y"], name="branch", then_branch=sides["t"], else_branch=sides["e"])
    model = onnx_model([node], [tensor("c", [], TensorProto.BOOL), tensor("x", [1])], [tensor("y", ["n"])])

    with pytest.raises(ModelError, match=r"If \(node branch\)"):
        imported(model)


def test_an_operator_in_an_unknown_form_is_named_with_its_node():
    """What fails within the importer is one line with the node, not a trace."""
    node = helper.make_node("MatMul", ["x", "m"], ["y"], name="product")
    model = onnx_model([node], [tensor("x", [1, 8])], [tensor("y", [1, 2])], {"m": np.zeros((7, 2), np.float32)})

    with pytest.raises(ModelError, match=r"cannot be compiled: MatMul \(node product\): its inputs") as caught:
        imported(model)
    assert "\n" not in str(caught.value)


def test_a_free_batch_becomes_one_with_a_notice():
    """A free first dimension is taken for a batch."""
    got = imported(small_cnn("N"))

    assert ("input x: batch N is free and was fixed to 1",) == got.notices
    assert ("x",) == got.inputs
    assert ("y",) == got.outputs


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ([1, 3, "H", "W"], r"x is \[1, 3, H, W\]: --shape x=1,3,32,32"),
        (["N", "T"], r"x is \[N, T\]: --shape x=1,32"),
        ([1, -1], r"x is \[1, \?\]: --shape x=1,32"),
        (None, r"x is of unknown rank: --shape x="),
    ],
)
def test_other_free_shapes_are_refused_with_what_to_type(shape: list[int | str] | None, told: str):
    """Which input is free, and how to fix it."""
    with pytest.raises(ModelError, match=told):
        imported(relu(shape))


@pytest.mark.parametrize("shape", [[1, 3, "H", "W"], ["N", "C", "H", "W"], None])
def test_a_given_shape_fixes_a_free_one(shape: list[int | str] | None):
    """Free dimensions take what the requester chose."""
    got = imported(relu(shape), x=(1, 3, 16, 16))

    assert [1, 3, 16, 16] == [int(extent) for extent in got.module["main"].params[0].ty.shape]


@pytest.mark.parametrize("given", [(1, 3, 16), (1, 4, 16, 16), (1, 3, 0, 16), (1, 3, -1, 16)])
def test_a_given_shape_must_agree_with_the_model(given: tuple[int, ...]):
    """A shape of another rank, with another fixed extent or an empty one is refused."""
    with pytest.raises(ModelError, match=r"is given for input x; expected \[1, 3, H, W\]"):
        imported(relu([1, 3, "H", "W"]), x=given)


def test_a_given_shape_fixes_its_names_in_every_input():
    """Inputs that share a name get its extent from the one that is given, and two extents for one name are refused."""
    node = helper.make_node("Add", ["x", "z"], ["y"])
    model = onnx_model([node], [tensor("x", ["N", "T"]), tensor("z", ["N", 1, "K"])], [tensor("y", ["N", "a", "b"])])

    got = imported(model, x=(2, 3), z=(2, 1, 3))
    assert [[2, 3], [2, 1, 3]] == [[int(extent) for extent in param.ty.shape] for param in got.module["main"].params]
    with pytest.raises(ModelError, match=r"z is \[2, 1, K\]: --shape z=2,1,32"):
        imported(model, x=(2, 3))
    with pytest.raises(ModelError, match=r"N both 2 and 4 \(input z\)"):
        imported(model, x=(2, 3), z=(4, 1, 3))


@pytest.mark.parametrize("extent", [0, -3])
def test_an_input_without_elements_is_refused(extent: int):
    """An extent that is no number of elements is neither taken for a batch nor compiled to nothing."""
    with pytest.raises(ModelError, match=rf"input x has the extent {extent} on axis 0; expected 1 or more"):
        imported(relu([extent, 3]))


def test_a_shape_for_an_unknown_input_is_refused():
    """A misspelt input is not ignored."""
    with pytest.raises(ModelError, match="a shape is given for image; the inputs of the model are: x"):
        imported(relu([1, 3]), image=(1, 3))


def test_what_the_checker_refuses_is_not_valid_onnx():
    """The checker's complaint is passed on in one line."""
    node = helper.make_node("Conv", ["x"], ["y"], name="half")
    with pytest.raises(ModelError, match=r"not valid ONNX: .*half") as caught:
        imported(onnx_model([node], [tensor("x", [1, 8])], [tensor("y", [1, 8])]))
    assert "\n" not in str(caught.value)


def test_weights_in_another_file_are_refused():
    """The model's digest must cover its weights, wherever they claim to be."""
    weight = numpy_helper.from_array(np.zeros(8, np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, location="../../etc/passwd")
    weight.ClearField("raw_data")
    model = onnx_model([helper.make_node("Add", ["x", "w"], ["y"])], [tensor("x", [8])], [tensor("y", [8])])
    model.graph.initializer.append(weight)

    with pytest.raises(ModelError, match="weight w is kept in another file"):
        imported(model)


@pytest.mark.parametrize("content", [b"\x08\x09\x3a\x04\xff\xff\xff\xff", b"\xff" * 40])
def test_a_damaged_protocol_buffer_is_refused(content: bytes):
    """Bytes that are no message are called damaged."""
    with pytest.raises(ModelError, match="damaged"):
        import_onnx(content, {})


def test_a_model_without_inputs_is_refused():
    """There is nothing to measure about a constant."""
    node = helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.zeros(1, np.float32), ""))
    with pytest.raises(ModelError, match="no inputs"):
        imported(onnx_model([node], [], [tensor("y", [1])]))


def test_tflite_inputs_and_outputs_keep_their_names():
    """A TFLite model is imported with its names in order."""
    got = import_tflite(dense_softmax(), {})

    assert (("x",), ("y",)) == (got.inputs, got.outputs)


def test_a_shape_for_a_tflite_model_is_refused():
    """Its shapes are fixed, so a chosen one would be ignored."""
    with pytest.raises(ModelError, match="fixed shapes"):
        import_tflite(dense_softmax(), {"x": (1, 4)})


@settings(max_examples=60)
@given(length=st.integers(8, len(DENSE) - 1))
def test_a_truncated_tflite_model_is_refused(length: int):
    """Nothing but a ModelError comes out of offsets that lead behind the end, whatever they make the reader do."""
    with suppress(ModelError):  # cut within the padding at its end it is still whole
        import_tflite(DENSE[:length], {})


@pytest.mark.parametrize("tail", [b"", bytes(64), b"\xff" * 64])
def test_a_damaged_tflite_file_is_refused(tail: bytes):
    """A file with the identifier and nothing sensible after it is refused."""
    with pytest.raises(ModelError, match="TFLite"):
        import_tflite(b"\x1c\x00\x00\x00TFL3" + tail, {})
