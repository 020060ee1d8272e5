"""Which inputs an artifact is checked on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.unit.compiling.conftest import onnx_model, tensor
from vlab.compiling.probing import Case, cases, rounded
from vlab.compiling.reading.outlining import Outline, outline_model
from vlab.errors import ModelError
from vlab.records import ModelFormat, TensorSpec

IMAGE = TensorSpec(name="image", shape=(1, 1, 8, 8), dtype="float32")
ROW = TensorSpec(name="row", shape=(2,), dtype="int64")
NOTHING = Outline((), ("image", "row"), (), {}, {}, {}, {})


def saved(folder: Path, columns: dict[str, Any]) -> Path:
    """A data set with these columns."""
    np.savez(folder / "data.npz", **columns)
    return folder / "data.npz"


def outline(nodes: list[Any], inputs: list[Any], weights: dict[str, Any]) -> Outline:
    """Outline of an ONNX model of these parts."""
    model = onnx_model(nodes, inputs, [tensor(nodes[-1].output[0], None)], weights)
    return outline_model(model.SerializeToString(), ModelFormat.onnx, {})


def named(found: list[Case]) -> dict[str, Case]:
    """Cases by name."""
    return {case.name: case for case in found}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"x": np.ones((4, 1, 8, 8))}, r"float64\[1, 8, 8\], input image takes float32\[1, 1, 8, 8\]"),
        ({"images": np.ones((4, 64), np.float32)}, r"has inputs \['images'\], the model takes \['image'\]"),
        ({"x": np.array([{}], dtype=object)}, "not an .npz of plain arrays"),
        ({"image": np.zeros((4, 64), np.float32), "row": np.ones((3, 2), np.int64)}, "same number for every input"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, columns: dict[str, Any], told: str):
    """A data set of another shape or type is not reinterpreted, and one with objects in it never unpickled."""
    with pytest.raises(ModelError, match=told):
        cases([IMAGE], NOTHING, saved(tmp_path, columns), operations=1)


def test_the_first_rows_are_used_and_their_range(tmp_path: Path):
    """At most 32 rows, the first ones, each as one input; the ends are those of all rows."""
    rows = np.arange(40 * 64, dtype=np.float32).reshape(40, 1, 8, 8)
    found = cases([IMAGE], NOTHING, saved(tmp_path, {"x": rows, "y": np.arange(40)}), operations=0)
    (images,) = found[0].columns

    assert (32, 1, 1, 8, 8) == images.shape
    assert rows[:32].tobytes() == images.tobytes()
    assert {0.0, 2559.0} == set(named(found)["ends"].columns[0].ravel().tolist())


def test_several_inputs_come_by_name(tmp_path: Path):
    """With several inputs each has a column of its name, and they come in the model's order."""
    columns = {"row": np.ones((3, 2), np.int64), "image": np.zeros((3, 64), np.float32)}
    found = cases([IMAGE, ROW], NOTHING, saved(tmp_path, columns), operations=1)[0].columns

    assert [((3, 1, 1, 8, 8), "float32"), ((3, 2), "int64")] == [(array.shape, str(array.dtype)) for array in found]


def test_without_a_data_set_three_seeds_and_every_edge():
    """Random samples of several seeds, then each edge once, always the same."""
    found = cases([IMAGE, ROW], NOTHING, None, operations=1, magnitude=1e4)

    assert ["random, seed 1", "random, seed 2", "random, seed 3"] == [case.name for case in found if not case.edge]
    assert ["zeros", "large, up to 10000", "ends", "largest", "smallest", "denormals"] == [
        case.name for case in found if case.edge
    ]
    assert [4, 4, 4, 1, 1, 1, 1, 1, 1] == [len(case.columns[0]) for case in found]
    again = cases([IMAGE, ROW], NOTHING, None, operations=1, magnitude=1e4)
    assert all(map(np.array_equal, [c for case in found for c in case.columns], [c for case in again for c in case.columns]))
    denormal = np.abs(named(found)["denormals"].columns[0])
    assert 0 < denormal.min()
    assert denormal.max() < np.finfo(np.float32).tiny


@pytest.mark.parametrize(("operations", "count"), [(5_000_000, 37), (600_000_000, 2), (10**12, 1)])
def test_a_large_model_is_probed_with_fewer_inputs(tmp_path: Path, operations: int, count: int):
    """Emulating a large model for all inputs would take hours; one ordinary input at least is always compared."""
    path = saved(tmp_path, {"x": np.zeros((40, 64), np.float32)})
    found = cases([IMAGE], NOTHING, path, operations=operations)

    assert count == sum(len(case.columns[0]) for case in found)
    assert not found[0].edge


