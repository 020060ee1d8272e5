"""`vlab profile`: where a model spends its time on a target, without a lab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vlab.cli.options import as_json, free_shapes, print_json, shape, thread_count

if TYPE_CHECKING:
    from vlab.records import KernelProfile


@click.command("profile")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--target", "-t", required=True, help="Kind of board; see `vlab targets`.")
@click.option(
    "--dataset", "-d", type=click.Path(path_type=Path), help="npz file whose first input is inferred; default: random."
)
@free_shapes
@thread_count
@as_json
def profile_command(
    model: Path, target: str, dataset: Path | None, shapes: tuple[str, ...], threads: int, as_json: bool
) -> None:
    """Show where MODEL spends its time on a target, kernel by kernel in the model's own names.

    Compiles here and needs no lab. On hardware: times; under an emulator: exact instructions.
    """
    from vlab import profiling
    from vlab import targets as kinds
    from vlab.records import CompileOptions
    from vlab.settings import Settings

    found = profiling.profile_model(
        model,
        kinds.load(target),
        cache=Settings.from_environment().home / "cache",
        dataset=dataset,
        options=CompileOptions(shapes=dict(map(shape, shapes)), threads=threads),
    )
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_kernel_profile(found, found.target)


def show_kernel_profile(found: KernelProfile, board: str) -> None:
    """Print the table of a kernel profile, the largest share first."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from vlab import reporting

    heads, *rows = reporting.profile_rows(found)
    title = f"{found.model.name} on {board}{' (emulated)' if found.emulated else ''}: {len(rows)} kernel calls"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for head in heads[:-1]:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(heads[-1], overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"instructions: {found.instructions_reason}" + (f"; times: {found.time_reason}" if found.time_reason else ""))
