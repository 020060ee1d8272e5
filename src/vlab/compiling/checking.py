"""The reference check: on which inputs, and whether the outputs agree. Without it no artifact exists."""

from collections.abc import Sequence
from pathlib import Path

from vlab import processes, reference
from vlab.compiling import exchange
from vlab.compiling.exchange import Product
from vlab.datasets import Array, columns, load_dataset, read_rows
from vlab.errors import CompileError, MeasureError, ModelError
from vlab.numerics import Comparison, Deviation, compare
from vlab.records import Numerics, TensorSpec
from vlab.targets import Target

_MOST_SAMPLES = 32
_RANDOM_SAMPLES = 8
_MOST_OPERATIONS = 2_000_000_000
"""Of a whole probe: an emulator runs some ten million a second where it emulates vectors."""


def probe(specs: Sequence[TensorSpec], path: Path | None, *, operations: int) -> list[Array]:
    """Inputs for the check: at most 32 real samples, or 8 random ones; fewer of a model with many operations.

    Args:
        specs: the model's inputs.
        path: a data set; random without.
        operations: of one inference. The count follows from it and not from a clock, so that it is the same everywhere.

    Returns:
        For each input [N, ...shape of the input], N at least 1.

    Raises:
        ModelError: the file cannot be read or its rows do not fit the inputs.
    """
    affordable = max(1, _MOST_OPERATIONS // max(1, operations))
    if path is None:
        return reference.random_rows(specs, min(_RANDOM_SAMPLES, affordable))
    try:
        inputs, _ = load_dataset(path)
        return columns(inputs[: min(_MOST_SAMPLES, affordable)], specs)
    except MeasureError as error:
        raise ModelError(str(error)) from error


def check(executable: Path, target: Target, product: Product, *, timeout_s: float) -> Numerics:
    """Run the executable on the probe beside it and compare.

    Raises:
        CompileError: it failed, or its outputs differ; with the figures.
        MissingToolError: the emulator is not installed.
        TargetError: this machine cannot run the target's executables.
    """
    directory = executable.parent
    outputs = directory / "outputs.bin"
    argv = target.command(executable, ["infer", directory / exchange.PROBE, outputs])
    try:
        done = processes.run_limited(argv, timeout_s=timeout_s, cwd=directory)
    except OSError as error:
        raise CompileError(f"the executable for {target.name} cannot be started: {error}") from error
    if done.returncode:
        raise CompileError(
            f"the executable for {target.name} failed on the probe (status {done.returncode}): {done.last_words}"
        )
    try:
        got = read_rows(outputs, product.outputs, product.probe_count)
        expected = read_rows(directory / exchange.REFERENCE, product.outputs, product.probe_count)
    except MeasureError as error:
        raise CompileError(f"the outputs for {target.name} cannot be compared: {error}") from error
    return agreed(compare(got, expected, reference=product.reference), product.outputs)


def agreed(comparison: Comparison, outputs: Sequence[TensorSpec]) -> Numerics:
    """The figures of outputs that agree.

    Raises:
        CompileError: an output differs by more than is allowed; with the figures.
    """
    figures = comparison.numerics
    if not comparison.agrees:
        pairs = zip(outputs, comparison.deviations, strict=True)
        told = "; ".join(_told(spec, deviation) for spec, deviation in pairs if not deviation.allowed)
        raise CompileError(
            f"the compiled model differs from {figures.reference} over {figures.inputs} inputs: {told}; top-1 agreement "
            f"{figures.top1_agreement:.1%}. An operator of the model is compiled wrongly; replace operators one by one to find "
            "which"
        )
    return figures


def _told(spec: TensorSpec, deviation: Deviation) -> str:
    specials = "" if deviation.same_specials else ", and infinities or NaN stand where the reference has other values"
    return f"output {spec.name} by up to {deviation.max_abs_err:.3g} (allowed {deviation.tolerance:.3g}){specials}"