def test_indices_stay_within_their_table():
    """Token ids reach from the first to the last row of the table they look into, also through a cast and a reshape."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["wide", "shape"], ["flat"]),
        helper.make_node("Gather", ["table", "flat"], ["y"]),
    ]
    weights = {"table": np.zeros((30, 4), np.float32), "shape": np.array([6])}
    seen = outline(nodes, [tensor("ids", [2, 3], TensorProto.INT32)], weights)
    found = named(cases([TensorSpec(name="ids", shape=(2, 3), dtype="int32")], seen, None, operations=1))

    assert [{29}, {0}, {0}] == [set(found[name].columns[0].ravel().tolist()) for name in ("largest", "smallest", "zeros")]
    values = found["random, seed 1"].columns[0]
    assert values.max() > 1
    assert values.max() < 30


MASKED = [
    helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
    helper.make_node("Sub", ["one", "f"], ["n"]),
    helper.make_node("Mul", ["n", "least"], ["m"]),
    helper.make_node("Add", ["m", "score"], ["y"]),
]
SAMPLED = [
    helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
    helper.make_node("Div", ["f", "full"], ["s"]),
    helper.make_node("MatMul", ["s", "w"], ["y"]),
]
SHIFTED = [helper.make_node("Add", ["x", "two"], ["i"]), helper.make_node("Gather", ["table", "i"], ["y"])]
COMPARED = [helper.make_node("Less", ["x", "full"], ["y"])]
DIVIDING = [helper.make_node("Div", ["whole", "x"], ["y"])]
SUMMED = [helper.make_node("ReduceSum", ["x"], ["y"])]


@pytest.mark.parametrize(
    ("nodes", "dtype", "ends"),
    [
        pytest.param(MASKED, "int64", (0, 1), id="mask"),
        pytest.param(SAMPLED, "int16", (-32768, 32767), id="samples of 16 bits"),
        pytest.param(SHIFTED, "int32", (-2, 27), id="index behind an addition"),
        pytest.param(COMPARED, "int32", (0, 32769), id="comparison"),
        pytest.param(DIVIDING, "int32", (1, 100), id="divisor"),
        pytest.param(SUMMED, "uint16", (0, 100), id="arithmetic"),
    ],
)
def test_whole_numbers_reach_as_far_as_the_graph_tells(nodes: list[Any], dtype: str, ends: tuple[int, int]):
    """Both ends occur, and random values lie between them."""
    weights = {
        "one": np.float32(1), "least": np.float32(-1e4), "full": np.float32(32768), "score": np.zeros((1, 40), np.float32),
        "w": np.zeros((40, 2), np.float32), "two": np.int32(2), "table": np.zeros((30, 4), np.float32),
        "whole": np.full((1, 40), 7),
    }  # fmt: skip
    seen = outline(nodes, [tensor("x", [1, 40], helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))], weights)
    found = named(cases([TensorSpec(name="x", shape=(1, 40), dtype=dtype)], seen, None, operations=1))

    assert list(ends) == [found[name].columns[0].flat[0] for name in ("smallest", "largest")]
    values = found["random, seed 1"].columns[0]
    assert ends[0] <= values.min() < values.max() <= ends[1]


def test_quantised_inputs_take_their_whole_range():
    """An int8 input reaches its saturating ends, and zero is its zero point."""
    nodes = [helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["y"])]
    seen = outline(nodes, [tensor("x", [1, 500], TensorProto.INT8)], {"scale": np.float32(0.1), "zero": np.int8(-5)})
    found = named(cases([TensorSpec(name="x", shape=(1, 500), dtype="int8")], seen, None, operations=1))

    assert (-128, 127) == (found["random, seed 1"].columns[0].min(), found["random, seed 1"].columns[0].max())
    assert [{-128, 127}, {-5}] == [set(found[name].columns[0].ravel().tolist()) for name in ("ends", "zeros")]
    assert "denormals" not in found
    assert pytest.approx(0.1) == seen.step("y")


def test_a_float_input_that_is_quantised_at_once_has_the_calibrated_range():
    """The range follows from scale and zero point: -128 and 127 times the scale."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    seen = outline(nodes, [tensor("x", [1, 50])], {"scale": np.float32(0.5), "zero": np.int8(0)})
    found = named(cases([TensorSpec(name="x", shape=(1, 50), dtype="float32")], seen, None, operations=1))

    assert {-64.0, 63.5} == set(found["ends"].columns[0].ravel().tolist())
    assert found["random, seed 1"].columns[0].max() > 40


def test_rounding_moves_floats_by_a_little_and_nothing_else():
    """Each float is another one nearby; whole numbers stay, and inputs without floats give nothing to move."""
    floats, whole = np.full((1, 100), 3.0, np.float32), np.arange(100)
    moved = rounded([floats, whole], 1)

    assert moved is not None
    assert (np.abs(moved[0] / 3 - 1) < 1e-5).all()
    assert (moved[0] != floats).all()
    assert np.array_equal(whole, moved[1])
    assert rounded([whole], 1) is None
