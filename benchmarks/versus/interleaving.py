"""Two programs timed against each other, in blocks that take turns on one core: A B A B ..., so that both see the same machine.

A block is one process: warm-up, then samples by the program's own clock. Its median is one observation; a side's time is the
median of its blocks' medians.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from vlab.measuring.running import Program
from vlab.records import Plan

_RESAMPLES = 10_000
_SEED = 5


@dataclass(frozen=True)
class Pace:
    """How much is measured."""

    rounds: int
    """Blocks of each side."""
    block_ns: int
    """Samples of a block go on at least this long."""
    warmup_ns: int

    def plan(self) -> Plan:
        """One block's plan."""
        return Plan(
            name="smoke",
            warmup_min_count=3,
            warmup_min_ns=self.warmup_ns,
            warmup_max_ns=20 * self.warmup_ns,
            samples_min_count=5,
            samples_min_ns=self.block_ns,
            samples_max_ns=20 * self.block_ns,
        )


@dataclass(frozen=True)
class Versus:
    """What came of it: medians of the blocks in their order, in nanoseconds, and the ratio of ours to theirs."""

    ours_ns: tuple[float, ...]
    theirs_ns: tuple[float, ...]
    ratio: float
    lower: float
    """Of the ratio: bootstrap over rounds, 95 %, percentiles."""
    upper: float


def measure(ours: Program, theirs: Program, inputs: str, pace: Pace) -> Versus:
    """Time both programs in turns; which begins a round alternates.

    Args:
        ours: compiled by us; runs on this machine.
        theirs: the same model by another runtime, behind the same harness.
        inputs: file of samples in both programs' directory.
        pace: how long.

    Raises:
        MeasureError: a program failed.
    """
    plan = pace.plan()
    medians: dict[int, list[float]] = {0: [], 1: []}
    for turn in range(pace.rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            program = (ours, theirs)[side]
            program.time(inputs, "samples.bin", plan)
            medians[side].append(float(np.median(np.fromfile(program.work / "samples.bin", "<u8"))))
    return compare(medians[0], medians[1])


def compare(ours_ns: list[float], theirs_ns: list[float]) -> Versus:
    """Ratio of the medians, with a bootstrap over rounds: both blocks of a round are drawn together."""
    ours, theirs = np.array(ours_ns), np.array(theirs_ns)
    drawn = np.random.default_rng(_SEED).integers(0, len(ours), (_RESAMPLES, len(ours)))
    ratios = np.median(ours[drawn], axis=1) / np.median(theirs[drawn], axis=1)
    lower, upper = np.quantile(ratios, [0.025, 0.975])
    return Versus(tuple(ours_ns), tuple(theirs_ns), float(np.median(ours) / np.median(theirs)), float(lower), float(upper))


@contextmanager
def undisturbed(core: int) -> Iterator[None]:
    """Keep this process, and the processes it starts, on one core; where that is allowed, before every ordinary process there.

    Real-time priority (sched(7), SCHED_RR) needs CAP_SYS_NICE. Without it the same is measured, with more scatter.
    """
    cores, policy, parameters = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setaffinity(0, {core})
    try:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, parameters)
        os.sched_setaffinity(0, cores)
