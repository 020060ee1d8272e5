"""`vlab up`, `down`, `status` and `doctor`: the local lab and the machine under it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vlab.cli.codes import MISSING
from vlab.cli.options import as_json, print_json
from vlab.errors import VlabError

if TYPE_CHECKING:
    from vlab.services import LabStatus


@click.command("up")
@as_json
def up_command(as_json: bool) -> None:
    """Start a whole local lab, or what of it does not run."""
    from vlab import services
    from vlab.settings import Settings

    found = services.up(Settings.from_environment(), progress=lambda text: click.echo(text, err=True))
    _show_status(found, as_json)


@click.command("down")
@as_json
def down_command(as_json: bool) -> None:
    """Stop the local lab; its state stays."""
    from vlab import services
    from vlab.settings import Settings

    _show_status(services.down(Settings.from_environment()), as_json)


@click.command("status")
@as_json
def status_command(as_json: bool) -> None:
    """Show which services of the local lab run, and where."""
    from vlab import services
    from vlab.settings import Settings

    _show_status(services.status(Settings.from_environment()), as_json)


@click.command("doctor")
@as_json
def doctor_command(as_json: bool) -> None:
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
