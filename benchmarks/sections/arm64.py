"""Instructions of one inference against ONNX Runtime's own aarch64 build, in the same emulator with the same processor."""

from collections.abc import Iterator
from functools import partial

from benchmarks.bars import Bar, Row
from benchmarks.sections.bench import Bench, load
from benchmarks.tasks import Figure, Task
from benchmarks.versus import arm64, contest
from vlab import targets
from vlab.errors import MeasureError
from vlab.measuring import counting
from vlab.measuring.running import Program

SECTION = "arm64"
MODELS = ("ds-cnn", "resnet8", "mobilenet-v1-0.25")
_BAR = Bar(limit=1.0)
_INFERENCES = 8
"""ONNX Runtime takes a percent more or less from inference to inference, so its count is a mean."""
_LIMIT_S = 600.0
_RICHEST = "max"
"""QEMU's processor with everything it knows, where ONNX Runtime has its newest kernels to choose from; no bar is set there."""


def tasks(bench: Bench) -> Iterator[Task]:
    """The small models on every aarch64 target; quick on the first alone, in a full run also on QEMU's own processor."""
    names = [name for name, target in targets.known().items() if target.machine == "aarch64" and target.emulator]
    cases = [(name, "") for name in names[:1] if bench.quick] or [*((name, "") for name in names), (names[0], _RICHEST)]
    for name, processor in cases:
        for model in MODELS:
            row = Row(
                section=SECTION,
                subject=f"{model}, {name}{f' on {processor}' if processor else ''}",
                quantity="instructions / ONNX Runtime's",
                unit="",
                value=None,
                bar=None if processor else _BAR,
            )
            yield Task(SECTION, f"{model} {name} {processor}", [row], partial(_measure, bench, model, name, processor), 45)


def _measure(bench: Bench, model: str, name: str, processor: str) -> list[Figure]:
    target = load(name)
    if processor and target.emulator:
        emulator = target.emulator.model_copy(update={"args": ("-cpu", processor)})
        target = target.model_copy(update={"emulator": emulator})
    theirs = arm64.emulated(target, bench.scratch)
    pair = contest.prepare(
        bench.model(model), target, library=arm64.library(bench.scratch), their_target=theirs, scratch=bench.scratch
    )
    ours, other = bench.instructions(pair.ours), _mean_instructions(bench, pair.theirs)
    emulated = " ".join(target.emulator.args) if target.emulator else ""
    return [Figure(ours / other, f"{ours:,} against {other:,.0f} of ONNX Runtime; emulated {emulated}")]


def _mean_instructions(bench: Bench, program: Program) -> float:
    """Mean over inferences after the first, which also loads the model.

    Raises:
        MeasureError: they could not be counted.
    """
    if program.target.emulator is None or not program.target.emulated:
        raise MeasureError(f"{program.target.name} runs natively here, and instructions are counted under emulators only")
    plugin = counting.build_plugin(program.target.emulator, bench.plugins)

    def executed(inferences: int) -> int:
        options = ["-plugin", f"file={plugin},out=instructions.txt"]
        program.count(contest.INPUTS, inferences, options, _LIMIT_S)
        return int((program.work / "instructions.txt").read_text())

    return (executed(1 + _INFERENCES) - executed(1)) / _INFERENCES
