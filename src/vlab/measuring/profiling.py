"""Where an inference spends its time: time and instructions of every kernel call, in runs of their own."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlab.datasets import Array, columns, write_rows
from vlab.errors import EvidenceError, MeasureError
from vlab.measuring import machine
from vlab.measuring.counting import CountedCalls, count_calls, uncountable
from vlab.measuring.running import Program
from vlab.records import ArtifactManifest, CallProfile, Calls, KernelCall, KernelProfile
from vlab.targets import Target

_INPUTS, _READINGS = "inputs.bin", "readings.bin"
_TRIAL_COUNT, _MOST_REPETITIONS, _FEWEST_REPETITIONS = 3, 1000, 10
_DURATION_NS = 1_000_000_000


def profile(
    directory: Path, manifest: ArtifactManifest, target: Target, inputs: Array, *, work: Path, plugin_cache: Path
) -> KernelProfile:
    """Profile an unpacked artifact on its first input.

    On hardware every kernel call is timed, for a second in all, and its instructions are counted if the system lets programs
    count them. Under an emulator there are exact instructions and no times, for an emulator's time says nothing of the board.

    Args:
        directory: the artifact, as `deploying.unpack` leaves it.
        manifest: its manifest.
        target: the kind of board; natively here, or under its emulator.
        inputs: at least one row, as `load_dataset` gives them.
        work: directory for files between this process and the program, made where it is missing.
        plugin_cache: directory for the plugin that counts instructions under an emulator.

    Raises:
        MeasureError: the row does not fit the model, the artifact has no list of its calls, or the program failed.
        MissingToolError: the emulator is not installed.
        TargetError: this machine cannot run executables of the target.
    """
    calls = kernel_calls(directory)
    threads = threads_of(calls)
    load_avg_start = machine.load_average()
    work.mkdir(parents=True, exist_ok=True)
    write_rows(columns(inputs[:1], manifest.inputs), work / _INPUTS)
    program = Program((directory / manifest.executable).absolute(), target, work.absolute())
    if target.emulated and target.emulator:
        times, time_reason = None, "an emulator's time says nothing about the board"
    else:
        times, time_reason = _times(program, len(calls)), ""
    if threads > 1:
        counted = CountedCalls(None, uncountable(threads))
    elif target.emulated and target.emulator:
        counted = count_calls(program, _INPUTS, len(calls), target.emulator, plugin_cache)
    else:
        counted = _counter(program, len(calls))
    return KernelProfile(
        model=manifest.model,
        target=manifest.target,
        manifest_sha256=manifest.digest(),
        emulated=target.emulated,
        environment=machine.describe(target, load_avg_start=load_avg_start),
        threads=threads,
        repetitions=0 if times is None else len(times),
        time_reason=time_reason,
        instructions_reason=counted.how,
        calls=_profiles(calls, times, counted),
    )


def kernel_calls(directory: Path) -> tuple[KernelCall, ...]:
    """What an artifact says its kernel calls do, in order.

    Raises:
        MeasureError: it does not say.
    """
    try:
        return Calls.from_json((directory / Calls.FILE).read_bytes()).calls
    except (OSError, EvidenceError) as error:
        raise MeasureError(f"the artifact does not say what its kernels do ({error}); compile the model again") from error


def threads_of(calls: tuple[KernelCall, ...]) -> int:
    """Threads of the program: only as many as a kernel is worth sharing among."""
    return max((call.threads for call in calls), default=1)


def _times(program: Program, calls: int) -> npt.NDArray[np.float64]:
    """Nanoseconds [repetition, call], without what reading the clock takes."""
    program.profile(_INPUTS, _READINGS, _TRIAL_COUNT, "ns")
    once_ns = max(1.0, float(_between(program.work / _READINGS, calls).sum(axis=1).min()))
    repetitions = round(min(max(_DURATION_NS / once_ns, _FEWEST_REPETITIONS), _MOST_REPETITIONS))
    program.profile(_INPUTS, _READINGS, repetitions, "ns")
    between = _between(program.work / _READINGS, calls)
    return np.maximum(between[:, 1:] - np.median(between[:, 0]), 0.0)


def _counter(program: Program, calls: int) -> CountedCalls:
    """Instructions by the system's counter: the fewest of several repetitions, for interrupts may add some."""
    trouble = program.profile(_INPUTS, _READINGS, _FEWEST_REPETITIONS, "instructions").trouble
    if trouble:
        return CountedCalls(None, f"this system does not count instructions: perf_event_open says {trouble}")
    fewest = _between(program.work / _READINGS, calls).min(axis=0)
    return CountedCalls(tuple(max(0, int(count - fewest[0])) for count in fewest[1:]), "perf_event_open")


def _between(path: Path, calls: int) -> npt.NDArray[np.float64]:
    """What passed between marks, [repetition, 1 + calls]; first what marking takes."""
    readings = np.fromfile(path, dtype="<u8").reshape(-1, calls + 2)
    return np.diff(readings, axis=1).astype(np.float64)


def _profiles(
    calls: tuple[KernelCall, ...], times: npt.NDArray[np.float64] | None, counted: CountedCalls
) -> tuple[CallProfile, ...]:
    medians = [None] * len(calls) if times is None else [float(value) for value in np.median(times, axis=0)]
    fewest = [None] * len(calls) if times is None else [float(value) for value in times.min(axis=0)]
    counts = counted.of_calls or [None] * len(calls)
    costs = [cost for cost in (counts if times is None else medians) if cost is not None]
    whole = sum(costs)
    return tuple(
        CallProfile(
            call=call,
            median_ns=median,
            min_ns=least,
            instructions=count,
            share=costs[place] / whole if whole else None,
            gmacs_per_s=call.macs / median if median else None,
            instructions_per_mac=count / call.macs if count is not None and call.macs else None,
        )
        for place, (call, median, least, count) in enumerate(zip(calls, medians, fewest, counts, strict=True))
    )
