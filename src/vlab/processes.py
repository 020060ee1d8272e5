"""Run a program with limits on time, memory and output, and stop its whole process group when they are passed."""

import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import MissingToolError, RefusedError, VlabError

OUTPUT_LIMIT_BYTES = 16 << 20
"""For each of standard output and standard error, which are kept in memory."""

_PIECE_BYTES = 1 << 16


class LimitError(VlabError):
    """A program passed its time limit."""


class OutputError(RefusedError):
    """A program printed more than anyone reads."""


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
    consume: Callable[[bytes], None] | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: the program and its arguments; never a shell string.
        timeout_s: seconds after which the process group is killed.
        cwd: working directory.
        memory_bytes: limit on the address space (RLIMIT_AS); note that emulators reserve far more than they use.
        env: variables on top of the current environment.
        consume: is given standard output piece by piece, however much it is, and `stdout` stays empty. What it raises stops
            the program and is passed on.

    Raises:
        LimitError: it ran longer than `timeout_s`.
        OutputError: it printed more than OUTPUT_LIMIT_BYTES.
        MissingToolError: there is no such program.
    """
    deadline = time.monotonic() + timeout_s
    words = [str(word) for word in argv]
    name = Path(words[0]).name
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise MissingToolError(
            f"{words[0]} is not on this machine; `vlab doctor` names the command that installs it"
        ) from error
    with process:  # closes the pipes
        try:
            if memory_bytes is not None:  # prlimit on the child: a preexec_fn is not safe in a process with threads
                resource.prlimit(process.pid, resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            out, err = _read_all(process, name, deadline, consume)
            process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LimitError(f"{name} was stopped after its limit of {timeout_s:g} s") from error
            raise
    return Finished(process.returncode, out, err.decode(errors="replace"))


def _read_all(
    process: subprocess.Popen[bytes], name: str, deadline: float, consume: Callable[[bytes], None] | None
) -> tuple[bytes, bytes]:
    """What the program prints until it has closed both streams."""
    kept = {"standard output": bytearray(), "standard error": bytearray()}
    with selectors.DefaultSelector() as selector:
        for where, stream in zip(kept, (process.stdout, process.stderr), strict=True):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, where)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in selector.select(left):
                piece = os.read(key.fd, _PIECE_BYTES)
                if not piece:
                    selector.unregister(key.fileobj)
                elif consume is not None and key.data == "standard output":
                    consume(piece)
                else:
                    kept[key.data] += piece
                    if len(kept[key.data]) > OUTPUT_LIMIT_BYTES:
                        raise OutputError(
                            f"{name} was stopped because it printed more than {OUTPUT_LIMIT_BYTES >> 20} MiB on {key.data}, "
                            f"beginning with {bytes(kept[key.data][:80])!r}; run it by hand to see why"
                        )
    return bytes(kept["standard output"]), bytes(kept["standard error"])
