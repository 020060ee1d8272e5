"""Compare computed outputs with a reference runtime's; one rule for the compile stage and for boards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.records import Numerics

RELATIVE_TOLERANCE = 1e-4
"""Allowed error of a float output, relative to its largest reference value or to 1; about three times the largest one seen on
correct fp32 models of 50 layers."""
WHOLE_NUMBER_TOLERANCE = 0.5
"""Whole numbers are equal or not."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Deviation:
    """How far one output is from the reference's."""

    max_abs_err: float
    tolerance: float
    same_specials: bool
    """Whether NaN and infinities stand where the reference has the same."""

    @property
    def allowed(self) -> bool:
        """Whether the output agrees."""
        return self.same_specials and self.max_abs_err <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """Figures over all outputs, and the deviation of each in the model's order."""

    numerics: Numerics
    deviations: tuple[Deviation, ...]

    @property
    def agrees(self) -> bool:
        """Whether every output agrees."""
        return all(one.allowed for one in self.deviations)


def compare(got: Sequence[Array], expected: Sequence[Array], *, reference: str) -> Comparison:
    """Figures over all samples and outputs, and whether the outputs agree.

    NaN agrees with NaN and an infinity with the same one; such elements count as 0 on both sides in the figures. The maximum
    error and its tolerance are those of the output that comes nearest to its tolerance; top-1 is that of the first output.

    Args:
        got: for each output of the model an array [N, ...], N at least 1.
        expected: the same of the reference runtime, of the same shapes.
        reference: name and version of the reference runtime.

    Raises:
        ValueError: the shapes differ.
    """
    if [array.shape for array in got] != [array.shape for array in expected]:
        raise ValueError(f"got shapes {[a.shape for a in got]}, the reference has {[a.shape for a in expected]}")
    columns = [_deviation(ours, theirs) for ours, theirs in zip(got, expected, strict=True)]
    deviations = tuple(deviation for _, _, deviation in columns)
    worst = max(deviations, key=lambda one: one.max_abs_err / one.tolerance)
    ours = np.concatenate([column.ravel() for column, _, _ in columns])
    theirs = np.concatenate([column.ravel() for _, column, _ in columns])
    norm = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    first_ours, first_theirs, _ = columns[0]
    numerics = Numerics(
        reference=reference,
        inputs=len(got[0]),
        max_abs_err=worst.max_abs_err,
        tolerance=worst.tolerance,
        rmse=float(np.sqrt(np.mean((ours - theirs) ** 2))),
        cosine=min(1.0, float(ours @ theirs) / norm) if norm else float(not ours.any() and not theirs.any()),
        top1_agreement=float(np.mean(first_ours.argmax(axis=1) == first_theirs.argmax(axis=1))),
    )
    return Comparison(numerics, deviations)


def _deviation(raw_ours: Array, raw_theirs: Array) -> tuple[Array, Array, Deviation]:
    """Both sides as float64 [N, elements] with what is not finite as 0, and how far they are apart."""
    ours = raw_ours.astype(np.float64).reshape(len(raw_ours), -1)
    theirs = raw_theirs.astype(np.float64).reshape(len(raw_theirs), -1)
    finite = np.isfinite(ours) & np.isfinite(theirs)
    same_specials = np.array_equal(ours[~finite], theirs[~finite], equal_nan=True)
    ours, theirs = np.where(finite, ours, 0.0), np.where(finite, theirs, 0.0)
    error = float(np.abs(ours - theirs).max(initial=0.0))
    largest = max(1.0, float(np.abs(theirs).max(initial=0.0)))
    tolerance = RELATIVE_TOLERANCE * largest if raw_theirs.dtype.kind == "f" else WHOLE_NUMBER_TOLERANCE
    return ours, theirs, Deviation(error, tolerance, same_specials)
