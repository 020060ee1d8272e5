"""Measure the compile stage against its bars: `python -m benchmarks.compile`, with `--quick` in a few minutes.

Every figure is kept on disk as it comes; an interrupted run goes on where it was, and what has not changed is not measured
again. The table, as JSON, Markdown and a picture, is written even when figures are missing.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.bars import tally
from benchmarks.chart import svg
from benchmarks.report import Measured, Report, figure, markdown, merged
from benchmarks.sections import arm64, compiling, instructions, integer, operators, speed
from benchmarks.sections.bench import Bench, default_core
from benchmarks.tasks import Kept, Outcome, Task
from vlab import settings
from vlab.errors import VlabError
from vlab.journal import write_whole

SECTIONS = {module.SECTION: module for module in (speed, compiling, instructions, arm64, integer, operators)}
_INTERRUPTED = 130
_PAGE = "performance"


def main() -> int:
    """Measure and write the table; the exit status is 0 whether or not bars are missed, for a figure is no failure."""
    asked = _arguments()
    scratch = asked.scratch.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    bench = Bench(scratch=scratch, trained=asked.trained.absolute(), core=asked.core, quick=asked.quick)
    try:
        tasks = [task for name, section in SECTIONS.items() if name in asked.sections for task in section.tasks(bench)]
        outcomes = _measure(tasks, Kept(scratch / "results", machine.commit()), again=asked.again)
        measured = [
            Measured(row=row, commit=outcome.commit, measured_on=outcome.measured_on)
            for outcome in outcomes
            for row in outcome.rows
        ]
        about = machine.describe(asked.core, bench.host)
        report = Report(quick=asked.quick, core=asked.core, machine=about, measured=tuple(measured))
        _write(report, scratch, "compile")
        if asked.publish:
            _publish(report, settings.checkout() / "docs", whole=set(asked.sections) == set(SECTIONS))
    except VlabError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        _tell("interrupted; what was measured is kept: the same command goes on from here")
        return _INTERRUPTED
    counts = tally(one.row for one in report.measured)
    _tell(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + f"; the table is in {scratch}/compile.md")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile", description="Measure the compile stage.")
    parser.add_argument("--quick", action="store_true", help="shorter blocks, fewer targets, no operator tests")
    parser.add_argument(
        "--sections", nargs="+", choices=[*SECTIONS], default=[*SECTIONS], metavar="SECTION", help=", ".join(SECTIONS)
    )
    parser.add_argument("--again", action="store_true", help="measure again what an earlier run has measured")
    parser.add_argument("--core", type=int, default=default_core(), help="that times are measured on")
    parser.add_argument("--scratch", type=Path, default=Path("build/benchmarks"), help="for models, programs and results")
    trained = settings.checkout().parent / "shared" / "models"
    parser.add_argument("--trained", type=Path, default=trained, help="folder of the tiny suite's trained TFLite files")
    parser.add_argument("--publish", action="store_true", help="also write docs/performance.md, whose other sections stay")
    return parser.parse_args()


def _measure(tasks: Sequence[Task], kept: Kept, *, again: bool) -> list[Outcome]:
    """Outcomes in the tasks' order; says what it does and about how long it will go on."""
    found = [None if again else kept.find(task) for task in tasks]
    left_s = sum(task.seconds for task, outcome in zip(tasks, found, strict=True) if outcome is None)
    spent_s = planned_s = 0.0
    outcomes = []
    for number, (task, earlier) in enumerate(zip(tasks, found, strict=True), start=1):
        if earlier is not None:
            outcomes.append(earlier)
            continue
        pace = spent_s / planned_s if planned_s else 1.0
        _tell(f"[{number}/{len(tasks)}] {task.section}: {task.name}; about {_duration(left_s * pace)} left")
        started = time.monotonic()
        outcomes.append(kept.measure(task))
        spent_s += time.monotonic() - started
        planned_s += task.seconds
        left_s -= task.seconds
        for row in outcomes[-1].rows:
            value = "-" if row.value is None else figure(row.value, row.unit)
            _tell(f"    {row.quantity}: {value} {row.verdict} ({row.detail})")
    return outcomes


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _publish(report: Report, docs: Path, *, whole: bool) -> None:
    """Write the page; of sections that were not asked for it keeps what stands there."""
    earlier = docs / f"{_PAGE}.json"
    if not whole and earlier.is_file():
        report = merged(report, Report.from_json(earlier.read_bytes()))
    _write(report, docs, _PAGE)


def _write(report: Report, directory: Path, stem: str) -> None:
    """The three files, each whole or not at all; page and picture are written from what a reader of the figures would see."""
    report = Report.from_json(report.to_json())
    contents = {
        ".json": report.to_json() + b"\n",
        ".svg": svg(report).encode(),
        ".md": markdown(report, f"{stem}.svg").encode(),
    }
    for suffix, content in contents.items():
        write_whole(directory / f"{stem}{suffix}", content)


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
