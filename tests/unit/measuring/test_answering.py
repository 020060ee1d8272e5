"""Reference outputs and random inputs, by ONNX Runtime on the example and on small models."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.artifacts import DIGITS, DIGITS_TEST
from vlab.errors import MeasureError, ModelError
from vlab.measuring import answering, load_dataset, load_reference, random_inputs, reference_outputs
from vlab.records import ModelFormat


def save_sum(path: Path, first: list[int | str], second: list[int | str]) -> Path:
    """A model that adds its inputs `a` and `b`, and also gives their difference."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["s"]), helper.make_node("Sub", ["a", "b"], ["d"])],
        "sum",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("a", first), ("b", second))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, first) for n in "sd"],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_the_example_is_as_accurate_as_its_readme_says(tmp_path: Path) -> None:
    """444 of the 450 held-out digits are right, by ONNX Runtime."""
    inputs, labels = load_dataset(DIGITS_TEST)
    (tmp_path / "r.npz").write_bytes(reference_outputs(DIGITS, ModelFormat.onnx, inputs))
    reference = load_reference(tmp_path / "r.npz")

    assert reference.runtime.startswith("onnxruntime ")
    assert (450, 1, 10) == reference.outputs[0].shape
    assert 444 == int((reference.outputs[0][:, 0].argmax(axis=1) == labels).sum())


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Rows under the inputs' names give one array for each output, in the model's order; free dimensions come from the rows."""
    model = save_sum(tmp_path / "m.onnx", ["N", 3], ["N", 3])
    a, b = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones((4, 3), np.float32)
    np.savez(tmp_path / "d.npz", b=b, a=a)
    inputs, _ = load_dataset(tmp_path / "d.npz")
    (tmp_path / "r.npz").write_bytes(reference_outputs(model, ModelFormat.onnx, inputs))
    total, difference = load_reference(tmp_path / "r.npz").outputs

    assert (a + b).tolist() == total.reshape(4, 3).tolist()
    assert (a - b).tolist() == difference.reshape(4, 3).tolist()


def test_rows_that_do_not_fit_are_refused() -> None:
    """Rows of another size are not fed to the runtime."""
    with pytest.raises(MeasureError, match="image"):
        reference_outputs(DIGITS, ModelFormat.onnx, np.zeros((2, 5), np.float32))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """The runtime's own words come with a clear error."""
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"cannot load m\.onnx"):
        reference_outputs(tmp_path / "m.onnx", ModelFormat.onnx, np.zeros((2, 5), np.float32))


def test_random_inputs_fit_the_model_and_repeat(tmp_path: Path) -> None:
    """Random rows have the model's shapes and are the same every time."""
    content = random_inputs(DIGITS, ModelFormat.onnx, {})
    (tmp_path / "d.npz").write_bytes(content)
    inputs, labels = load_dataset(tmp_path / "d.npz")

    assert labels is None
    assert ((32, 1, 1, 8, 8), np.dtype(np.float32)) == (inputs.shape, inputs.dtype)
    assert content == random_inputs(DIGITS, ModelFormat.onnx, {})
    assert reference_outputs(DIGITS, ModelFormat.onnx, inputs)


def test_random_inputs_need_every_shape(tmp_path: Path) -> None:
    """A free dimension must be given, but for the batch, which is one row; the message is the option to type."""
    model = save_sum(tmp_path / "m.onnx", ["N", "length"], ["N", "length"])
    with pytest.raises(ModelError, match=r"input a of .*--shape a=1,\?"):
        random_inputs(model, ModelFormat.onnx, {})
    (tmp_path / "d.npz").write_bytes(random_inputs(model, ModelFormat.onnx, {"a": (1, 3), "b": (1, 3)}))

    assert ("a", "b") == load_dataset(tmp_path / "d.npz")[0].dtype.names


def test_a_model_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop of 2**62 rounds is stopped with its process; who asked lives and is told."""
    monkeypatch.setattr(answering, "LIMIT_S", 5.0)
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 2]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor("n", TensorProto.INT64, [], [1 << 62])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")

    with pytest.raises(ModelError, match=r"did not finish m\.onnx within 5 s"):
        reference_outputs(tmp_path / "m.onnx", ModelFormat.onnx, np.zeros((1, 1, 2), np.float32))


def test_a_model_that_takes_all_memory_is_refused(tmp_path: Path) -> None:
    """A terabyte of zeros is asked for in a process with limits."""
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["n"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"])],
        "bomb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("n", TensorProto.INT64, [2], [1 << 37, 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")

    with pytest.raises(ModelError, match=r"m\.onnx"):
        reference_outputs(tmp_path / "m.onnx", ModelFormat.onnx, np.zeros((1, 1, 2), np.float32))
