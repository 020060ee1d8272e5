"""The reference check: which inputs it uses, and what it says of outputs that differ."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlab import compiling
from vlab.compiling import toolchain
from vlab.compiling.checking import agreed, probe
from vlab.errors import CompileError, ModelError
from vlab.numerics import compare
from vlab.records import TensorSpec

IMAGE = TensorSpec(name="image", shape=(1, 1, 8, 8), dtype="float32")
ROW = TensorSpec(name="row", shape=(2,), dtype="int64")

LOGITS = TensorSpec(name="y", shape=(1, 3), dtype="float32")
REFERENCE = np.array([[[1, 2, 30]], [[4, 6, 5]]], np.float32)


def saved(folder: Path, columns: dict[str, Any]) -> Path:
    """A data set with these columns."""
    np.savez(folder / "data.npz", **columns)
    return folder / "data.npz"


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
        probe([IMAGE], saved(tmp_path, columns), operations=1)


def test_the_first_rows_are_used_in_the_models_shape(tmp_path: Path):
    """At most 32 rows, the first ones, each as one input."""
    rows = np.arange(40 * 64, dtype=np.float32).reshape(40, 1, 8, 8)
    (images,) = probe([IMAGE], saved(tmp_path, {"x": rows, "y": np.arange(40)}), operations=0)

    assert (32, 1, 1, 8, 8) == images.shape
    assert rows[:32].tobytes() == images.tobytes()


def test_several_inputs_come_by_name(tmp_path: Path):
    """With several inputs each has a column of its name, and they come in the model's order."""
    columns = {"row": np.ones((3, 2), np.int64), "image": np.zeros((3, 64), np.float32)}
    found = probe([IMAGE, ROW], saved(tmp_path, columns), operations=1)

    assert [((3, 1, 1, 8, 8), "float32"), ((3, 2), "int64")] == [(array.shape, str(array.dtype)) for array in found]


def test_without_a_data_set_the_probe_is_random():
    """Eight random samples stand in for real ones."""
    assert [(8, 1, 1, 8, 8), (8, 2)] == [array.shape for array in probe([IMAGE, ROW], None, operations=1)]


@pytest.mark.parametrize(("operations", "count"), [(5_000_000, 32), (600_000_000, 3), (10**12, 1)])
def test_a_large_model_is_probed_with_fewer_inputs(tmp_path: Path, operations: int, count: int):
    """Emulating a large model for 32 inputs would take hours; one input at least is always compared."""
    path = saved(tmp_path, {"x": np.zeros((40, 64), np.float32)})

    assert count == len(probe([IMAGE], path, operations=operations)[0])


def test_outputs_that_agree_give_their_figures():
    """What is found within the tolerance stands in the record."""
    figures = agreed(compare([REFERENCE + np.float32(0.0029)], [REFERENCE], reference="onnxruntime 1"), [LOGITS])

    assert (2, "onnxruntime 1") == (figures.inputs, figures.reference)
    assert pytest.approx(0.003) == figures.tolerance
    assert [pytest.approx(0.0029, rel=1e-3)] * 2 == [figures.max_abs_err, figures.rmse]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (0.0031, r"over 2 inputs: output y by up to 0\.0031 \(allowed 0\.003\); top-1 agreement 100\.0%"),
        (-10.0, r"output y by up to 10 .*top-1 agreement 50\.0%"),
        (np.nan, "infinities or NaN"),
        (np.inf, "infinities or NaN"),
    ],
)
def test_one_wrong_value_is_refused_with_the_figures(change: float, told: str):
    """A single value beyond the tolerance, or not finite where the reference is, is enough."""
    wrong = REFERENCE.copy()
    wrong[1, 0, 1] += np.float32(change)

    with pytest.raises(CompileError, match=told):
        agreed(compare([wrong], [REFERENCE], reference="r"), [LOGITS])


def test_only_the_wrong_output_is_named():
    """A large output does not hide the error of a small one, and is not blamed for it."""
    specs = [TensorSpec(name="large", shape=(1,), dtype="float32"), TensorSpec(name="small", shape=(2,), dtype="float32")]
    large, small = np.array([[1e6]], np.float32), np.array([[0.5, 0.5]], np.float32)
    wrong = np.array([[0.5, 0.6]], np.float32)

    with pytest.raises(CompileError, match=r"inputs: output small by up to 0\.1 \(allowed 0\.0001\);"):
        agreed(compare([large, wrong], [large, small], reference="r"), specs)


def test_the_cache_key_covers_what_the_check_rests_on():
    """Every module of vlab that the stage imports is digested into the key, but for those that carry values or run programs."""
    folder = Path(compiling.__file__).parent
    imported = set()
    for node in (node for path in folder.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module == "vlab":
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlab."):
            imported.add(str(node.module).split(".")[1])

    assert {f"{name}.py" for name in imported - {"compiling", "errors", "processes", "records", "settings", "targets"}} == set(
        toolchain._CHECK
    )
