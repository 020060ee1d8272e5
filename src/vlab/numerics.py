"""Compare computed outputs with a reference runtime's; one rule for the compile stage and for boards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.records import Numerics, OutputNumerics, TensorSpec

RELATIVE_TOLERANCE = 1e-4
"""Allowed error of a float output, relative to the sample's largest reference value or to 1; about three times the largest one
seen on correct fp32 models of 50 layers."""
HALF_RELATIVE_TOLERANCES = {"float16": 1e-2, "bfloat16": 8e-2}
"""The same of what is computed in 16 bits: some 20 units of roundoff (4.9e-4 and 3.9e-3), for every layer rounds again."""
SMALL_OUTPUT_TOLERANCE = 1e-2
"""Relative to the largest value in all samples of an output that is small throughout, where 1e-4 would let anything pass."""
ROUNDING_FLOOR = 1e-7
"""Absolute: what numbers near 1 leave in float32 when they cancel (unit roundoff 6e-8)."""
WHOLE_NUMBER_TOLERANCE = 0.5
"""Whole numbers are equal or not."""
QUANTISED_SHARE = 0.999
"""Share of a quantised output's elements that must be within one step of the reference."""
MOST_STEPS = 8
"""Steps that are allowed at the most, where the reference itself moves: ONNX Runtime's own two ways of computing a quantised
MobileNetV2 are three steps apart."""
MOST_BIAS = 0.5
"""Steps that a quantised output may be off in the mean. Rounding ties the other way moves half of the values by one step at the
most; what is further off is a wrong constant."""
MOST_UNSETTLED = 0.01
"""Share of elements that may be left out because the reference itself moves; see `compare`."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Deviation:
    """How far one output is from the reference's."""

    max_abs_err: float
    """Of the sample that comes nearest to its tolerance."""
    tolerance: float
    """Of the same sample."""
    within: float
    """Share of the elements within their sample's tolerance."""
    required: float
    """Share that must be."""
    same_specials: bool
    """Whether NaN and infinities stand where the reference has the same."""
    same_top1: bool
    """Whether the largest element is the reference's, as far as the tolerance tells them apart; asked of quantised outputs."""
    unsettled: float
    """Share of the elements that are off and were left out because the reference itself moves."""
    bias: float = 0.0
    """Magnitude of a quantised output's mean error in steps, beyond two standard errors and what the reference itself moves."""

    @property
    def allowed(self) -> bool:
        """Whether the output agrees."""
        return self.same_specials and self.same_top1 and self.within >= self.required and self.bias <= MOST_BIAS


@dataclass(frozen=True)
class Comparison:
    """Figures over all outputs, and the deviation of each in the model's order."""

    numerics: Numerics
    deviations: tuple[Deviation, ...]

    @property
    def agrees(self) -> bool:
        """Whether every output agrees."""
        return all(one.allowed for one in self.deviations)


def compare(
    got: Sequence[Array],
    expected: Sequence[Array],
    *,
    reference: str,
    outputs: Sequence[TensorSpec] = (),
    moved: Sequence[Sequence[Array]] = (),
) -> Comparison:
    """Figures over all samples and outputs, and whether the outputs agree.

    What is allowed follows from the output. Floats: `RELATIVE_TOLERANCE` of the sample's largest value or of 1, less where an
    output is small in all samples; `HALF_RELATIVE_TOLERANCES` where anything on the way to it was computed in 16 bits.
    Quantised outputs: one step for `QUANTISED_SHARE` of the elements, and the same top-1; where the reference itself moves,
    twice as far, for two computations do, up to `MOST_STEPS`; in the mean `MOST_BIAS` steps further than it moves. Other whole
    numbers and truth values: equal. NaN agrees with NaN and an infinity with the same one; such elements count as 0 on both
    sides in the figures. The maximum error and its tolerance are those of the output and sample that come nearest to their
    tolerance; top-1 is that of the first output.

    Args:
        got: for each output of the model an array [N, ...], N at least 1.
        expected: the same of the reference runtime, of the same shapes.
        reference: name and version of the reference runtime.
        outputs: names of the outputs, and which are quantised; by number and not quantised without.
        moved: further answers of the reference, for inputs that differ by less than rounding does or computed in another
            way. An element that is off where they are off too is not compared: what it should be is not settled by the model.

    Raises:
        ValueError: the shapes differ.
    """
    if [array.shape for array in got] != [array.shape for array in expected]:
        raise ValueError(f"got shapes {[a.shape for a in got]}, the reference has {[a.shape for a in expected]}")
    specs = outputs or [TensorSpec(name=str(index), shape=a.shape[1:], dtype=str(a.dtype)) for index, a in enumerate(expected)]
    columns = [
        _deviation(ours, theirs, [answer[index] for answer in moved], spec)
        for index, (ours, theirs, spec) in enumerate(zip(got, expected, specs, strict=True))
    ]
    deviations = tuple(deviation for _, _, deviation in columns)
    worst = max(deviations, key=lambda one: (one.required - one.within, one.max_abs_err / one.tolerance))
    ours = np.concatenate([column.ravel() for column, _, _ in columns])
    theirs = np.concatenate([column.ravel() for _, column, _ in columns])
    first_ours, first_theirs, _ = columns[0]
    numerics = Numerics(
        reference=reference,
        inputs=len(got[0]),
        max_abs_err=worst.max_abs_err,
        tolerance=worst.tolerance,
        within=worst.within,
        required=worst.required,
        rmse=float(np.sqrt(np.mean((ours - theirs) ** 2))),
        cosine=_cosine(ours, theirs),
        top1_agreement=float(np.mean(_below_top(first_ours, first_theirs) == 0)),
        outputs=tuple(
            OutputNumerics(
                name=spec.name,
                max_abs_err=one.max_abs_err,
                tolerance=one.tolerance,
                within=one.within,
                required=one.required,
                unsettled=one.unsettled,
            )
            for spec, one in zip(specs, deviations, strict=True)
        ),
    )
    return Comparison(numerics, deviations)


