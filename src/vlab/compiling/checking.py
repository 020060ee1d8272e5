"""The reference check: whether an executable's outputs agree. Without it no artifact exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlab import processes
from vlab.compiling import exchange
from vlab.compiling.exchange import Product
from vlab.datasets import Array, read_rows
from vlab.errors import CompileError, DifferenceError, MeasureError
from vlab.numerics import MOST_BIAS, MOST_UNSETTLED, Comparison, Deviation, compare
from vlab.records import CheckCase, Numerics, TensorSpec
from vlab.targets import Target


@dataclass(frozen=True)
class Answers:
    """Outputs over all cases, one after the other: for each output of the model [N, ...]."""

    got: Sequence[Array]
    expected: Sequence[Array]
    """Of the reference runtime."""
    moved: Sequence[Sequence[Array]] = ()
    """Of the reference runtime for inputs that were rounded, each time otherwise."""

    def compare(self, product: Product, rows: slice = slice(None)) -> Comparison:
        """Compare some of the rows."""
        return compare(
            [array[rows] for array in self.got],
            [array[rows] for array in self.expected],
            reference=product.reference,
            outputs=product.outputs,
            moved=[[array[rows] for array in answer] for answer in self.moved],
        )


def run(executable: Path, target: Target, product: Product, *, timeout_s: float) -> Answers:
    """Run the executable on the probe beside it.

    Raises:
        CompileError: it failed.
        MissingToolError: the emulator is not installed.
        TargetError: this machine cannot run the target's executables.
    """
    directory = executable.parent
    outputs = directory / "outputs.bin"
    argv = target.command(executable, ["infer", exchange.PROBE, outputs.name])
    try:
        done = processes.run_limited(argv, timeout_s=timeout_s, cwd=directory)
    except OSError as error:
        raise CompileError(f"the executable for {target.name} cannot be started: {error}") from error
    if done.returncode:
        raise CompileError(
            f"the executable for {target.name} failed on the probe (status {done.returncode}): {done.last_words}"
        )
    count = sum(case.inputs for case in product.cases)
    try:
        return Answers(
            got=read_rows(outputs, product.outputs, count),
            expected=read_rows(directory / exchange.REFERENCE, product.outputs, count),
            moved=[read_rows(path, product.outputs, count) for path in sorted(directory.glob(exchange.MOVED.format("*")))],
        )
    except MeasureError as error:
        raise CompileError(f"the outputs for {target.name} cannot be compared: {error}") from error


def agreed(answers: Answers, product: Product) -> Numerics:
    """The figures of outputs that agree on every case.

    Raises:
        DifferenceError: an output differs by more than is allowed; with the figures.
        CompileError: the reference does not settle what the outputs are.
    """
    ends = np.cumsum([case.inputs for case in product.cases]).tolist()
    places = [slice(end - case.inputs, end) for case, end in zip(product.cases, ends, strict=True)]
    by_case = [answers.compare(product, place) for place in places]
    ordinary = answers.compare(product, slice(0, sum(case.inputs for case in product.cases if not case.edge)))
    everything = answers.compare(product)
    figures = ordinary.numerics
    if not everything.agrees:
        wrong = [case.name for case, one in zip(product.cases, by_case, strict=True) if not one.agrees]
        worst = everything if ordinary.agrees else ordinary
        pairs = zip(product.outputs, worst.deviations, strict=True)
        differing = {spec.name: _told(spec, deviation) for spec, deviation in pairs if not deviation.allowed}
        told = "; ".join(differing.values())
        raise DifferenceError(
            f"the compiled model differs from {product.reference} over {worst.numerics.inputs} inputs: {told}; top-1 agreement "
            f"{worst.numerics.top1_agreement:.1%}; on: {', '.join(wrong)}",
            tuple(differing),
        )
    for output in figures.outputs:
        if output.unsettled > MOST_UNSETTLED:
            raise CompileError(
                f"{output.unsettled:.1%} of output {output.name} differs from {product.reference} and changes there too when "
                f"inputs are rounded (expected at most {MOST_UNSETTLED:.0%}), so there is nothing to compare with; look for "
                "random or chaotic operators in the model"
            )
    told_cases = (
        CheckCase(
            name=case.name,
            inputs=case.inputs,
            max_abs_err=one.numerics.max_abs_err,
            tolerance=(one if one.agrees else everything).numerics.tolerance,
        )
        for case, one in zip(product.cases, by_case, strict=True)
    )
    return figures.model_copy(update={"cases": tuple(told_cases)})


def _told(spec: TensorSpec, deviation: Deviation) -> str:
    specials = "" if deviation.same_specials else ", and infinities or NaN stand where the reference has other values"
    share = f" for {deviation.required:.1%} of the elements, got {deviation.within:.1%}" if deviation.required < 1 else ""
    top1 = "" if deviation.same_top1 else ", and its largest element is another one"
    most = f"{deviation.tolerance:.3g}{share}"
    bias = f", in the mean by {deviation.bias:.2g} steps (allowed {MOST_BIAS})" if deviation.bias > MOST_BIAS else ""
    return f"output {spec.name} by up to {deviation.max_abs_err:.3g} (allowed {most}){specials}{top1}{bias}"
