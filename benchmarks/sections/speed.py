"""Time of one inference on this machine against ONNX Runtime's, one thread each."""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import onnxruntime

from benchmarks.bars import Bar, Row
from benchmarks.sections.bench import Bench
from benchmarks.tasks import Figure, Task
from benchmarks.versus import building, contest, interleaving
from vlab.measuring import machine
from vlab.targets import Target

SECTION = "speed"
BARS = {
    "ds-cnn": Bar(limit=0.9),
    "resnet8": Bar(limit=0.9),
    "mobilenet-v1-0.25": Bar(limit=0.9),
    "mobilenet-v2": Bar(limit=1.1, aim=1.0),
    "resnet18": Bar(limit=1.1, aim=1.0),
    "bert-6": Bar(limit=1.3),
}
_QUICK = interleaving.Pace(rounds=5, block_ns=200_000_000, warmup_ns=100_000_000)
_FULL = interleaving.Pace(rounds=15, block_ns=400_000_000, warmup_ns=150_000_000)


def tasks(bench: Bench) -> Iterator[Task]:
    """Every model on the best target; in a full run also on the next best, without bars."""
    pace = _QUICK if bench.quick else _FULL
    for target in bench.hosts[: 1 if bench.quick else 2]:
        for name, bar in BARS.items():
            yield Task(
                section=SECTION,
                name=f"{name} {target.name}",
                rows=[
                    Row(
                        section=SECTION,
                        subject=f"{name}, {target.name}",
                        quantity="time / ONNX Runtime's",
                        unit="",
                        value=None,
                        bar=bar if target == bench.host else None,
                    )
                ],
                measure=partial(_measure, bench, name, target, pace),
                seconds=pace.rounds * 2.2 * (pace.block_ns + pace.warmup_ns) / 1e9 + 10,
                depends_on={
                    "target": target.digest(),
                    "cpu": machine.describe(target, load_avg_start=0).cpu,
                    "pace": str(pace),
                },
            )


def _measure(bench: Bench, name: str, target: Target, pace: interleaving.Pace) -> list[Figure]:
    library = building.library_in(Path(onnxruntime.__file__).parent)
    pair = contest.prepare(bench.model(name), target, library=library, scratch=bench.scratch)
    load, ticks = machine.load_average(), machine.cpu_ticks()
    with interleaving.undisturbed(bench.core):
        seen = interleaving.measure(pair.ours, pair.theirs, contest.INPUTS, pace)
    stolen = machine.stolen_share(ticks, machine.cpu_ticks())
    detail = (
        f"{_microseconds(seen.ours_ns)} against {_microseconds(seen.theirs_ns)} of ONNX Runtime; {pace.rounds} blocks each; "
        f"load {load:g} to {machine.load_average():g}, {stolen:.1%} stolen"
    )
    return [Figure(seen.ratio, detail, seen.lower, seen.upper)]


def _microseconds(blocks_ns: tuple[float, ...]) -> str:
    return f"{statistics.median(blocks_ns) / 1e3:,.1f} µs"
