"""The finished table, as JSON and as a page."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from benchmarks.bars import Row, Verdict, tally
from benchmarks.machine import Machine
from vlab.errors import MeasureError
from vlab.records import Record


class About(NamedTuple):
    """What stands above a section's table."""

    heading: str
    text: str


ABOUT = {
    "speed": About(
        "Speed against ONNX Runtime",
        "Median time of one inference on one core, as a ratio; below 1 is faster than ONNX Runtime. Both sides run behind the "
        "same harness, by the same clock, in blocks that take turns, at real-time priority where the system allows it; ONNX "
        "Runtime through its C API with one thread, all graph optimisations and tensors made beforehand. In brackets the 95 % "
        "interval of a bootstrap over blocks. Rows without a bar are of the next best target, while ONNX Runtime always uses "
        "the widest vectors of the machine.",
    ),
    "compiling": About(
        "Compiling",
        "Wall time on one core of a whole compile into an empty cache, reference check included, less the import of TVM in a "
        "process of its own; memory is the largest resident set of any process in it.",
    ),
    "instructions": About(
        "Instructions of one inference",
        "Counted under the target's emulator: exact, repeatable on any machine, and blind to caches and latencies. "
        "They rank kernels, not boards.",
    ),
    "arm64": About(
        "Instructions against ONNX Runtime's aarch64 build",
        "The wheel of the same version for aarch64, in the same emulator with the same processor; its count is a mean over "
        "eight inferences after the first. ONNX Runtime chooses its kernels by what the emulated processor has: "
        "Cortex-A53 and A72 are Armv8.0, without dot products and half floats, Cortex-A76 has both; `max` has all that QEMU "
        "knows, SVE and SME too, while our executable stays the one for Cortex-A53. `python -m benchmarks.versus.arm64` "
        "fetches it.",
    ),
    "integer": About(
        "Integer models",
        "`-int8` are QDQ models made by ONNX Runtime's static quantiser; the TFLite files are trained. The yardstick of "
        "weights is what the model itself stores: int8 values, int32 biases, and a float32 scale for each channel. Agreement "
        "is over inputs drawn evenly from all int8 values, against LiteRT's reference kernels.",
    ),
    "operators": About("ONNX operators", "ONNX's own node tests, each through import, compile, executable and comparison."),
}


class Measured(Record):
    """A row with when and of what it was measured."""

    row: Row
    commit: str
    measured_on: str


class Report(Record):
    """A whole run."""

    format: str = "vlab-benchmark/v1"
    quick: bool
    core: int
    machine: Machine
    measured: tuple[Measured, ...] = Field(description="in the order of the table")


def figure(value: float, unit: str) -> str:
    """A number as it stands in the table: whole ones in full, ratios with three decimals."""
    if float(value).is_integer() and (unit or abs(value) >= 10 or value == 0):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4f}" if 0.99 < value < 1 else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return text if unit in ("", "instructions") else f"{text} {unit}"


def _limit(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value.is_integer() else f"{value:g}"
    return text if unit in ("", "instructions") else f"{text} {unit}"


def markdown(report: Report, chart: str) -> str:
    """The page.

    Args:
        report: what was measured.
        chart: address of the picture, relative to the page.
    """
    rows = [one.row for one in report.measured]
    counts = tally(rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    lines = [
        "# Performance",
        "",
        "Written by `python -m benchmarks.compile --publish`, not by hand. A bar that is missed stands here as missed.",
        "",
        f"**{told}**" + (" (quick run)" if report.quick else ""),
        "",
        f"![Each figure as a share of its bar]({chart})",
        "",
        *_machine(report),
    ]
    for section in dict.fromkeys(row.section for row in rows):
        about = ABOUT[section]
        measured = [one for one in report.measured if one.row.section == section]
        lines += ["", f"## {about.heading}", "", about.text, "", f"{_when(measured)}.", ""]
        lines += _table([one.row for one in measured])
    return "\n".join(lines) + "\n"


def merged(fresh: Report, published: Report) -> Report:
    """A report of some sections with the other sections of an earlier one, which keep their commits and dates.

    Raises:
        MeasureError: the earlier one is of another machine or of another kind of run, so the figures do not stand together.
    """
    if (fresh.machine.cpu, fresh.machine.cores, fresh.quick) != (
        published.machine.cpu,
        published.machine.cores,
        published.quick,
    ):
        raise MeasureError(
            f"the published figures are of {published.machine.cpu} with {published.machine.cores} cores"
            f"{' in a quick run' if published.quick else ''}, these of {fresh.machine.cpu} with {fresh.machine.cores}"
            f"{' in a quick run' if fresh.quick else ''}; measure all sections to publish them"
        )
    new = {one.row.section for one in fresh.measured}
    rows = [*fresh.measured, *(one for one in published.measured if one.row.section not in new)]
    order = list(ABOUT)
    return fresh.model_copy(update={"measured": tuple(sorted(rows, key=lambda one: order.index(one.row.section)))})


def _when(measured: Sequence[Measured]) -> str:
    dates = sorted(one.measured_on for one in measured)
    commits = ", ".join(f"`{commit}`" for commit in dict.fromkeys(one.commit for one in measured))
    return f"Measured {dates[0]} to {dates[-1]} at commit {commits}"


def _machine(report: Report) -> list[str]:
    machine = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    facts = {
        "Machine": f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB, {machine.system}",
        "Measured core": f"{report.core}, governor {machine.governor or 'not told by the system'}",
        "Compiled for it as": machine.target,
        "Packages": f"Python {machine.python}, {packages}",
        "Tools": "; ".join(machine.tools.values()),
    }
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items())]


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["| what | figure | bar | | details |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        value = "–" if row.value is None else figure(row.value, row.unit)
        if row.lower is not None and row.upper is not None:
            value += f" [{row.lower:.3f}, {row.upper:.3f}]"
        bar = ""
        if row.bar:
            bar = f"{row.bar.sense} {_limit(row.bar.limit, row.unit)}"
            bar += f", aim {_limit(row.bar.aim, row.unit)}" if row.bar.aim is not None else ""
        verdict = f"**{row.verdict}**" if row.verdict is Verdict.missed else str(row.verdict)
        cells = (f"{row.subject}: {row.quantity}", value, bar, verdict, row.detail)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines
