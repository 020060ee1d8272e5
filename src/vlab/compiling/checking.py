"""Compare an executable's outputs with the reference runtime's: without that no artifact exists."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vlab import processes
from vlab.compiling import exchange
from vlab.compiling.exchange import Product
from vlab.errors import CompileError
from vlab.records import Numerics, TensorSpec
from vlab.targets import Target

_RELATIVE_TOLERANCE = 1e-4
_EXACT = 0.5
"""Tolerance for whole numbers, which are equal or not."""

Values = npt.NDArray[np.float64]


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
    got, expected = outputs.read_bytes(), (directory / exchange.REFERENCE).read_bytes()
    if len(got) != len(expected):
        raise CompileError(f"the executable for {target.name} wrote {len(got)} bytes of outputs; expected {len(expected)}")
    return compare(got, expected, product)


def compare(got: bytes, expected: bytes, product: Product) -> Numerics:
    """The figures over all samples and outputs; the outputs must agree.

    Each output is allowed an error of 1e-4 of its largest reference value, or 1e-4 where that is below 1; whole numbers none.
    NaN agrees with NaN and an infinity with the same one.

    Args:
        got: the executable's outputs, raw.
        expected: the reference's, likewise.
        product: says what the bytes are.

    Raises:
        CompileError: an output differs by more than is allowed; with the figures.
    """
    columns = [
        _Column(spec, ours, theirs)
        for spec, ours, theirs in zip(product.outputs, _columns(got, product), _columns(expected, product), strict=True)
    ]
    worst = max(columns, key=lambda column: column.max_abs_err / column.tolerance)
    ours = np.concatenate([column.ours.ravel() for column in columns])
    theirs = np.concatenate([column.theirs.ravel() for column in columns])
    top1 = float(np.mean(columns[0].ours.argmax(axis=1) == columns[0].theirs.argmax(axis=1)))
    bad = [column for column in columns if not column.agrees]
    if bad:
        told = "; ".join(column.told for column in bad)
        raise CompileError(
            f"the compiled model differs from {product.reference} over {product.probe_count} inputs: {told}; top-1 agreement "
            f"{top1:.1%}. An operator of the model is compiled wrongly; replace operators one by one to find which"
        )
    norm = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return Numerics(
        reference=product.reference,
        inputs=product.probe_count,
        max_abs_err=worst.max_abs_err,
        tolerance=worst.tolerance,
        rmse=float(np.sqrt(np.mean((ours - theirs) ** 2))),
        cosine=min(1.0, float(ours @ theirs) / norm) if norm else 1.0,
        top1_agreement=top1,
    )


@dataclass(frozen=True)
class _Column:
    """One output over all samples; rows are samples. Values that agree without being finite count as 0 on both sides."""

    spec: TensorSpec
    raw_ours: Values
    raw_theirs: Values

    @property
    def _finite(self) -> npt.NDArray[np.bool_]:
        return np.isfinite(self.raw_theirs) & np.isfinite(self.raw_ours)

    @property
    def ours(self) -> Values:
        return np.where(self._finite, self.raw_ours, 0.0)

    @property
    def theirs(self) -> Values:
        return np.where(self._finite, self.raw_theirs, 0.0)

    @property
    def max_abs_err(self) -> float:
        return float(np.abs(self.ours - self.theirs).max(initial=0.0))

    @property
    def tolerance(self) -> float:
        if np.dtype(self.spec.dtype).kind != "f":
            return _EXACT
        return _RELATIVE_TOLERANCE * max(1.0, float(np.abs(self.theirs).max(initial=0.0)))

    @property
    def _same_specials(self) -> bool:
        return np.array_equal(self.raw_ours[~self._finite], self.raw_theirs[~self._finite], equal_nan=True)

    @property
    def agrees(self) -> bool:
        return self.max_abs_err <= self.tolerance and self._same_specials

    @property
    def told(self) -> str:
        specials = "" if self._same_specials else ", and infinities or NaN stand where the reference has other values"
        return f"output {self.spec.name} by up to {self.max_abs_err:.3g} (allowed {self.tolerance:.3g}){specials}"


def _columns(raw: bytes, product: Product) -> Sequence[Values]:
    """The bytes of all samples, output by output, each with one row a sample."""
    row = np.dtype(
        [(f"f{index}", np.dtype(spec.dtype).newbyteorder("<"), spec.shape) for index, spec in enumerate(product.outputs)]
    )
    table = np.frombuffer(raw, dtype=row)
    return [table[f"f{index}"].reshape(product.probe_count, -1).astype(np.float64) for index in range(len(product.outputs))]
