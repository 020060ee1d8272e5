"""The probe: which inputs the reference check uses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlab.compiling.reference import probe, to_bytes
from vlab.errors import ModelError
from vlab.records import TensorSpec

IMAGE = TensorSpec(name="image", shape=(1, 1, 8, 8), dtype="float32")
ROW = TensorSpec(name="row", shape=(2,), dtype="int64")


def saved(folder: Path, columns: dict[str, Any]) -> Path:
    """A data set with these columns."""
    np.savez(folder / "data.npz", **columns)
    return folder / "data.npz"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"x": np.ones((4, 1, 8, 8))}, r"float64\[1, 8, 8\]; expected float32\[1, 1, 8, 8\] for input image"),
        ({"x": np.ones((4, 9), np.float32)}, r"float32\[9\]; expected"),
        ({"images": np.ones((4, 64), np.float32)}, "expected an .npz with rows under x"),
        ({"x": np.ones((0, 64), np.float32)}, "at least 1"),
        ({"x": np.array([{}], dtype=object)}, "expected an .npz with rows under x"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, columns: dict[str, Any], told: str):
    """A data set of another shape or type is not reinterpreted, and one with objects in it never unpickled."""
    with pytest.raises(ModelError, match=told):
        probe([IMAGE], saved(tmp_path, columns), operations=1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"x,y\n1,2\n"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes):
    """Only .npz is read."""
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(ModelError, match="holds no inputs"):
        probe([IMAGE], tmp_path / "data.npz", operations=1)


def test_the_first_rows_are_used_in_the_models_shape(tmp_path: Path):
    """At most 32 rows, the first ones, each as one input."""
    rows = np.arange(40 * 64, dtype=np.float32).reshape(40, 1, 8, 8)
    samples = probe([IMAGE], saved(tmp_path, {"x": rows, "y": np.arange(40)}), operations=0)

    assert 32 == len(samples)
    assert rows[:32].tobytes() == to_bytes(samples)
    assert {(1, 1, 8, 8)} == {array.shape for sample in samples for array in sample}


def test_several_inputs_come_by_name(tmp_path: Path):
    """With several inputs each has a column of its name, and a sample has them in the model's order."""
    columns = {"row": np.ones((3, 2), np.int64), "image": np.zeros((3, 64), np.float32)}
    samples = probe([IMAGE, ROW], saved(tmp_path, columns), operations=1)

    assert [["float32", "int64"]] * 3 == [[str(array.dtype) for array in sample] for sample in samples]


def test_columns_of_different_length_are_refused(tmp_path: Path):
    """Rows of different inputs belong together."""
    columns = {"row": np.ones((3, 2), np.int64), "image": np.zeros((4, 64), np.float32)}
    with pytest.raises(ModelError, match=r"has \[3, 4\] rows"):
        probe([IMAGE, ROW], saved(tmp_path, columns), operations=1)


def test_without_a_data_set_the_probe_is_random_but_always_the_same():
    """Random inputs are seeded; whole numbers are small enough to be indices."""
    samples = probe([IMAGE, ROW], None, operations=1)

    assert to_bytes(samples) == to_bytes(probe([IMAGE, ROW], None, operations=1))
    assert {0, 1} >= {int(value) for sample in samples for value in sample[1]}


@pytest.mark.parametrize(("operations", "count"), [(5_000_000, 32), (600_000_000, 3), (10**12, 1)])
def test_a_large_model_is_probed_with_fewer_inputs(tmp_path: Path, operations: int, count: int):
    """Emulating a large model for 32 inputs would take hours; one input at least is always compared."""
    path = saved(tmp_path, {"x": np.zeros((40, 64), np.float32)})

    assert count == len(probe([IMAGE], path, operations=operations))
