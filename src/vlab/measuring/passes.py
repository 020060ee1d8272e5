"""All passes of a measurement, each in a process of its own so that none disturbs another."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vlab import numerics, statistics
from vlab.datasets import Array, Reference, columns, read_rows, write_rows
from vlab.errors import MeasureError
from vlab.measuring import machine
from vlab.measuring.counting import Counted, count, uncountable
from vlab.measuring.profiling import kernel_calls, threads_of
from vlab.measuring.quality import Seen, judge
from vlab.measuring.running import MemoryReport, Program
from vlab.records import ArtifactManifest, Environment, Measurement, Numerics, Plan, TensorSpec, digest_file
from vlab.targets import Target

REPEATED_SAMPLES = 8
"""Samples that are inferred a second time, to see whether the outputs are the same bytes again."""

_INPUTS, _FIRST_INPUTS, _SAMPLES = "inputs.bin", "first-inputs.bin", "samples.bin"


def measure(
    directory: Path,
    manifest: ArtifactManifest,
    target: Target,
    plan: Plan,
    inputs: Array,
    labels: Array | None,
    reference: Reference | None,
    *,
    emulated: bool,
    work: Path,
    plugin_cache: Path,
    progress: Callable[[str, float], None] | None = None,
) -> tuple[Measurement, Environment]:
    """Run an unpacked artifact over a data set and time it by a plan.

    Args:
        directory: the artifact, as `deploying.unpack` leaves it.
        manifest: its manifest.
        target: the kind of board; natively here, or under its emulator.
        plan: what is measured and how.
        inputs: rows as `load_dataset` gives them; accuracy, numerics and the digest of the outputs are over all of them.
        labels: int64 [N], or None; accuracy is then null.
        reference: outputs of the reference runtime for the same rows, or None; numerics are then null.
        emulated: what the board is declared to be.
        work: directory for files between this process and the program, made where it is missing.
        plugin_cache: directory for the plugin that counts instructions under an emulator.
        progress: called with the name of the pass that begins and the share of passes done, at the end with `done` and 1.0.

    Raises:
        MeasureError: the board is not what it is declared to be, the rows do not fit the model, or the program failed.
        MissingToolError: the emulator is not installed.
        TargetError: this machine cannot run executables of the target.
    """
    _check_declaration(target, emulated=emulated)
    if manifest.options.threads != plan.threads:
        raise MeasureError(
            f"the artifact is compiled for {manifest.options.threads} threads, but the plan says {plan.threads}; "
            "compile it for those of the plan"
        )
    passes = ["infer", "time", "memory", *(["count"] if target.emulated else [])]

    def begin(name: str) -> None:
        if progress:
            progress(name, passes.index(name) / len(passes) if name in passes else 1.0)

    work.mkdir(parents=True, exist_ok=True)
    program = Program((directory / manifest.executable).absolute(), target, work.absolute())
    rows = columns(inputs, manifest.inputs)
    write_rows(rows, work / _INPUTS)
    write_rows([column[:REPEATED_SAMPLES] for column in rows], work / _FIRST_INPUTS)

    load_avg_start = machine.load_average()
    begin("infer")
    raw = program.infer(_INPUTS, "outputs.bin")
    outputs = read_rows(raw, manifest.outputs, len(inputs))
    outputs_sha256 = digest_file(raw)
    outputs_repeat = _same_start(raw, program.infer(_FIRST_INPUTS, "outputs-again.bin"))
    board_numerics, numerics_hold = _compare(outputs, manifest.outputs, reference)

    begin("time")
    ticks = machine.cpu_ticks()
    report = program.time(_INPUTS, _SAMPLES, plan)
    stolen_share = machine.stolen_share(ticks, machine.cpu_ticks())
    samples_ns = _read_samples(work / _SAMPLES)

    begin("memory")
    memory = program.memory(_FIRST_INPUTS)

    counted = Counted(None, "counted under emulators only")
    threads = threads_of(kernel_calls(directory)) if plan.threads > 1 else 1
    if threads > 1:
        counted = Counted(None, uncountable(threads))
    elif target.emulated and target.emulator:
        begin("count")
        limit_s = (plan.warmup_max_ns + plan.samples_max_ns) / 1e9
        counted = count(program, _FIRST_INPUTS, target.emulator, plugin_cache, log_limit_s=limit_s)

    quality, reasons = judge(
        Seen(
            samples_ns=samples_ns,
            report=report,
            emulated=target.emulated,
            numerics_hold=numerics_hold,
            outputs_repeat=outputs_repeat,
            counting_trouble=counted.trouble,
            stolen_share=stolen_share,
            load_avg_start=load_avg_start,
            cpus=os.cpu_count() or 1,
        ),
        plan,
    )
    peak, how = _peak_memory(memory, target)
    accuracy = _accuracy(outputs[0], labels)
    measurement = Measurement(
        samples_ns=samples_ns,
        stride=report.stride,
        latency=statistics.latency(samples_ns, plan.confidence),
        warmup=report.warmup,
        first_inference_ns=report.first_inference_ns,
        load_ns=report.load_ns,
        clock_resolution_ns=report.clock_resolution_ns,
        instructions_per_inference=counted.per_inference,
        instructions_reason=counted.how,
        ram_peak_bytes=peak,
        ram_peak_reason=how,
        accuracy=accuracy,
        accuracy_inputs=0 if accuracy is None else len(inputs),
        numerics=board_numerics,
        outputs_sha256=outputs_sha256,
        quality=quality,
        quality_reasons=reasons,
    )
    environment = machine.describe(target, load_avg_start=load_avg_start)
    begin("done")
    return measurement, environment


def _check_declaration(target: Target, *, emulated: bool) -> None:
    """No figure of an emulator is ever recorded as one of hardware, nor the other way round."""
    if emulated and target.native:
        raise MeasureError(
            f"the board is declared as emulated, but this machine runs {target.name} natively; declare it as local hardware"
        )
    if not emulated and target.emulated:
        raise MeasureError(
            f"the board is declared as hardware, but this machine is no {target.name} and would emulate it; "
            "start the worker on the board itself, or declare the board as emulated"
        )


def _compare(outputs: list[Array], specs: Sequence[TensorSpec], reference: Reference | None) -> tuple[Numerics | None, bool]:
    if reference is None:
        return None, True
    try:
        expected = [array.reshape(ours.shape) for array, ours in zip(reference.outputs, outputs, strict=True)]
    except ValueError as error:
        raise MeasureError(
            f"the reference outputs do not fit the artifact's ({error}); make them from the same model"
        ) from error
    compared = numerics.compare(outputs, expected, reference=reference.runtime, outputs=specs)
    return compared.numerics, compared.agrees


def _accuracy(scores: Array, labels: Array | None) -> float | None:
    """Share of rows whose highest score is the labelled class; null without labels or with fewer than two scores a row."""
    rows = scores.reshape(len(scores), -1)
    if labels is None or rows.shape[1] < 2:
        return None
    return float(np.mean(rows.argmax(axis=1) == labels))


def _same_start(whole: Path, start: Path) -> bool:
    with whole.open("rb") as stream:
        expected = start.read_bytes()
        return stream.read(len(expected)) == expected


def _read_samples(path: Path) -> tuple[int, ...]:
    samples: list[int] = np.fromfile(path, dtype="<u8").tolist()
    if not samples:
        raise MeasureError("the program took no sample; give the plan a larger samples_max_ns")
    return tuple(samples)


def _peak_memory(memory: MemoryReport, target: Target) -> tuple[int | None, str]:
    """The peak and how it was taken; null where the program saw the emulator instead of itself."""
    if target.firmware:
        return memory.peak_bytes, memory.source
    guest = memory.source == "guest pages"
    if memory.peak_bytes is not None and guest != target.emulated:
        return None, f"taken as {memory.source}, which here is not the program's own memory"
    return memory.peak_bytes, memory.source
