"""Which operator of a model is compiled wrongly: `python -m vlab.compiling.localising DIRECTORY [OUTPUT ...]`.

The model is compiled for the same target with tensors on the way as outputs, which the reference runtime gives too. Where that
shows nothing, for a microcontroller has no memory for them or the fault is in how operators are fused, single tensors are asked
for, each by a compile of the model up to there: halving the list leads to an operator whose inputs are right and whose output
is not.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlab import processes
from vlab.compiling import exchange
from vlab.compiling.exchange import Order
from vlab.compiling.reading.outlining import Operator, Outline
from vlab.errors import DifferenceError, VlabError
from vlab.numerics import Deviation
from vlab.records import Calls

LIMIT_S = 120.0
_WORK_BYTES = 8 << 30
_ANSWER = "located.txt"
_ALIASES = frozenset(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"))
"""Operators that leave the bytes where they are; what they give is wrong if what they take is."""
_SHAPES = frozenset(("Shape", "Size", "SHAPE", "RANK"))
"""Operators whose result does not depend on any value."""


def locate(order: Order, outputs: Sequence[str], directory: Path, *, timeout_s: float) -> str:
    """Say which operator of the order's model differs first, in a process of its own.

    Args:
        order: what was compiled to outputs that differ.
        outputs: those that differ; any may where that is not known.
        directory: an empty directory.
        timeout_s: limit; `LIMIT_S` at the most.

    Returns:
        A clause such as `the first operator that differs is Resize (node half): ...`, or why none was found. Never raises for
        what goes wrong in the search.
    """
    (directory / exchange.REQUEST).write_bytes(order.to_json())
    limit = min(timeout_s, LIMIT_S)
    try:
        done = processes.run_limited(
            [sys.executable, "-m", "vlab.compiling.localising", directory, *outputs],
            timeout_s=limit,
            cwd=directory,
            env={"TMPDIR": str(directory)},
        )
        (directory / exchange.LOG).write_text(done.stderr, encoding="utf-8")
        return (directory / _ANSWER).read_text(encoding="utf-8")
    except processes.LimitError:
        return f"which operator it is was not found within {limit:.0f} s"
    except (VlabError, OSError, UnicodeDecodeError):
        return "which operator it is could not be found out; --debug keeps the reason"


@dataclass(frozen=True)
class Difference:
    """An output of a part of the model that is not the reference's."""

    tensor: str
    told: str
    kernel: str


@dataclass
class _Search:
    """Compiles parts of one model."""

    order: Order
    directory: Path
    outline: Outline
    content: bytes
    outputs: Sequence[str]
    """Those of the model that differ."""
    deadline: float = field(default_factory=lambda: time.monotonic() + LIMIT_S)
    count: int = 0

    def differences(self, tensors: Sequence[str]) -> list[Difference]:
        """Those of the tensors that are compiled wrongly, in the order given.

        Raises:
            VlabError: the part cannot be compiled or run.
        """
        from vlab.compiling import building, checking, linking
        from vlab.compiling.reading.cutting import cut
        from vlab.compiling.reading.models import inspect_model
        from vlab.compiling.toolchain import Harness

        self.count += 1
        folder = self.directory / f"part-{self.count}"
        folder.mkdir()
        path = folder / "part.model"
        path.write_bytes(cut(self.content, self.order.model.format, self.outline, tensors))
        order = self.order.model_copy(update={"path": str(path), "model": inspect_model(path)})
        left = max(1.0, self.deadline - time.monotonic())
        target = order.target
        product = building.work_apart(order, folder, left, _WORK_BYTES)
        linked = linking.link(folder, target, Harness.of(target), product, timeout_s=left)
        answers = checking.run(linked.executable, target, product, timeout_s=left)
        calls = Calls.from_json((folder / Calls.FILE).read_bytes()).calls
        found = []
        for spec, deviation in zip(product.outputs, answers.compare(product).deviations, strict=True):
            if not deviation.allowed:
                node = self.outline.maker[spec.name].name
                kernel = next((call.kernel for call in calls if node in call.nodes), "")
                found.append(Difference(spec.name, _told(deviation), kernel))
        return found

    def first(self) -> Difference | None:
        """The first operator's difference, or None where none shows."""
        try:
            if found := self.differences(on_the_way(self.outline, self.outputs)):
                return found[0]
        except VlabError as error:
            print(f"all tensors at once: {error}", file=sys.stderr)
        return behind(self.outline, self.outputs, self.one)

    def one(self, tensor: str) -> Difference | None:
        """Whether a tensor differs when the model is compiled up to it alone."""
        try:
            return next(iter(self.differences([tensor])), None)
        except DifferenceError as error:  # of shape or type, which leaves nothing to compare
            return Difference(tensor, str(error), "")
        except VlabError as error:
            print(f"up to {tensor}: {error}", file=sys.stderr)
            return None


