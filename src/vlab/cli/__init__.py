"""The `vlab` command: each command is a thin call of the library; `codes` says how commands end."""

import sys

import click

from vlab.cli.benchmarking import benchmark_command, resume_command, runs_command
from vlab.cli.codes import EPILOG, INTERRUPTED, MISSING, REFUSED, UNANSWERED
from vlab.cli.compiling import compile_command
from vlab.cli.profiling import profile_command
from vlab.cli.services import doctor_command, down_command, status_command, up_command
from vlab.cli.targets import targets_command
from vlab.cli.verifying import verify_command
from vlab.errors import MissingToolError, TransientError, VlabError


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="vlab")
def vlab() -> None:
    """Benchmark AI models on partners' boards, as evidence that anyone can verify."""


for command in (
    benchmark_command,
    compile_command,
    doctor_command,
    down_command,
    profile_command,
    resume_command,
    runs_command,
    status_command,
    targets_command,
    up_command,
    verify_command,
):
    vlab.add_command(command)


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