def _deviation(raw_ours: Array, raw_theirs: Array, moved: Sequence[Array], spec: TensorSpec) -> tuple[Array, Array, Deviation]:
    """Both sides as float64 [N, elements] with what is not compared or not finite as 0, and how far they are apart."""
    ours, theirs, step = _flat(raw_ours), _flat(raw_theirs), spec.step
    tolerance, required = _tolerance(theirs, raw_theirs.dtype, spec)
    if step is not None:
        most = MOST_STEPS * tolerance
        for other in map(_flat, moved):
            spread = np.abs(np.nan_to_num(other - theirs)).max(initial=0.0)
            tolerance = np.clip(2 * spread, tolerance, most)
    settled = _near(ours, theirs, tolerance) | np.all([_near(_flat(other), theirs, tolerance) for other in moved], axis=0)
    finite = np.isfinite(ours) & np.isfinite(theirs)
    special = ~finite & settled
    same_specials = np.array_equal(ours[special], theirs[special], equal_nan=True)
    compared = finite & settled
    ours, theirs = np.where(compared, ours, 0.0), np.where(compared, theirs, 0.0)
    errors = np.abs(ours - theirs)
    of_sample = errors.max(axis=1, initial=0.0)
    nearest = int(np.argmax(of_sample / tolerance[:, 0]))
    deviation = Deviation(
        max_abs_err=float(of_sample[nearest]),
        tolerance=float(tolerance[nearest, 0]),
        within=float(np.mean(errors <= tolerance)),
        required=required,
        same_specials=same_specials,
        same_top1=step is None or bool((_below_top(ours, theirs) <= 2 * tolerance[:, 0]).all()),
        unsettled=float(1 - np.mean(settled)),
        bias=0.0 if step is None else _bias((ours - theirs) / step, [(_flat(one) - theirs) / step for one in moved], theirs),
    )
    return ours, theirs, deviation


def _bias(errors: Array, moved: Sequence[Array], theirs: Array) -> float:
    """Magnitude of the mean error beyond two standard errors and the largest mean of the reference's other answers.

    What may be clamped, as the ends of an activation, is left out. Errors of one sample depend on one another, and so do those
    of one element over samples that are alike: only as many are taken for independent as there are of the fewer.
    """
    inner = (theirs > theirs.min(initial=0.0)) & (theirs < theirs.max(initial=0.0))
    if not inner.any():
        return 0.0
    independent = min(int(inner.any(axis=0).sum()), int(inner.any(axis=1).sum()))
    allowed = 2 * max(float(errors[inner].std()), 0.5) / np.sqrt(independent)
    allowed += max((abs(float(np.nan_to_num(one[inner]).mean())) for one in moved), default=0.0)
    return max(0.0, abs(float(errors[inner].mean())) - float(allowed))


def _near(values: Array, theirs: Array, tolerance: Array) -> Array:
    """Where values are the reference's, by the tolerance or as the same special."""
    with np.errstate(invalid="ignore"):  # of infinities
        near: Array = (np.abs(values - theirs) <= tolerance) | (values == theirs) | (np.isnan(values) & np.isnan(theirs))
    return near


def _flat(array: Array) -> Array:
    return array.astype(np.float64).reshape(len(array), -1)


def _tolerance(theirs: Array, dtype: np.dtype[Any], spec: TensorSpec) -> tuple[Array, float]:
    """Allowed error [N, 1] of each sample, and the share of elements it must hold for."""
    ones = np.ones((len(theirs), 1))
    if spec.step is not None:
        return ones * spec.step * (1 + RELATIVE_TOLERANCE if dtype.kind == "f" else 1), QUANTISED_SHARE
    if dtype.kind != "f":
        return ones * WHOLE_NUMBER_TOLERANCE, 1.0
    relative = HALF_RELATIVE_TOLERANCES.get(spec.precision or dtype.name, RELATIVE_TOLERANCE)
    sizes = np.abs(np.where(np.isfinite(theirs), theirs, 0.0))
    largest = sizes.max(axis=1, initial=0.0, keepdims=True)
    small = np.clip(SMALL_OUTPUT_TOLERANCE * sizes.max(initial=0.0), ROUNDING_FLOOR, relative)
    return np.maximum(relative * largest, small), 1.0


def _below_top(ours: Array, theirs: Array) -> Array:
    """By how much, for each sample, the reference's value at our largest element is below its own largest."""
    rows = np.arange(len(ours))
    difference: Array = theirs.max(axis=1) - theirs[rows, ours.argmax(axis=1)]
    return difference


def _cosine(ours: Array, theirs: Array) -> float:
    norm = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return min(1.0, float(ours @ theirs) / norm) if norm else float(not ours.any() and not theirs.any())
