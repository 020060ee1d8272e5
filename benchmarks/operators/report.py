"""Results as docs/operators.md, and back: which cases the page says do not pass."""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.operators.running import Outcome, Result

_LISTS = "## Cases that do not pass"

_INTRODUCTION = """\
# ONNX operators

What compiles, found by running ONNX's own node tests (`onnx.backend.test.case.node`, {count} cases without those that repeat
another with the operator's function body) through the whole compile path: import, kernels, C, link, the check against a
reference runtime that every artifact must pass, and then the executable on the test's own input against the test's expected
outputs (relative tolerance 1e-3 as the tests have it, or two units in the last place of an output's largest value).

All inputs of a case but the first are made initialisers: in models they are weights, axes and shapes that the exporter wrote
down. Compiled for `host/x86_64` with onnx {onnx} and onnxruntime {onnxruntime}. This page is written by
`python -m benchmarks.operators`.

{totals}

A refused model is refused with all its operators at once, their nodes, the reason, and where there is one the nearest form that
compiles. **Wrong, caught** means that no artifact came of it: our outputs and the reference runtime's differ, among them cases
where ONNX Runtime itself does not do what ONNX says. **Wrong, not caught** must be none.
"""


def page(results: Sequence[Result]) -> str:
    """The page for results of all cases."""
    introduction = _INTRODUCTION.format(
        count=len(results),
        onnx=importlib.metadata.version("onnx"),
        onnxruntime=importlib.metadata.version("onnxruntime"),
        totals=_totals(results),
    )
    return "\n".join([introduction, _by_operator(results), "", _LISTS, "", *_lists(results)]) + "\n"


def listed(text: str) -> dict[str, Outcome]:
    """The cases that a page says do not pass, and what became of each."""
    found = {}
    for line in text[text.index(_LISTS) :].splitlines():
        if match := re.fullmatch(r"\*\*(.+)\*\*: (.*)", line):
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", match[2]), Outcome(match[1])))
    return found


def _totals(results: Sequence[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    rows = [f"| {outcome} | {counts[outcome]} |" for outcome in Outcome]
    return "\n".join(["| outcome | cases |", "| --- | ---: |", *rows])


def _by_operator(results: Sequence[Result]) -> str:
    rows = ["| operator | passed | of | what remains |", "| --- | ---: | ---: | --- |"]
    for operator in sorted({result.operator for result in results}, key=str.lower):
        own = [result for result in results if result.operator == operator]
        reasons = Counter(reason(result) for result in own if result.outcome is not Outcome.passed)
        told = "; ".join(f"{text} ({count})" if count > 1 else text for text, count in reasons.most_common())
        rows.append(f"| {operator} | {sum(one.outcome is Outcome.passed for one in own)} | {len(own)} | {told} |")
    return "\n".join(["## By operator", "", *rows])


def _lists(results: Sequence[Result]) -> Iterable[str]:
    for outcome in Outcome:
        names = [f"`{result.case}`" for result in results if result.outcome is outcome]
        if names and outcome is not Outcome.passed:
            yield f"**{outcome}**: {', '.join(names)}"
            yield ""


_REASONS = (
    (
        r"Unsupported input datatype|param datatype should be|output datatype attribute|TensorCopyFromBytes",
        "8-bit floats, or values of fewer than 8 bits",
    ),
    (r"changes when .* is given inputs that differ by rounding alone", "chaotic: rounding of the input changes the output"),
    (r"differs from (onnxruntime|onnx)\b.*infinities or NaN", r"infinities or NaN differ from \1, caught"),
    (r"differs from (onnxruntime|onnx)\b", r"differs from \1, caught"),
    (r"(?:input|output) \S+ is no tensor|is not a tensor of numbers", "strings, sequences or optional values"),
    (r"(?:input|output) \S+ is ([A-Z]+\d\w*); expected", r"inputs or outputs of type \1"),
    (r"the shapes of all inputs must be fixed", "an input without elements"),
    (r"has no inputs", "a model without inputs"),
    (r"has no elements", "inputs or outputs without elements"),
    (r"(onnxruntime|onnx) [\d.]+ cannot (load|run)", r"\1 cannot \2 it, so there is nothing to compare with"),
    (r"cannot be compiled: \S+ \(node [^)]*\): ([^.;]+)", r"\1"),
    (r"cannot be compiled: \S+ \(node [^)]*\)", "not known"),
)
"""What messages say, in short."""


def reason(result: Result) -> str:
    """Why a case does not pass, in a few words."""
    message = " ".join(result.message.split())
    for pattern, short in _REASONS:
        if match := re.search(pattern, message):
            return _shortened(match.expand(short))
    return _shortened(message)


def _shortened(text: str) -> str:
    plain = text.replace("|", "/").strip()
    return plain if len(plain) <= 140 else f"{plain[:137]}..."
