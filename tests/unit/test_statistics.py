"""Latency statistics: LoadGen's known answers, exact intervals, and coverage by simulation."""

import random
from fractions import Fraction
from math import comb, isclose, sqrt
from statistics import fmean, median, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab.statistics import (
    P50,
    P90,
    P99,
    drift,
    early_stopping,
    effective_size,
    latency,
    percentile,
    rank_autocorrelation,
    samples_needed,
)

P999 = Fraction(999, 1000)

samples = st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("quantile", "needed"),
    [(P50, 11), (P90, 64), (Fraction(95, 100), 130), (Fraction(97, 100), 219), (P99, 662), (P999, 6636)],
)
def test_smallest_supporting_samples_are_those_of_loadgen(quantile: Fraction, needed: int) -> None:
    """The sample sizes are column t = 1 of LoadGen's early-stopping table; 662 is MLPerf's MultiStream.min_query_count."""
    assert needed == samples_needed(quantile, 0.99)


@pytest.mark.parametrize(
    ("n", "quantile", "index"),
    [
        (63, P90, None),
        (64, P90, 63),
        (681, P90, 631),
        (661, P99, None),
        (662, P99, 661),
        (6635, P999, None),
        (6636, P999, 6635),
    ],
)
def test_early_stopping_known_answers(n: int, quantile: Fraction, index: int | None) -> None:
    """The early-stopping bound is the order statistic LoadGen takes, and None one sample too early."""
    assert index == early_stopping(range(n), quantile)


@pytest.mark.parametrize(("n", "lower", "upper"), [(64, 22, 43), (100, 37, 64)])
def test_median_interval_known_answers(n: int, lower: int, upper: int) -> None:
    """The 99 % interval of the median runs between the tabulated order statistics (1-based)."""
    found = percentile(range(1, n + 1), P50, 0.99)

    assert (lower, upper) == (found.lower, found.upper)


@given(
    n=st.integers(min_value=64, max_value=400), quantile=st.sampled_from([P50, P90]), confidence=st.sampled_from([0.9, 0.99])
)
def test_interval_is_the_shortest_that_covers(n: int, quantile: Fraction, confidence: float) -> None:
    """Each end leaves at most half of 1 - confidence outside, and moving it one order statistic inwards would leave more."""
    found = percentile(range(1, n + 1), quantile, confidence)
    assert found.lower is not None
    assert found.upper is not None

    def at_most(k: int) -> Fraction:
        """P(Binomial(n, quantile) <= k)."""
        return sum((comb(n, i) * quantile**i * (1 - quantile) ** (n - i) for i in range(k + 1)), Fraction(0))

    tail = (1 - Fraction(repr(confidence))) / 2
    assert at_most(found.lower - 1) <= tail < at_most(found.lower)
    assert 1 - at_most(found.upper - 1) <= tail < 1 - at_most(found.upper - 2)


@given(values=samples)
def test_figures_agree_with_the_standard_library(values: list[int]) -> None:
    """Mean, deviation, median absolute deviation and extremes are what the standard library computes."""
    found = latency(values, 0.99)
    middle = median(values)

    assert len(values) == found.n
    assert isclose(fmean(values), found.mean_ns, rel_tol=1e-12)
    assert isclose(stdev(values) if len(values) > 1 else 0.0, found.std_ns, rel_tol=1e-9, abs_tol=1e-9)
    assert isclose(median(abs(value - middle) for value in values), found.mad_ns, rel_tol=1e-12)
    assert (min(values), max(values)) == (found.min_ns, found.max_ns)


@given(values=samples)
def test_percentiles_are_samples_in_order_or_null(values: list[int]) -> None:
    """A supported percentile is a sample inside its interval; an unsupported one is null and says what it needs."""
    found = latency(values, 0.99)
    for one in (found.p50_ns, found.p90_ns, found.p99_ns):
        if one.supported:
            assert one.value in values
            assert one.lower <= one.value <= one.upper
        else:
            assert (None, None, None) == (one.value, one.lower, one.upper)
        assert one.supported == (len(values) >= one.needed)


@given(values=samples, seed=st.integers())
def test_order_does_not_matter(values: list[int], seed: int) -> None:
    """The same samples in another order give the same statistics."""
    shuffled = values.copy()
    random.Random(seed).shuffle(shuffled)

    assert latency(values, 0.99) == latency(shuffled, 0.99)


@pytest.mark.parametrize(("quantile", "n", "rounds"), [(P50, 64, 4000), (P90, 64, 4000), (P90, 300, 2000), (P99, 662, 1000)])
def test_intervals_cover_as_promised(quantile: Fraction, n: int, rounds: int) -> None:
    """Over many simulated runs of heavy-tailed latencies, a 99 % interval holds the true percentile 99 % of the time."""
    source = random.Random(7)
    truth = float(quantile)  # the latency is a rising function of a uniform number, so its quantiles are known
    hits = 0
    for _ in range(rounds):
        uniform = sorted(source.random() for _ in range(n))
        found = percentile([int(1e6 / (1 - u)) for u in uniform], quantile, 0.99)
        assert found.lower is not None
        assert found.upper is not None
        hits += found.lower <= 1e6 / (1 - truth) <= found.upper

    assert hits / rounds >= 0.99 - 3 * sqrt(0.99 * 0.01 / rounds)


def test_outliers_are_counted_and_stay() -> None:
    """A sample far from the median is counted as an outlier and still sets the maximum."""
    found = latency([*range(1000, 1100), 50_000], 0.99)

    assert 1 == found.outlier_count
    assert 50_000 == found.max_ns


def test_samples_that_differ_from_a_constant_are_outliers() -> None:
    """Where more than half of the samples are equal, everything else is an outlier."""
    assert 2 == latency([500] * 60 + [501, 900], 0.99).outlier_count


def test_no_samples_are_refused() -> None:
    """Statistics of nothing are an error, not a record of zeros."""
    with pytest.raises(ValueError, match="no samples"):
        latency([], 0.99)


def test_autocorrelation_tells_a_slow_wave_from_noise() -> None:
    """Independent samples keep their number; a random walk counts as far fewer."""
    source = random.Random(3)
    noise = [source.randrange(10**6) for _ in range(2000)]
    walk, level = [], 0
    for step in noise:
        level += step - 500_000
        walk.append(level)

    assert abs(rank_autocorrelation(noise)) < 0.1
    assert effective_size(noise) > 1600
    assert effective_size(walk) < 200


def test_constant_samples_have_no_autocorrelation() -> None:
    """Ranks of equal samples tell nothing, so nothing is divided by zero."""
    assert 0.0 == rank_autocorrelation([7] * 100)


def test_drift_compares_the_thirds() -> None:
    """Drift is the relative change of the median from the first to the last third."""
    assert isclose(0.1, drift([1000] * 30 + [5000] * 30 + [1100] * 30))


def test_the_largest_allowed_sample_is_quick() -> None:
    """A sample at the cap of the record is summarised in seconds, so a verifier cannot be kept busy."""
    found = latency(range(100_000), 0.99)

    assert (50_000, 99_000) == (found.p50_ns.value, found.p99_ns.value)
