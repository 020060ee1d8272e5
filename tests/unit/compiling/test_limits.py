"""Models that are too large or made to hurt: refused with figures, in little time and memory, and the caller lives."""

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.artifacts import TRAINED
from tests.unit.compiling.conftest import Save, onnx_model, small_cnn, tensor
from tests.unit.compiling.tflite_model import dense_softmax
from vlab.compiling import Compiled, survey_model
from vlab.compiling.reading.limits import refuse_excess
from vlab.compiling.reading.outlining import outline_model
from vlab.errors import CompileError, ModelError
from vlab.records import ModelFormat

Compile = Callable[..., Compiled]


def refused(model: Any) -> str:
    """What is said of a model before any compiler sees it."""
    with pytest.raises(ModelError) as caught:
        refuse_excess(outline_model(model.SerializeToString(), ModelFormat.onnx, {}))
    return str(caught.value)


def one(operator: str, inputs: list[str], weights: dict[str, Any], *, shape: list[int] | None = None, **attributes: Any) -> Any:
    """A model of one operator named `bomb` over `x`."""
    node = helper.make_node(operator, inputs, ["y"], name="bomb", **attributes)
    return onnx_model([node], [tensor("x", shape or [1, 4])], [tensor("y", None)], weights)


def with_weight(weight: Any) -> Any:
    """X + w for a weight that is not what it says."""
    model = one("Add", ["x", "w"], {})
    model.graph.initializer.append(weight)
    return model


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (
            one("Relu", ["x"], {}, shape=[1, 1 << 29]),
            r"tensor x has shape \[1, 536870912\] and so 2147483648 bytes.* 536870912",
        ),
        (
            with_weight(TensorProto(name="w", data_type=1, dims=[1 << 20, 1 << 9])),
            r"tensor w has shape \[1048576, 512\] and so 2147483648 bytes",
        ),
        (with_weight(TensorProto(name="w", data_type=1, dims=[-1, 4], raw_data=b"")), "no negative extent"),
        (
            with_weight(TensorProto(name="w", data_type=1, dims=[1, 4], raw_data=bytes(15))),
            r"float32\[1, 4\] and so 16 bytes, and has 15",
        ),
        (
            with_weight(TensorProto(name="w", data_type=1, dims=[1 << 40, 1 << 40], raw_data=bytes(16))),
            r"and so \d{25} bytes, and has 16",
        ),
        (one("ConstantOfShape", ["s"], {"s": np.array([1 << 16, 1 << 14])}), r"tensor y of ConstantOfShape \(node bomb\)"),
        (one("Expand", ["x", "s"], {"s": np.array([1 << 28, 4])}), r"tensor y of Expand \(node bomb\) has shape"),
        (one("Tile", ["x", "r"], {"r": np.array([1 << 14, 1 << 14])}), r"tensor y of Tile \(node bomb\) has shape"),
        (one("Pad", ["x", "p"], {"p": np.array([0, 0, 0, 1 << 30])}), r"tensor y of Pad \(node bomb\) has shape"),
        (
            one("QuantizeLinear", ["x", "s", "z"], {"s": np.float32(np.nan), "z": np.int8(0)}),
            r"QuantizeLinear \(node bomb\) has a scale that is not finite",
        ),
        (
            one("MatMul", ["x", "w"], {"w": np.zeros((8192, 1024), np.float32)}, shape=[1 << 14, 8192]),
            r"one inference takes 137438953472 multiply-accumulates \(most of it MatMul \(node bomb\)",
        ),
    ],
)
def test_bombs_are_found_by_estimating(model: Any, told: str):
    """A large tensor is refused by its shape, declared or computed, with the operator; nothing of its size is made."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert re.search(told, refused(model))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


def test_many_tensors_add_up():
    """Each is allowed, all together are not."""
    nodes = [helper.make_node("Expand", ["x", "s"], [f"y{index}"], name=f"e{index}") for index in range(40)]
    model = onnx_model(nodes, [tensor("x", [1])], [tensor("y39", None)], {"s": np.array([1 << 26])})

    assert "compute 10737418240 bytes" in refused(model)


def end_to_end(nodes: list[Any], weights: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A model over x[1, 4] that goes the whole way."""
    model = onnx_model(nodes, [tensor("x", [1, 4])], [tensor("y", ["a", "b"])], weights)
    for name, value in changes.items():
        getattr(model.graph, name).extend(value)
    return model


