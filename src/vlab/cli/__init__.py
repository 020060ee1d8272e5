"""The `vlab` command: each command is a thin call of the library.

Exit codes: 0 done, and everything verified; 1 evidence or a model refused; 2 the command line is wrong; 3 a service does not
answer, the same command may work later; 4 something is missing on this machine; 5 the run ended with a part pending or failed;
130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.compiling import MISSING, REFUSED, compile_command
from vlab.cli.options import as_json, free_shapes, lab_profile, print_json, shape, thread_count
from vlab.cli.profiling import profile_command
from vlab.errors import MissingToolError, RefusedError, TransientError, VlabError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from vlab.client import Run, Step
    from vlab.records import Report
    from vlab.services import LabStatus
    from vlab.verifying import Verification

UNANSWERED, UNFINISHED, INTERRUPTED = 3, 5, 130


EPILOG = """\b
Exit codes: 0 done and verified, 1 refused, 2 wrong command line,
3 a service does not answer, 4 something is missing on this machine,
5 ended with a part pending or failed, 130 interrupted."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vlab")
def vlab() -> None:
    """Benchmark AI models on partners' boards, as evidence that anyone can verify."""


vlab.add_command(compile_command)
vlab.add_command(profile_command)


def main() -> None:
    """Run the command line; every error of vlab is one message and an exit code."""
    try:
        vlab(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except VlabError as error:
        click.echo(f"vlab: {error}", err=True)
        sys.exit(_code(error))
    except ModuleNotFoundError as error:
        click.echo(
            f"vlab: this command needs the Python package {error.name!r}, which the installed vlab comes without; "
            "clone the project and run `make setup` there",
            err=True,
        )
        sys.exit(MISSING)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


def _code(error: VlabError) -> int:
    if isinstance(error, MissingToolError):
        return MISSING
    return UNANSWERED if isinstance(error, TransientError) else REFUSED


@vlab.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", "-t", "targets", multiple=True, required=True, help="Kind of board, repeatable; see `vlab targets`.")
@click.option("--dataset", "-d", type=click.Path(path_type=Path), help="npz file with inputs `x` and labels `y`.")
@click.option(
    "--plan", type=click.Choice(["smoke", "standard"]), default="standard", show_default=True, help="How thoroughly to measure."
)
@free_shapes
@thread_count
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("evidence"), show_default=True, help="Where evidence files go."
)
@lab_profile
@as_json
def benchmark(
    model: Path,
    targets: tuple[str, ...],
    dataset: Path | None,
    plan: str,
    shapes: tuple[str, ...],
    threads: int,
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
    )
    _follow(run, out, as_json)


@vlab.command()
@click.argument("request_id")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("evidence"), show_default=True, help="Where evidence files go."
)
@lab_profile
@as_json
def resume(request_id: str, out: Path, profile: Path | None, as_json: bool) -> None:
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
    if as_json:
        print_json(
            {
                "report": report.model_dump(mode="json"),
                "results": json.loads(run.results().to_json(orient="records")) if files else [],
                "evidence_files": {board: str(path) for board, path in files.items()},
            }
        )
    else:
        _show_table(run, report, files)
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
    for table in _tables(f"run {run.request_id}: {models}", columns, console.width):
        console.print(table)
    if any(result.board.emulated for result in results.values()):
        console.print(reporting.EMULATED_NOTE)
    for path in files.values():
        click.echo(f"evidence: {path}")
    for outcome in report.boards:
        if outcome.trouble:
            click.echo(click.style(f"{outcome.board.name}: {outcome.trouble}", fg="red"), err=True)
    if any(outcome.trouble.startswith(PENDING) for outcome in report.boards):
        click.echo(f"finish what is pending with: vlab resume {run.request_id}", err=True)


def _tables(title: str, columns: dict[str, dict[str, str]], width: int) -> Iterator[Table]:
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


@vlab.command()
@click.option("--own-cpu", is_flag=True, help="Add this machine's own CPU as a target first, under the name LLVM has for it.")
@as_json
def targets(own_cpu: bool, as_json: bool) -> None:
    """List the kinds of board to measure on."""
    from vlab import targets as kinds
    from vlab.settings import own_targets

    if own_cpu:
        from vlab.compiling.own_cpu import write_target

        click.echo(f"wrote {write_target(own_targets())}", err=True)
    known = kinds.known()
    if as_json:
        print_json({name: target.model_dump(mode="json") for name, target in known.items()})
        return
    width = max(map(len, known))
    for name, target in known.items():
        click.echo(f"{name:<{width}}  {target.description}{' (emulated)' if target.emulated else ''}")


