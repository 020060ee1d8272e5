"""The reference check: which inputs it uses, and what it says of outputs that differ."""

import ast
from pathlib import Path

import numpy as np
import pytest

from vlab import compiling
from vlab.compiling import toolchain
from vlab.compiling.checking import Answers, agreed
from vlab.compiling.exchange import ProbeCase, Product
from vlab.errors import CompileError, DifferenceError
from vlab.records import TensorSpec

LOGITS = TensorSpec(name="y", shape=(1, 3), dtype="float32")
REFERENCE = np.array([[[1, 2, 30]], [[4, 6, 5]]], np.float32)


def product(*outputs: TensorSpec, cases: dict[str, int] | None = None) -> Product:
    """What a worker says of a model with these outputs; cases by name with their inputs, those called edge are edges."""
    probe = cases or {"rows": 2}
    return Product(
        notices=(),
        llvm="22",
        reference="onnxruntime 1",
        cases=tuple(ProbeCase(name=name, inputs=count, edge=name.startswith("edge")) for name, count in probe.items()),
        inputs=(),
        outputs=outputs or (LOGITS,),
        kernels=(),
        arena_bytes=0,
        workspace_bytes=0,
        weights_bytes=0,
        threads=1,
    )


def test_outputs_that_agree_give_their_figures():
    """What is found within the tolerance stands in the record, by output and by case."""
    figures = agreed(Answers([REFERENCE + np.float32(0.00045)], [REFERENCE]), product())

    assert (2, "onnxruntime 1") == (figures.inputs, figures.reference)
    assert pytest.approx(6e-4) == figures.tolerance
    assert [pytest.approx(0.00045, rel=1e-3)] * 2 == [figures.max_abs_err, figures.rmse]
    assert [("y", figures.max_abs_err)] == [(one.name, one.max_abs_err) for one in figures.outputs]
    assert [("rows", 2)] == [(case.name, case.inputs) for case in figures.cases]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (0.0007, r"over 2 inputs: output y by up to 0\.0007 \(allowed 0\.0006\); top-1 agreement 100\.0%; on: rows"),
        (-10.0, r"output y by up to 10 .*top-1 agreement 50\.0%"),
        (np.nan, "infinities or NaN"),
        (np.inf, "infinities or NaN"),
    ],
)
def test_one_wrong_value_is_refused_with_the_figures(change: float, told: str):
    """A single value beyond the tolerance, or not finite where the reference is, is enough."""
    wrong = REFERENCE.copy()
    wrong[1, 0, 1] += np.float32(change)

    with pytest.raises(DifferenceError, match=told):
        agreed(Answers([wrong], [REFERENCE]), product())


def test_only_the_wrong_output_is_named():
    """A large output does not hide the error of a small one, and is not blamed for it."""
    specs = [TensorSpec(name="large", shape=(1,), dtype="float32"), TensorSpec(name="small", shape=(2,), dtype="float32")]
    large, small = np.array([[1e6]], np.float32), np.array([[0.5, 0.5]], np.float32)
    wrong = np.array([[0.5, 0.6]], np.float32)

    with pytest.raises(DifferenceError, match=r"inputs: output small by up to 0\.1 \(allowed 0\.0001\);"):
        agreed(Answers([large, wrong], [large, small]), product(*specs, cases={"one": 1}))


def test_an_edge_must_agree_and_stays_out_of_the_figures():
    """Edge cases count for the verdict by name; error and agreement of the artifact are those of ordinary inputs."""
    sides = product(cases={"rows": 1, "edge of zeros": 1})
    right = np.concatenate([REFERENCE[:1], REFERENCE[1:] + np.float32(1e-4)])

    figures = agreed(Answers([right], [REFERENCE]), sides)
    assert (1, 0.0) == (figures.inputs, figures.max_abs_err)
    assert [0.0, pytest.approx(1e-4, rel=1e-2)] == [case.max_abs_err for case in figures.cases]

    with pytest.raises(DifferenceError, match="on: edge of zeros"):
        agreed(Answers([right + np.array([[[0]], [[1]]], np.float32)], [REFERENCE]), sides)


def test_a_reference_that_settles_nothing_is_no_reference():
    """A model whose answers change by themselves, such as one with random operators, cannot be checked."""
    moved = [[REFERENCE + 1]]

    with pytest.raises(CompileError, match=r"100\.0% of output y differs .* look for random"):
        agreed(Answers([REFERENCE + 2], [REFERENCE], moved), product())
    assert 0 == agreed(Answers([REFERENCE], [REFERENCE], moved), product()).max_abs_err


def test_the_cache_key_covers_what_the_check_rests_on():
    """Every module of vlab that the stage imports is digested into the key, but for those that only run programs."""
    folder = Path(compiling.__file__).parent
    imported = set()
    for node in (node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and node.module == "vlab":
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlab."):
            imported.add(str(node.module).split(".")[1])

    assert imported - {"compiling", "errors", "processes", "settings"} == set(toolchain._SHARED)
