"""The search for a wrong operator, over graphs of any form."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from tests.unit.compiling.conftest import onnx_model, small_cnn, tensor
from tests.unit.compiling.tflite_model import dense_softmax
from vlab import targets
from vlab.compiling.exchange import Order
from vlab.compiling.localising import Difference, behind, halve, locate, on_the_way
from vlab.compiling.reading.cutting import cut
from vlab.compiling.reading.outlining import Operator, Outline, outline_model
from vlab.records import CompileOptions, ModelFormat, ModelRef
from vlab.reference import load


@st.composite
def graphs(draw: Any) -> tuple[Outline, set[str]]:
    """A graph of operators, each reading up to two earlier tensors, and those that are compiled wrongly, at least one."""
    count = draw(st.integers(1, 24))
    operators, names = [], ["x"]
    for index in range(count):
        taken = draw(st.lists(st.sampled_from(names[-6:]), min_size=1, max_size=2))
        operators.append(Operator(f"n{index}", "Op", tuple(taken), (f"t{index}",)))
        names.append(f"t{index}")
    wrong = draw(st.sets(st.sampled_from(names[1:]), min_size=1, max_size=3))
    shapes = dict.fromkeys(names, (1,))
    outline = Outline(tuple(operators), ("x",), (names[-1],), shapes, dict.fromkeys(names, "float32"), {}, {})
    return outline, wrong


@given(graphs())
def test_what_is_found_is_an_operator_with_right_inputs(drawn: tuple[Outline, set[str]]):
    """Whatever the graph: if the output differs, a wrong operator is named whose inputs do not differ."""
    outline, wrong = drawn
    differing: set[str] = set()
    for operator in outline.operators:
        if wrong.union(differing).intersection({*operator.inputs, *operator.outputs}):
            differing.update(operator.outputs)
    asked = []

    def ask(name: str) -> Difference | None:
        asked.append(name)
        return Difference(name, "", "") if name in differing else None

    candidates = on_the_way(outline, outline.outputs)
    found = halve(outline, candidates, ask)

    assert (found is not None) == (outline.outputs[0] in differing)
    if found is not None:
        assert found.tensor in wrong
        assert not differing.intersection(outline.maker[found.tensor].inputs)


def test_the_search_begins_at_an_output_that_differs():
    """A right output beside it, also one that comes later in the model, leads nowhere."""
    operators = [Operator(f"n{to}", "Op", (taken,), (to,)) for taken, to in ("xa", "ab", "bc", "xd", "de", "ef")]
    names = "xabcdef"
    outline = Outline(tuple(operators), ("x",), ("f", "c"), dict.fromkeys(names, (1,)), dict.fromkeys(names, "float32"), {}, {})
    for outputs in (["c"], ["f", "c"]):
        found = behind(outline, outputs, lambda name: Difference(name, "", "") if name in "bc" else None)
        assert found is not None
        assert found.tensor == "b"


def test_a_chain_takes_few_questions():
    """Of a thousand operators a dozen are compiled up to."""
    operators = tuple(Operator(f"n{i}", "Op", (f"t{i - 1}" if i else "x",), (f"t{i}",)) for i in range(1000))
    names = {f"t{i}": (1,) for i in range(1000)}
    outline = Outline(operators, ("x",), ("t999",), names, dict.fromkeys(names, "float32"), {}, {})
    asked: list[str] = []

    def ask(name: str) -> Difference | None:
        asked.append(name)
        return Difference(name, "", "") if int(name[1:]) >= 700 else None

    found = halve(outline, on_the_way(outline, ["t999"]), ask)

    assert found is not None
    assert "t700" == found.tensor
    assert len(asked) < 14


def test_a_search_that_fails_is_no_error(tmp_path: Path):
    """Whatever happens in the search, what is told is that it did not succeed."""
    order = Order(
        path=str(tmp_path / "gone.onnx"),
        model=ModelRef(name="gone", sha256="0" * 64, format=ModelFormat.onnx, size_bytes=1),
        target=targets.load("host/x86_64"),
        options=CompileOptions(),
        probe_inputs=None,
    )
    for name, limit in (("failing", 60.0), ("late", 0.01)):
        (tmp_path / name).mkdir()
        told = locate(order, [], tmp_path / name, timeout_s=limit)
        assert told in (
            "which operator it is could not be found out; --debug keeps the reason",
            "which operator it is was not found within 0 s",
        )


def test_constants_and_shapes_are_not_on_the_way():
    """Only what depends on the values of the inputs can be compiled wrongly."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Relu", ["w"], ["c"]),
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Mul", ["f", "c"], ["y"]),
        helper.make_node("Sin", ["x"], ["unused"]),
    ]
    model = onnx_model(nodes, [tensor("x", [1, 4])], [tensor("y", [1, 4])], {"w": np.ones(4, np.float32)})
    outline = outline_model(model.SerializeToString(), ModelFormat.onnx, {})

    assert ["y"] == on_the_way(outline, ["y"])


def test_a_part_of_an_onnx_model_computes_the_same():
    """The tensors on the way, without the operators after them."""
    content = small_cnn().SerializeToString()
    outline = outline_model(content, ModelFormat.onnx, {})
    part = cut(content, ModelFormat.onnx, outline, ["b", "a"])
    x = np.random.default_rng(0).standard_normal((1, 1, 1, 8, 8)).astype(np.float32)
    after, before = load(part, ModelFormat.onnx, "part").outputs([x])

    assert (1, 1, 16, 8, 8) == before.shape
    assert np.array_equal(np.maximum(before, 0), after)
    assert 2 == len(outline_model(part, ModelFormat.onnx, {}).operators)


def test_a_part_keeps_what_its_branches_read():
    """An operator with a graph inside needs tensors that only that graph names."""
    branch = helper.make_graph([helper.make_node("Neg", ["a"], ["n"])], "branch", [], [tensor("n", [1, 4])])
    nodes = [
        helper.make_node("Sin", ["x"], ["a"]),
        helper.make_node("If", ["flag"], ["z"], then_branch=branch, else_branch=branch),
        helper.make_node("Relu", ["z"], ["y"]),
    ]
    model = onnx_model(nodes, [tensor("x", [1, 4])], [tensor("y", [1, 4])], {"flag": np.array([True])})
    content = model.SerializeToString()
    part = cut(content, ModelFormat.onnx, outline_model(content, ModelFormat.onnx, {}), ["z"])

    assert ["Sin", "If"] == [operator.kind for operator in outline_model(part, ModelFormat.onnx, {}).operators]


def test_a_part_of_a_tflite_model_computes_the_same():
    """Another vector of outputs at the end of the file is all that changes."""
    content = dense_softmax()
    outline = outline_model(content, ModelFormat.tflite, {})
    part = cut(content, ModelFormat.tflite, outline, ["hidden", "y"])
    x = np.ones((1, 1, 4), np.float32)
    hidden, y = load(part, ModelFormat.tflite, "part").outputs([x])
    exponentials = np.exp(hidden - hidden.max())

    assert 4 >= sum(ours != theirs for ours, theirs in zip(part, content, strict=False))
    assert np.allclose(exponentials / exponentials.sum(), y, atol=1e-6)
    assert np.array_equal(y, load(content, ModelFormat.tflite, "whole").outputs([x])[0])