@vlab.command()
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@lab_profile
@as_json
def runs(limit: int, profile: Path | None, as_json: bool) -> None:
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


@vlab.command()
@click.argument("evidence", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Leave out the check that asks the chain; never counts as complete.")
@click.option("--production", is_flag=True, help="Refuse an embedded (development) trust root.")
@lab_profile
@as_json
def verify(evidence: tuple[Path, ...], offline: bool, production: bool, profile: Path | None, as_json: bool) -> None:
    """Check EVIDENCE from the result back to model, ledger and chain.

    One line for each check; exit code 1 and the reason code of the failed check when anything is off.
    """
    from vlab import verifying
    from vlab.settings import Settings

    pinned = profile or Settings.from_environment().profile
    reports = {}
    for path in evidence:
        try:
            with path.open("rb") as stream:
                data = stream.read(verifying.MAX_EVIDENCE_BYTES + 1)  # one more shows that there is more
        except OSError as error:
            raise RefusedError(f"{path} cannot be read ({error.strerror}); name an evidence file") from error
        reports[path] = verifying.verify_evidence(data, pinned, offline=offline, production=production)
        if not as_json:
            _show_verification(path, reports[path])
    if as_json:
        print_json(
            {
                str(path): {
                    "verified": report.complete,
                    "failed": report.failed.code if report.failed else None,
                    "embedded": report.embedded,
                    "checks": [vars(check) for check in report.checks],
                }
                for path, report in reports.items()
            }
        )
    if any(report.failed for report in reports.values()):
        sys.exit(REFUSED)


def _show_verification(path: Path, report: Verification) -> None:
    click.echo(str(path))
    for check in report.checks:
        mark = {True: click.style("ok  ", fg="green"), False: click.style("FAIL", fg="red"), None: "–   "}[check.passed]
        click.echo(f"  {mark} {check.name}: {check.detail}")
    if report.failed:
        click.echo(click.style(f"  REFUSED: {report.failed.code}", fg="red", bold=True))
    elif not report.complete:
        click.echo("  holds as far as it was checked; the anchor was not checked")
    elif report.embedded:
        click.echo("  VERIFIED, against an embedded trust root: this lab vouches for itself")
    else:
        click.echo(click.style("  VERIFIED", fg="green", bold=True))


@vlab.command()
@as_json
def up(as_json: bool) -> None:
    """Start a whole local lab, or what of it does not run."""
    from vlab import services
    from vlab.settings import Settings

    found = services.up(Settings.from_environment(), progress=lambda text: click.echo(text, err=True))
    _show_status(found, as_json)


@vlab.command()
@as_json
def down(as_json: bool) -> None:
    """Stop the local lab; its state stays."""
    from vlab import services
    from vlab.settings import Settings

    _show_status(services.down(Settings.from_environment()), as_json)


@vlab.command()
@as_json
def status(as_json: bool) -> None:
    """Show which services of the local lab run, and where."""
    from vlab import services
    from vlab.settings import Settings

    _show_status(services.status(Settings.from_environment()), as_json)


@vlab.command()
@as_json
def doctor(as_json: bool) -> None:
    """Say what this machine lacks and which command brings it."""
    from vlab import doctor as examination

    findings = examination.examine(_own_ports())
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = (
                click.style("ok  ", fg="green")
                if finding.ok
                else click.style("MISSING" if finding.required else "optional", fg="yellow")
            )
            click.echo(f"{mark} {finding.name}: {finding.detail}")
            if not finding.ok and finding.remedy:
                click.echo(f"     {finding.remedy}")
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(MISSING)


def _own_ports() -> frozenset[int]:
    """Ports that the local lab holds now."""
    from urllib.parse import urlsplit

    from vlab import services
    from vlab.settings import Settings

    try:
        found = services.status(Settings.from_environment())
    except VlabError:
        return frozenset()
    ports = (urlsplit(service.address).port for service in found.services if service.pid is not None)
    return frozenset(port for port in ports if port is not None)


def _show_status(found: LabStatus, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    for service in found.services:
        mark = click.style("running", fg="green") if service.running else click.style("stopped", fg="yellow")
        click.echo(f"{mark}  {service.name:<16} {service.address}")
