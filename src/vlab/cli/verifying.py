"""`vlab verify`: evidence, back to model, ledger and chain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.codes import REFUSED
from vlab.cli.options import as_json, lab_profile, print_json
from vlab.errors import RefusedError

if TYPE_CHECKING:
    from vlab.verifying import Verification


@click.command("verify")
@click.argument("evidence", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Leave out the check that asks the chain; never counts as complete.")
@click.option("--production", is_flag=True, help="Refuse an embedded (development) trust root.")
@lab_profile
@as_json
def verify_command(evidence: tuple[Path, ...], offline: bool, production: bool, profile: Path | None, as_json: bool) -> None:
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
