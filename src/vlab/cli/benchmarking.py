"""`vlab benchmark`, `resume` and `runs`: what a lab is asked for, followed to its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.codes import UNFINISHED
from vlab.cli.options import as_json, free_shapes, lab_profile, print_json, shape, thread_count
from vlab.cli.profiling import show_kernel_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from vlab.client import Run, Step
    from vlab.records import Report


@click.command("benchmark")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", "-t", "targets", multiple=True, required=True, help="Kind of board, repeatable; see `vlab targets`.")
@click.option("--dataset", "-d", type=click.Path(path_type=Path), help="npz file with inputs `x` and labels `y`.")
@click.option(
    "--plan", type=click.Choice(["smoke", "standard"]), default="standard", show_default=True, help="How thoroughly to measure."
)
@free_shapes
@thread_count
@click.option("--kernel-profile", is_flag=True, help="Profile the kernels too, in runs of their own after the measurement.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("evidence"), show_default=True, help="Where evidence files go."
)
@lab_profile
@as_json
def benchmark_command(
    model: Path,
    targets: tuple[str, ...],
    dataset: Path | None,
    plan: str,
    shapes: tuple[str, ...],
    threads: int,
    kernel_profile: bool,
    out: Path,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL on partners' boards and bring back evidence."""
    from vlab.client import Lab

    lab = Lab(profile)
    run = lab.benchmark(
        model,
        targets,
        dataset=dataset,
        plan="smoke" if plan == "smoke" else "standard",
        shapes=dict(map(shape, shapes)),
        threads=threads,
        kernel_profile=kernel_profile,
    )
    _follow(run, out, as_json)


@click.command("resume")
@click.argument("request_id")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("evidence"), show_default=True, help="Where evidence files go."
)
@lab_profile
@as_json
def resume_command(request_id: str, out: Path, profile: Path | None, as_json: bool) -> None:
    """Finish what is pending of a run; nothing is measured twice."""
    from vlab.client import Lab

    _follow(Lab(profile).resume(request_id), out, as_json)


def _follow(run: Run, out: Path, as_json: bool) -> None:
    """Show a run's steps, then its table; write its evidence; end with the code that says how it went."""
    from vlab.journal import write_whole

    try:
        report = _wait(run, quiet=as_json)
    except KeyboardInterrupt:
        click.echo(
            f"the run goes on in the lab; see it with: vlab runs; take its evidence with: vlab resume {run.request_id}",
            err=True,
        )
        raise
    files = {}
    for board, data in run.evidence().items():
        files[board] = out / f"{run.request_id}.{board}.evidence.json"
        write_whole(files[board], data)
    profiled = run.kernel_profiles()
    if as_json:
        print_json(
            {
                "report": report.model_dump(mode="json"),
                "results": json.loads(run.results().to_json(orient="records")) if files else [],
                "evidence_files": {board: str(path) for board, path in files.items()},
                "kernel_profiles": {board: found.model_dump(mode="json") for board, found in profiled.items()},
            }
        )
    else:
        _show_table(run, report, files)
        for board, found in profiled.items():
            show_kernel_profile(found, board)
    if not report.complete:
        sys.exit(UNFINISHED)


def _wait(run: Run, *, quiet: bool) -> Report:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, quiet=quiet)
    console.print(f"run {run.request_id}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar = progress.add_task("benchmark", total=None)

        def on_step(step: Step) -> None:
            mark = "[green]✓[/]" if step.state in ("Completed", "Cached") else "[red]✗[/]"
            note = (
                ", from the compile cache" if step.state == "Cached" else "" if step.state == "Completed" else f", {step.state}"
            )
            progress.console.print(f"{mark} {step.name} ({step.seconds:.1f} s{note})")
            progress.update(bar, advance=1, total=step.total)

        return run.wait(on_step=on_step)


def _show_table(run: Run, report: Report, files: dict[str, Path]) -> None:
    from rich.console import Console

    from vlab import reporting
    from vlab.records import PENDING

    console = Console(highlight=False)
    results = run.measured()
    anchors = {outcome.board.name: outcome.anchor for outcome in report.boards if outcome.anchor}
    columns = {
        name: reporting.figures(result) | {"anchor": f"block {anchors[name].block_number}"} for name, result in results.items()
    }
    models = " ".join(dict.fromkeys(result.model.name for result in results.values()))
    for table in tables(f"run {run.request_id}: {models}", columns, console.width):
        console.print(table)
    if any(result.board.emulated for result in results.values()):
        console.print(reporting.EMULATED_NOTE)
    for path in files.values():
        click.echo(f"evidence: {path}")
    for outcome in report.boards:
        if outcome.kernel_profile_trouble:
            click.echo(reporting.kernel_trouble(outcome), err=True)
        if outcome.trouble:
            click.echo(click.style(f"{outcome.board.name}: {outcome.trouble}", fg="red"), err=True)
    if any(outcome.trouble.startswith(PENDING) for outcome in report.boards):
        click.echo(f"finish what is pending with: vlab resume {run.request_id}", err=True)


def tables(title: str, columns: dict[str, dict[str, str]], width: int) -> Iterator[Table]:
    """The figures of the boards side by side, in as many tables as the width asks for; four boards fit into 80 columns."""
    from rich import box
    from rich.table import Table

    names = list(columns)
    side_by_side = max(1, (width - 14) // 16)
    for first in range(0, len(names), side_by_side):
        shown = names[first : first + side_by_side]
        table = Table(
            "board",
            *shown,
            title=title,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        for row in columns[shown[0]]:
            cells = (columns[name][row] for name in shown)
            table.add_row(row, *(cell.replace("/", "/\n") if row == "target" else cell for cell in cells))
        yield table


@click.command("runs")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@lab_profile
@as_json
def runs_command(limit: int, profile: Path | None, as_json: bool) -> None:
    """List the latest runs, newest first."""
    from dataclasses import asdict

    from vlab.client import Lab

    found = Lab(profile).runs(limit)
    if as_json:
        print_json([asdict(run) for run in found])
        return
    if not found:
        click.echo("no runs yet; start one with: vlab benchmark MODEL --target TARGET")
    for run in found:
        click.echo(f"{run.request_id}  {run.state:<10}  {run.started_on or 'waiting':<20}  {' '.join(run.targets)}")
        if run.state not in ("Completed", "Running", "Scheduled", "Pending"):
            click.echo(f"  {run.message}")
