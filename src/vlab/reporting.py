"""Figures for people: the table of a run, as text cells and as Markdown."""

from vlab.records import Percentile, Report, Result


def si(value: float | None) -> str:
    """A count to three significant digits with its SI prefix: `7.39 M`; `-` for None."""
    if value is None:
        return "-"
    factor, prefix = next(((f, p) for f, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= f), (1, ""))
    return f"{value / factor:.3g} {prefix}".strip()


def kib(size: int | None) -> str:
    """A size in binary units: `212 KiB`; `-` for None."""
    if size is None:
        return "-"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def duration(ns: int | None) -> str:
    """A time in the unit that leaves one to three digits before the point: `1.24 ms`; `-` for None."""
    if ns is None:
        return "-"
    for factor, unit in ((10**9, "s"), (10**6, "ms"), (10**3, "µs")):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}" if ns < 999.5 * factor else f"{ns / factor:.0f} {unit}"
    return f"{ns} ns"


def percentile(figure: Percentile) -> str:
    """A percentile with its interval, or how many samples it needs."""
    if not figure.supported:
        return f"needs {figure.needed} samples"
    return f"{duration(figure.value)} [{duration(figure.lower)}, {duration(figure.upper)}]"


COLUMNS = ("target", "board", "accuracy", "p50", "p90", "instr/inf", "artifact", "peak RAM", "quality")


def cells(result: Result) -> tuple[str, ...]:
    """One row of the table: a cell for each of `COLUMNS`."""
    m = result.measurement
    return (
        result.board.target,
        f"{result.board.name}{' (emulated)' if result.board.emulated else ''}",
        "-" if m.accuracy is None else f"{100 * m.accuracy:.2f} %",
        percentile(m.latency.p50_ns),
        percentile(m.latency.p90_ns),
        si(m.instructions_per_inference),
        kib(result.manifest.artifact_bytes),
        kib(m.ram_peak_bytes),
        m.quality + (f": {', '.join(m.quality_reasons)}" if m.quality_reasons else ""),
    )


def as_markdown(report: Report, results: dict[str, Result]) -> str:
    """The table of a run, for the Prefect page."""
    lines = ["| " + " | ".join((*COLUMNS, "evidence")) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for outcome in report.boards:
        result = results.get(outcome.board.name)
        row = cells(result) if result else (outcome.board.target, outcome.board.name, *["-"] * (len(COLUMNS) - 2))
        where = f"`{outcome.evidence.uri}`" if outcome.evidence else outcome.trouble
        lines.append("| " + " | ".join((*row, where)) + " |")
    if any(outcome.board.emulated for outcome in report.boards):
        lines += ["", "Times of emulated boards are times of the emulator; the instruction count is the comparable figure."]
    return "\n".join(lines)