def on_the_way(outline: Outline, tensors: Sequence[str]) -> list[str]:
    """What operators compute from the model's inputs on the way to some tensors, in the model's order, those included."""
    needed = set(tensors)
    for operator in reversed(outline.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
    live, found = set(outline.inputs), []
    for operator in outline.operators:
        if operator.kind in _SHAPES or not live.intersection(operator.inputs):
            continue
        live.update(operator.outputs)
        if operator.kind not in _ALIASES:
            known = (name for name in operator.outputs if name in outline.shapes and name in outline.dtypes)
            found += [name for name in known if name in needed]
    return found


def behind(outline: Outline, outputs: Sequence[str], ask: Callable[[str], Difference | None]) -> Difference | None:
    """Find what an output's difference comes from, among outputs of which some differ; asks as `halve` does."""
    for output in outputs:
        candidates = on_the_way(outline, [output])
        if candidates and ask(candidates[-1]):
            return halve(outline, candidates, ask)
    return None


def halve(outline: Outline, candidates: Sequence[str], ask: Callable[[str], Difference | None]) -> Difference | None:
    """Find a tensor that differs while nothing that its operator reads does, by few questions.

    Args:
        outline: the model's graph.
        candidates: tensors in the model's order, of which the last differs.
        ask: whether a tensor differs, and how.

    Returns:
        The tensor's difference; None where none of those that were asked for differs.
    """
    wrong: Difference | None = None
    low, high = 0, len(candidates) - 1
    while low <= high:
        middle = (low + high) // 2
        if found := ask(candidates[middle]):
            wrong, high = found, middle - 1
        else:
            low = middle + 1
    if wrong is None:
        return None
    return behind(outline, outline.maker[wrong.tensor].inputs, ask) or wrong  # the list may hold another branch just before


def _told(deviation: Deviation) -> str:
    specials = "" if deviation.same_specials else ", with other infinities or NaN"
    return f"by up to {deviation.max_abs_err:.3g} (allowed {deviation.tolerance:.3g}{specials})"


def _named(operator: Operator) -> str:
    return f"{operator.kind} (node {operator.name})"


def _answer(search: _Search) -> str:
    operators = search.outline.operators
    if len(operators) == 1:
        return f"it is the model's only operator, {_named(operators[0])}"
    found = search.first()
    if found is None:
        return "no operator differs by itself, so it is how operators are put together into kernels"
    kernel = f", in kernel {found.kernel}" if found.kernel else ""
    return (
        f"the first operator that differs is {_named(search.outline.maker[found.tensor])}: tensor {found.tensor} {found.told}"
        f"{kernel}"
    )


def main() -> None:
    """Search for the order in the directory that is the first argument, from the outputs that are the others."""
    from vlab.compiling.reading.outlining import outline_model

    directory = Path(sys.argv[1])
    order = Order.from_json((directory / exchange.REQUEST).read_bytes())
    content = Path(order.path).read_bytes()
    outline = outline_model(content, order.model.format, order.options.shapes)
    answer = _answer(_Search(order, directory, outline, content, sys.argv[2:] or outline.outputs))
    (directory / _ANSWER).write_text(answer, encoding="utf-8")


if __name__ == "__main__":
    main()
