"""What several commands take and print."""

import json
from pathlib import Path
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output on standard output.")
lab_profile = click.option(
    "--profile", type=click.Path(path_type=Path), help="The lab's profile (lab.json); default: the local lab's."
)
free_shapes = click.option(
    "--shape", "shapes", multiple=True, metavar="INPUT=D,D,…", help="Shape of an input whose dimensions the model leaves free."
)
thread_count = click.option(
    "--threads",
    type=click.IntRange(1, 64),  # MOST_THREADS of vlab.records, which takes long to import
    default=1,
    show_default=True,
    help="That share the loops of large kernels, on boards with Linux.",
)


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """An input and its shape, from `image=1,3,32,32`."""
    name, _, dims = text.rpartition("=")
    if not name or not all(part.isdigit() and int(part) > 0 for part in dims.split(",")):
        raise click.BadParameter(f"got {text!r}, expected something like image=1,3,32,32", param_hint="--shape")
    return name, tuple(int(part) for part in dims.split(","))


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