RELU = helper.make_node("Relu", ["x"], ["y"], name="relu")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (end_to_end([RELU, RELU]), r"Relu \(node relu\) computes y, which exists already"),
        (end_to_end([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]), "has a cycle"),
        (
            end_to_end(
                [helper.make_node("Add", ["x", "w"], ["y"])], initializer=[TensorProto(name="w", data_type=99, dims=[4])]
            ),
            "w has type 99",
        ),
        (
            end_to_end(
                [helper.make_node("Add", ["x", "w"], ["y"])],
                initializer=[helper.make_tensor("w", TensorProto.STRING, [1], [b"text"])],
            ),
            "string|object",
        ),
        (
            end_to_end(
                [
                    helper.make_node("Shape", ["x"], ["s"]),
                    helper.make_node("Mul", ["s", "k"], ["big"]),
                    helper.make_node("ConstantOfShape", ["big"], ["y"], name="bomb"),
                ],
                {"k": np.array([1 << 20, 1 << 20])},
            ),
            "bomb",
        ),
    ],
    ids=["twice", "cycle", "type", "strings", "computed bomb"],
)
def test_broken_graphs_are_refused_and_the_caller_lives(
    save: Save, compile_for: Compile, tmp_path: Path, model: Any, told: str
):
    """Names twice, cycles, unknown types, strings and shapes computed from shapes: one line, no stack trace, no artifact."""
    with pytest.raises((ModelError, CompileError), match=told) as caught:
        compile_for(save(model), cache=tmp_path / "cache")

    assert "\n" not in str(caught.value)
    assert ".cc" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_tflite_tensor_of_two_gigabytes_is_refused(compile_for: Compile, tmp_path: Path):
    """Its shape is declared in four bytes; neither runtime nor compiler is asked for it."""
    content = bytearray(dense_softmax())
    place = content.index(np.array([2, 1, 4], "<i4").tobytes()) + 4  # a vector is its length, then its values
    content[place : place + 8] = np.array([1 << 15, 1 << 14], "<i4").tobytes()
    path = tmp_path / "bomb.tflite"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"tensor x has shape \[32768, 16384\] and so 2147483648 bytes"):
        compile_for(path)


def test_a_survey_tells_what_is_too_large_from_a_process_of_its_own(save: Save):
    """What the lab asks before its reference runtime sees a model; a model that fits passes."""
    survey_model(save(small_cnn()), {})

    with pytest.raises(ModelError, match=r"tensor x has shape \[1, 536870912\] and so 2147483648 bytes"):
        survey_model(save(one("Relu", ["x"], {}, shape=[1, 1 << 29]), "bomb.onnx"), {})


def test_a_tflite_scale_that_is_no_number_is_refused():
    """A quantised model from which no value follows."""
    path = TRAINED / "ad01_int8.tflite"
    if not path.is_file():
        pytest.skip(f"needs the MLPerf Tiny models, looked for {path}")
    content = bytearray(path.read_bytes())
    place = content.index(np.float32(0.39101523).tobytes())
    content[place : place + 4] = np.float32(np.nan).tobytes()

    with pytest.raises(ModelError, match="tensor input_1 has the scale nan"):
        outline_model(bytes(content), ModelFormat.tflite, {})


@settings(deadline=None)
@given(place=st.integers(0, 10_000), word=st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x10000]))
def test_damaged_offsets_and_lengths_lead_nowhere(place: int, word: int):
    """Whatever four bytes of a TFLite file say, reading it ends soon, in an outline or in a refusal."""
    content = bytearray(dense_softmax())
    at = place % (len(content) - 4)
    content[at : at + 4] = word.to_bytes(4, "little")
    try:
        refuse_excess(outline_model(bytes(content), ModelFormat.tflite, {}))
    except ModelError:
        return


@settings(deadline=None)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_onnx_model_is_outlined_or_refused(place: int, byte: int):
    """Nothing but a ModelError comes out of any change of one byte."""
    content = bytearray(small_cnn().SerializeToString())
    content[place % len(content)] = byte
    try:
        refuse_excess(outline_model(bytes(content), ModelFormat.onnx, {}))
    except ModelError:
        return
