"""Figures for people: the table of a run, as text cells and as Markdown."""

from collections.abc import Iterable

from vlab.records import AssetRef, BoardOutcome, CallProfile, KernelProfile, Percentile, Report, Result


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


def percentile(figure: Percentile) -> str:
    """A percentile with its interval in the line below, in one unit; or how many samples it needs."""
    if figure.value is None:
        return f"- (needs {figure.needed})"
    factor, unit = next(((f, u) for f, u in ((10**9, "s"), (10**6, "ms"), (10**3, "µs")) if figure.value >= f), (1, "ns"))
    value, *interval = (f"{bound / factor:.4g}" for bound in (figure.value, figure.lower, figure.upper) if bound is not None)
    return f"{value} {unit}\n[{', '.join(interval)}]"


def figures(result: Result) -> dict[str, str]:
    """The figures of one board as text, by name, in the order of the table."""
    m = result.measurement
    return {
        "target": result.board.target,
        "emulated": "yes" if result.board.emulated else "no",
        "accuracy": "-" if m.accuracy is None else f"{100 * m.accuracy:.2f} %",
        "latency p50": percentile(m.latency.p50_ns),
        "latency p90": percentile(m.latency.p90_ns),
        "instructions": si(m.instructions_per_inference),
        "artifact": kib(result.manifest.artifact_bytes),
        "peak RAM": kib(m.ram_peak_bytes),
        "quality": m.quality + (f"\n{', '.join(m.quality_reasons)}" if m.quality_reasons else ""),
    }


def profile_rows(profile: KernelProfile) -> list[tuple[str, ...]]:
    """Heads and rows of a profile's table as text, the kernel call with the largest share first."""
    heads: tuple[str, ...] = ("call", "share", "instr." if profile.emulated else "time", "MACs")
    heads += ("instr./MAC" if profile.emulated else "GMAC/s", "bytes", "MAC/B", "nodes")
    ranked = sorted(enumerate(profile.calls, 1), key=lambda entry: (-(entry[1].share or 0), entry[0]))
    return [heads, *(_profile_row(number, call, emulated=profile.emulated) for number, call in ranked)]


def _profile_row(number: int, profiled: CallProfile, *, emulated: bool) -> tuple[str, ...]:
    call = profiled.call
    speed = profiled.instructions_per_mac if emulated else profiled.gmacs_per_s
    micros = None if profiled.median_ns is None else f"{profiled.median_ns / 1e3:.3g} µs"
    return (
        str(number),
        "-" if profiled.share is None else f"{100 * profiled.share:.1f} %",
        si(profiled.instructions) if emulated else micros or "-",
        si(call.macs),
        "-" if speed is None or not call.macs else f"{speed:.3g}",
        kib(call.moved_bytes) if call.moved_bytes >= 2**10 else f"{call.moved_bytes} B",
        f"{call.intensity:.3g}" if call.macs else "-",
        ", ".join(node.partition(";")[0] for node in call.nodes) or call.kernel,
    )


EMULATED_NOTE = "Times of emulated boards are times of the emulator and rank nothing: compare instructions per inference."


def _short(asset: AssetRef) -> str:
    """Name and digest of a file in the store, in as few characters as a column has."""
    return f"`{asset.file.name}`\nsha256 {asset.file.sha256[:12]}…"


def as_markdown(report: Report, results: dict[str, Result], kernel_profiles: dict[str, KernelProfile]) -> str:
    """The table of a run, a column for each board, and a table of each kernel profile, for the Prefect page."""
    columns = {
        outcome.board.name: (
            figures(results[outcome.board.name]) if outcome.board.name in results else {"target": outcome.board.target}
        )
        | {"evidence": _short(outcome.evidence) if outcome.evidence else outcome.trouble}
        | ({"anchor": f"block {outcome.anchor.block_number}"} if outcome.anchor else {})
        for outcome in report.boards
    }
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [_row(["", *columns]), "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        cells = (column.get(row, "-").replace("\n", "<br>") for column in columns.values())
        lines.append(_row([row, *cells]))
    if any(outcome.board.emulated for outcome in report.boards):
        lines += ["", EMULATED_NOTE]
    for name, profile in kernel_profiles.items():
        heads, *calls = profile_rows(profile)
        lines += ["", f"Kernels on {name}:", "", _row(heads), "|---" * len(heads) + "|", *map(_row, calls)]
    lines += [f"\n{kernel_trouble(outcome)}" for outcome in report.boards if outcome.kernel_profile_trouble]
    return "\n".join(lines)


def kernel_trouble(outcome: BoardOutcome) -> str:
    """Why a board has no kernel profile although one was asked for."""
    return f"{outcome.board.name}: no kernel profile: {outcome.kernel_profile_trouble}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
