"""Latency statistics that state their own support.

    >>> p90 = latency([120, 118, 119], confidence=0.99).p90_ns
    >>> p90.value, p90.needed
    (None, 64)

Everything that decides anything is computed in integers or exact fractions: the same samples give the same figures on every
machine, so a verifier can compute them again and compare.

Sources:
    * Percentile and early stopping: MLPerf LoadGen, `loadgen/results.cc` and `loadgen/early_stopping.cc`.
    * Order-statistic intervals: H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1.
    * Outliers: B. Iglewicz and D. Hoaglin, How to Detect and Handle Outliers, 1993, chapter 3 (modified z-score).
    * Effective sample size: H. J. Thiebaux and F. W. Zwiers, J. Climate Appl. Meteor. 23 (1984), for a first-order process.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from math import ceil, floor, sqrt

from vlab.records import Latency, Percentile

P50 = Fraction(1, 2)
P90 = Fraction(9, 10)
P99 = Fraction(99, 100)

TOLERATED = 1
"""Samples that early stopping must be able to leave above its bound before a percentile counts as supported."""


def latency(samples_ns: Sequence[int], confidence: float) -> Latency:
    """Statistics of raw samples; nothing is dropped.

    Args:
        samples_ns: latencies in nanoseconds, in any order; at least one.
        confidence: of every interval, in (0.5, 1).

    Raises:
        ValueError: no samples.
    """
    n = len(samples_ns)
    if n == 0:
        raise ValueError("there are no samples, expected at least one")
    ordered = sorted(samples_ns)
    total, squares = sum(ordered), sum(sample * sample for sample in ordered)
    middle = doubled_median(ordered)
    distances = sorted(abs(2 * sample - middle) for sample in ordered)  # each doubled, so still an integer
    spread = doubled_median(distances)  # four times the median absolute deviation
    return Latency(
        n=n,
        mean_ns=total / n,
        std_ns=sqrt((n * squares - total * total) / (n * (n - 1))) if n > 1 else 0.0,
        mad_ns=spread / 4,
        min_ns=ordered[0],
        max_ns=ordered[-1],
        p50_ns=percentile(ordered, P50, confidence),
        p90_ns=percentile(ordered, P90, confidence),
        p99_ns=percentile(ordered, P99, confidence),
        # |x - median| * 0.6745 / MAD > 3.5; where MAD is 0, everything that differs from the median
        outlier_count=sum(distance * 2 * 6745 > 35000 * spread for distance in distances),
    )


def percentile(ordered_ns: Sequence[int], quantile: Fraction, confidence: float) -> Percentile:
    """A percentile with its exact distribution-free interval, or null with the sample size it would need.

    The value is `ordered_ns[floor(n * quantile)]`, 0-based: LoadGen's definition, never interpolated. With X the order
    statistics (1-based) and B ~ Binomial(n, 1 - quantile), the interval is X[n - m] to X[n - t] with t the largest number with
    P(B <= t) <= (1 - confidence) / 2 and m the smallest with P(B <= m) >= (1 + confidence) / 2. It assumes independent samples.

    Args:
        ordered_ns: samples in ascending order.
        quantile: in (0, 1).
        confidence: that the interval covers the quantile, in (0.5, 1).
    """
    n, needed = len(ordered_ns), samples_needed(quantile, confidence)
    if n < needed:
        return Percentile(value=None, lower=None, upper=None, confidence=confidence, n=n, supported=False, needed=needed)
    whole = quantile.denominator**n
    tail = (1 - _exact(confidence)) / 2
    rare, sure = floor(whole * tail), ceil(whole * (1 - tail))
    above, below = -1, n - 1
    for count, cases in enumerate(_binomial_cases(n, 1 - quantile)):
        if cases <= rare:
            above = count
        if cases >= sure:
            below = min(count, n - 1)
            break
    return Percentile(
        value=ordered_ns[n * quantile.numerator // quantile.denominator],
        lower=ordered_ns[n - below - 1],
        upper=ordered_ns[n - above - 1],
        confidence=confidence,
        n=n,
        supported=True,
        needed=needed,
    )


def early_stopping(ordered_ns: Sequence[int], quantile: Fraction, confidence: float = 0.99) -> int | None:
    """LoadGen's upper bound of a percentile, for comparison with MLPerf results; None where the sample is too small.

    With t the largest number with P(Binomial(n, 1 - quantile) <= t) <= 1 - confidence it is `ordered_ns[n - t]`, 0-based; t
    must be at least `TOLERATED`. One order statistic more careful than the exact one-sided bound.
    """
    n, tolerated = len(ordered_ns), -1
    allowed = floor(quantile.denominator**n * (1 - _exact(confidence)))
    for count, cases in enumerate(_binomial_cases(n, 1 - quantile)):
        if cases > allowed:
            break
        tolerated = count
    return ordered_ns[n - tolerated] if tolerated >= TOLERATED else None


@lru_cache
def samples_needed(quantile: Fraction, confidence: float) -> int:
    """Smallest sample that supports a percentile: the smallest n with P(Binomial(n, 1 - quantile) <= 1) <= 1 - confidence.

    At 0.99: 11 for p50, 64 for p90, 662 for p99, 6636 for p99.9.
    """
    allowed = 1 - _exact(confidence)
    hit, whole = quantile.numerator, quantile.denominator

    def enough(n: int) -> bool:
        cases: int = hit ** (n - 1) * (hit + n * (whole - hit))
        possible: int = whole**n
        return cases * allowed.denominator <= allowed.numerator * possible

    high = 2
    while not enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def doubled_median(ordered: Sequence[int]) -> int:
    """Twice the median of ascending integers, which is an integer."""
    return ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]


def rank_autocorrelation(samples: Sequence[int]) -> float:
    """Lag-1 autocorrelation of the ranks, in -1..1; 0 for fewer than three samples or constant ones.

    Ranks, because order statistics depend on nothing else, and a few slow samples would hide what the others do.
    """
    n = len(samples)
    if n < 3:
        return 0.0
    ordered = sorted(samples)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for position, value in enumerate(ordered):
        first.setdefault(value, position)
        last[value] = position
    centred = [first[value] + last[value] - (n - 1) for value in samples]  # twice the mid-rank, around 0
    scale = sum(rank * rank for rank in centred)
    return sum(a * b for a, b in pairwise(centred)) / scale if scale else 0.0


def effective_size(samples: Sequence[int]) -> int:
    """Independent samples that would tell as much: n (1 - r) / (1 + r) with the lag-1 autocorrelation r, at most n."""
    n, r = len(samples), rank_autocorrelation(samples)
    return n if r <= 0 else int(n * (1 - r) / (1 + r))


def drift(samples: Sequence[int]) -> float:
    """Median of the last third over the median of the first, minus one; 0 for fewer than three samples."""
    third = len(samples) // 3
    if third == 0:
        return 0.0
    start, end = doubled_median(sorted(samples[:third])), doubled_median(sorted(samples[-third:]))
    return end / start - 1 if start else 0.0


def _binomial_cases(n: int, probability: Fraction) -> Iterator[int]:
    """`probability.denominator**n` times P(Binomial(n, probability) <= k), for k = 0, 1, ... n: an integer."""
    hit, miss = probability.numerator, probability.denominator - probability.numerator
    term = total = miss**n
    for k in range(n + 1):
        yield total
        term = term * ((n - k) * hit) // ((k + 1) * miss)
        total += term


def _exact(number: float) -> Fraction:
    """The fraction that a decimal literal means: 0.99 is 99/100."""
    return Fraction(repr(number))
