"""`vlab compile`: artifacts for several targets, without a lab."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vlab.cli.codes import MISSING, REFUSED
from vlab.cli.options import as_json, free_shapes, print_json, shape, thread_count
from vlab.errors import MissingToolError

if TYPE_CHECKING:
    from rich.table import Table

    from vlab.compiling import Outcome
    from vlab.records import ArtifactManifest

_LABEL = 23
"""Characters of the longest target that fits; the table then has 80 columns."""


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", "-t", "targets", multiple=True, required=True, help="Kind of board, repeatable; see `vlab targets`.")
@free_shapes
@thread_count
@click.option("--dataset", "-d", type=click.Path(path_type=Path), help="npz file with real inputs `x` for the check.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for a copy of each artifact.")
@click.option("--check", is_flag=True, help="Compile again elsewhere and compare every byte.")
@click.option("--debug", is_flag=True, help="Keep stack traces and intermediate files; says where.")
@click.option("--jobs", "-j", type=click.IntRange(1, 64), help="Compiles at the same time; default: one for each CPU.")
@as_json
def compile_command(
    model: Path,
    targets: tuple[str, ...],
    shapes: tuple[str, ...],
    threads: int,
    dataset: Path | None,
    out: Path | None,
    check: bool,
    debug: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Compile MODEL for kinds of board, on this machine and without a lab.

    Exit code 1 when a target failed, or when --check found a byte that differs.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from vlab import compiling
    from vlab import targets as kinds
    from vlab.records import CompileOptions
    from vlab.settings import Settings

    wanted = [kinds.load(name) for name in dict.fromkeys(targets)]
    compiling.inspect_model(model)
    folder = Path(tempfile.mkdtemp(prefix="vlab-debug-")) if debug else None
    console = Console(stderr=True, highlight=False, quiet=as_json)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json) as progress:
        bar = progress.add_task("compile", total=len(wanted))

        def on_done(outcome: Outcome) -> None:
            mark = "[green]✓[/]" if outcome.good else "[red]✗[/]"
            cached = ", from the cache" if outcome.cached else ""
            progress.console.print(f"{mark} {outcome.target} ({outcome.seconds:.1f} s{cached})")
            progress.advance(bar)

        outcomes = compiling.compile_all(
            model,
            wanted,
            cache=Settings.from_environment().compile_cache,
            options=CompileOptions(shapes=dict(map(shape, shapes)), threads=threads),
            probe_inputs=dataset,
            out=out,
            check=check,
            debug=folder,
            jobs=jobs,
            on_done=on_done,
        )
    if as_json:
        print_json({outcome.target: _as_json(outcome) for outcome in outcomes})
    else:
        _show(model, outcomes, check)
    if not all(outcome.good for outcome in outcomes):
        errors = [outcome.error for outcome in outcomes if not outcome.good]
        sys.exit(MISSING if all(isinstance(error, MissingToolError) for error in errors) else REFUSED)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "good": outcome.good,
        "error": None if outcome.error is None else str(outcome.error),
        "artifact": None if outcome.directory is None else str(outcome.directory),
        "manifest": None if outcome.manifest is None else outcome.manifest.model_dump(mode="json"),
        "cached": outcome.cached,
        "notices": list(outcome.notices),
        "differing": None if outcome.differing is None else list(outcome.differing),
        "debug": None if outcome.debug is None else str(outcome.debug),
        "seconds": round(outcome.seconds, 3),
    }


def _show(model: Path, outcomes: list[Outcome], check: bool) -> None:
    from rich.console import Console

    if any(outcome.manifest for outcome in outcomes):
        Console(highlight=False).print(table(model.name, outcomes))
    for notice in dict.fromkeys(notice for outcome in outcomes for notice in outcome.notices):
        click.echo(f"{model.name}: {notice}", err=True)
    for reason, kernels in _fallbacks(outcomes).items():
        click.echo(f"{model.name}: {', '.join(kernels)}: {reason}", err=True)
    for outcome in outcomes:
        if outcome.directory:
            click.echo(f"{outcome.target}: {outcome.directory}")
        if check and outcome.differing == ():
            click.echo(f"{outcome.target}: compiled again elsewhere, every byte the same")
        if outcome.differing:
            told = f"another compile gave other bytes in {', '.join(outcome.differing)}; report it, with the model if you can"
            click.echo(click.style(f"{outcome.target}: {told}", fg="red"), err=True)
        if outcome.error:
            click.echo(click.style(f"{outcome.target}: {outcome.error}", fg="red"), err=True)
        if outcome.debug:
            click.echo(f"{outcome.target}: stack traces and intermediate files: {outcome.debug}", err=True)
    if any(outcome.error and not outcome.debug for outcome in outcomes):
        click.echo("what compiler and linker said in full is kept with --debug", err=True)


def _fallbacks(outcomes: list[Outcome]) -> dict[str, list[str]]:
    """Names of kernels by the reason for which they have not the schedule of their kind, or not the type."""
    found: dict[str, list[str]] = {}
    for kernel in dict.fromkeys(kernel for outcome in outcomes if outcome.manifest for kernel in outcome.manifest.kernels):
        if kernel.reason and kernel.name not in found.setdefault(kernel.reason, []):
            found[kernel.reason].append(kernel.name)
    return found


def table(title: str, outcomes: list[Outcome]) -> Table:
    """One line a target; fits into 80 columns."""
    from rich import box
    from rich.table import Table

    found = Table("target", title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("size", "flash/RAM", "kernels", "deviation", "s"):
        found.add_column(name, justify="right", no_wrap=True)
    for outcome in outcomes:
        cells = _cells(outcome.manifest) if outcome.manifest else ("failed", "-", "-", "-")
        found.add_row(outcome.target[:_LABEL], *cells, f"{outcome.seconds:.1f}")
    return found


def _cells(manifest: ArtifactManifest) -> tuple[str, ...]:
    from vlab.reporting import kib

    used = {region.name: region.used_bytes for region in manifest.memory}
    memory = f"{kib(used['flash'])}/{kib(used['ram'])}" if {"flash", "ram"} <= used.keys() else "-"
    scheduled = sum(kernel.scheduled for kernel in manifest.kernels)
    return (
        kib(manifest.artifact_bytes),
        memory.replace(" KiB/", "/"),
        f"{scheduled}/{len(manifest.kernels)}",
        f"{manifest.numerics.max_abs_err:.1e}",
    )
