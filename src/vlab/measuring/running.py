"""Run the executable of an artifact: natively or under the target's emulator, within limits."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGILL
from typing import Literal, TypeVar

from vlab import processes
from vlab.errors import EvidenceError, MeasureError
from vlab.records import Plan, Record, Warmup
from vlab.targets import Target

PASS_LIMIT_S = 3600.0
"""For a pass whose length depends on the data set: nobody waits longer, and a hanging program must end."""
SPARE_S = 300.0
"""On top of a plan's own limits: start-up, and one last inference that was under way when time ran out."""
MEMORY_LIMIT_BYTES = 16 << 30
"""Address space: keeps a runaway program from taking the worker's host down; emulators reserve gigabytes they never use."""

_Report = TypeVar("_Report", bound=Record)
_SMALL_PAGES = "import ctypes, os, sys; ctypes.CDLL(None).prctl(41, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""PR_SET_THP_DISABLE (prctl(2)), which a program inherits: without it a touched page of an emulated board may count as the huge
page of the host that holds it."""

_ILLEGAL = (-SIGILL, 128 + SIGILL)


class PassLimitError(MeasureError):
    """A pass took too long."""


class TimeReport(Record):
    """What the program says of `time`."""

    load_ns: int
    first_inference_ns: int
    clock_resolution_ns: int
    warmup: Warmup
    inferences: int
    stride: int
    duration_ns: int
    cpu_ns: int
    preemptions: int


class MemoryReport(Record):
    """What the program says of `memory`."""

    peak_bytes: int | None
    stack_bytes: int | None = None
    """Deepest use of a microcontroller's stack, which is part of the peak."""
    source: str


class ProfileReport(Record):
    """What the program says of `profile`."""

    mark: int
    """Address of the function that is entered at each mark."""
    trouble: str
    """Why the counter cannot be read; empty where it can."""


@dataclass(frozen=True)
class Program:
    """An executable on this machine with the directory its files are exchanged in."""

    executable: Path
    target: Target
    work: Path

    def infer(self, inputs: str, outputs: str) -> Path:
        """Run every sample; returns the file of raw outputs.

        Raises:
            MeasureError: the program failed or ran too long.
        """
        self._run(["infer", inputs, outputs], PASS_LIMIT_S)
        return self.work / outputs

    def time(self, inputs: str, samples: str, plan: Plan) -> TimeReport:
        """Warm up and time inferences; raw uint64 samples go into the file `samples`.

        Raises:
            MeasureError: the program failed, ran too long, or said something else than expected.
        """
        limits = (
            plan.warmup_min_count,
            plan.warmup_min_ns,
            plan.warmup_max_ns,
            plan.samples_min_count,
            plan.samples_min_ns,
            plan.samples_max_ns,
            plan.samples_max_count,
        )
        allowed_s = (plan.warmup_max_ns + plan.samples_max_ns) / 1e9 + SPARE_S
        return _parse(TimeReport, self._run(["time", inputs, samples, *map(str, limits)], allowed_s))

    def memory(self, inputs: str) -> MemoryReport:
        """Peak of resident memory, in a run of its own.

        Raises:
            MeasureError: the program failed, ran too long, or said something else than expected.
        """
        own_pages = self.target.emulated and not self.target.firmware
        before = [sys.executable, "-I", "-S", "-c", _SMALL_PAGES] if own_pages else []
        return _parse(MemoryReport, self._run(["memory", inputs], PASS_LIMIT_S, before=before))

    def count(
        self,
        inputs: str,
        inferences: int,
        options: Sequence[str],
        timeout_s: float,
        consume: Callable[[bytes], None] | None = None,
    ) -> None:
        """Run the first sample that many times under the emulator; the program prints nothing.

        Args:
            inputs: file with at least one sample.
            inferences: how many times.
            options: what the emulator needs to count.
            timeout_s: seconds after which it is stopped.
            consume: is given what the emulator writes to standard output.

        Raises:
            PassLimitError: it ran too long.
            MeasureError: the program failed.
        """
        self._run(["count", inputs, str(inferences)], timeout_s, options=options, consume=consume)

    def profile(self, inputs: str, readings: str, repetitions: int, counter: Literal["ns", "instructions"]) -> ProfileReport:
        """Run the first sample that many times, and read a counter before the first kernel, twice, and after each one.

        Args:
            inputs: file with at least one sample.
            readings: file for the raw uint64 readings of all repetitions.
            repetitions: how many times.
            counter: what to read.

        Raises:
            MeasureError: the program failed or ran too long.
        """
        return _parse(ProfileReport, self._run(["profile", inputs, readings, str(repetitions), counter], PASS_LIMIT_S))

    def mark(
        self,
        inputs: str,
        readings: str,
        options: Sequence[str],
        timeout_s: float,
        consume: Callable[[bytes], None] | None = None,
    ) -> None:
        """Run the first sample once under the emulator, entering the function that `profile` tells at each mark.

        Raises:
            PassLimitError: it ran too long.
            MeasureError: the program failed.
        """
        self._run(["profile", inputs, readings, "1", "none"], timeout_s, options=options, consume=consume)

    def _run(
        self,
        args: Sequence[str],
        timeout_s: float,
        *,
        options: Sequence[str] = (),
        before: Sequence[str] = (),
        consume: Callable[[bytes], None] | None = None,
    ) -> bytes:
        argv = [*before, *self.target.command(self.executable, args, options=options)]
        try:
            done = processes.run_limited(
                argv, timeout_s=timeout_s, cwd=self.work, memory_bytes=MEMORY_LIMIT_BYTES, consume=consume
            )
        except processes.LimitError as error:
            raise PassLimitError(f"{args[0]} on {self.target.name}: {error}; hand in a smaller model or data set") from error
        except OSError as error:
            raise MeasureError(
                f"{self.executable} cannot be started on {self.target.name}: {error}; deploy it again"
            ) from error
        if done.returncode in _ILLEGAL:
            raise MeasureError(
                f"{args[0]} on {self.target.name} stopped at an illegal instruction: this CPU lacks an instruction set the "
                f"target needs ({self.target.isa}); choose the target of this board"
            )
        if done.returncode:
            raise MeasureError(f"{args[0]} on {self.target.name} ended with status {done.returncode}: {done.last_words}")
        return done.stdout


def _parse(kind: type[_Report], stdout: bytes) -> _Report:
    try:
        return kind.from_json(stdout)
    except EvidenceError as error:
        raise MeasureError(f"the program answered {stdout[:200]!r}: {error}; compile the model again") from error
