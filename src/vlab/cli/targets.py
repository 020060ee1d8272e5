"""`vlab targets`: the kinds of board."""

import textwrap

import click

from vlab.cli.options import as_json, print_json

_COLUMNS = 80


@click.command("targets")
@click.option("--own-cpu", is_flag=True, help="Add this machine's own CPU as a target first, under the name LLVM has for it.")
@as_json
def targets_command(own_cpu: bool, as_json: bool) -> None:
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
    width = max(map(len, known)) + 2
    for name, target in known.items():
        told = f"{target.description}{' (emulated)' if target.emulated else ''}"
        click.echo(textwrap.fill(told, _COLUMNS, initial_indent=f"{name:<{width}}", subsequent_indent=" " * width))
