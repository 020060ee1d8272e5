"""Run a program with limits on time and memory, and stop its whole process group when they are passed."""

import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import MissingToolError, VlabError


class LimitError(VlabError):
    """A program passed its time limit."""


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    returncode: int
    """Exit status; negative for the signal that ended it."""
    stdout: bytes
    stderr: str

    @property
    def last_words(self) -> str:
        """The last lines of standard error, for an error message."""
        return "\n".join(self.stderr.strip().splitlines()[-8:]) or "(it printed nothing)"


def run_limited(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    memory_bytes: int | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: the program and its arguments; never a shell string.
        timeout_s: seconds after which the process group is killed.
        cwd: working directory.
        memory_bytes: limit on the address space (RLIMIT_AS); note that emulators reserve far more than they use.
        env: variables on top of the current environment.
        stdin: bytes for standard input; nothing by default.

    Raises:
        LimitError: it ran longer than `timeout_s`.
        MissingToolError: there is no such program.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise MissingToolError(
            f"{words[0]} is not on this machine; `vlab doctor` names the command that installs it"
        ) from error
    try:
        if memory_bytes is not None:  # prlimit on the child: a preexec_fn is not safe in a process with threads
            resource.prlimit(process.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        out, err = process.communicate(input=stdin, timeout=timeout_s)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise LimitError(f"{Path(words[0]).name} was stopped after its limit of {timeout_s:g} s") from error
        raise
    return Finished(process.returncode, out, err.decode(errors="replace"))
