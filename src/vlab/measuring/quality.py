"""The verdict on a measurement, and every threshold it rests on.

`invalid`: the figures must not be used. `degraded`: they are shown, with the reasons, and enter no comparison. Thresholds are
in this file and nowhere else; docs/measuring.md repeats them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vlab import statistics
from vlab.measuring import counting
from vlab.measuring.running import TimeReport
from vlab.records import Plan, Quality

DRIFT = 0.03
"""By how much the medians of the first and last third may differ: the smallest effect that counts as a change elsewhere."""
CPU_SHARE = 0.98
"""Part of the measuring time in which the program must have had a CPU; alone on an idle machine it has more than 99 %."""
STOLEN_SHARE = 0.01
"""Of all CPU time a hypervisor may give to others: at 1 % already every hundredth sample, the p99, can be a stolen one."""

INVALIDATING = frozenset({"numerics_failed", "outputs_changed", counting.CHANGED})
"""A program that computes something else, or not the same twice, was not measured."""


@dataclass(frozen=True)
class Seen:
    """What the verdict is based on."""

    samples_ns: Sequence[int]
    report: TimeReport
    emulated: bool
    numerics_hold: bool
    """Whether the outputs agree with the reference; true where there is none."""
    outputs_repeat: bool
    """Whether a second run over the same samples gave the same bytes."""
    counting_trouble: str
    """Reason why there is no number of instructions; empty where there is one, and on hardware."""
    stolen_share: float
    load_avg_start: float
    cpus: int


def judge(seen: Seen, plan: Plan) -> tuple[Quality, tuple[str, ...]]:
    """The verdict and its machine-readable reasons, sorted.

    Latency under an emulator is no result, so reasons that concern its quality are not raised there; the plan's counts and
    durations are asked for everywhere.
    """
    reasons = set()
    if not seen.numerics_hold:
        reasons.add("numerics_failed")
    if not seen.outputs_repeat:
        reasons.add("outputs_changed")
    if seen.counting_trouble:
        reasons.add(seen.counting_trouble)
    if len(seen.samples_ns) < plan.samples_min_count:
        reasons.add("too_few_samples")
    if seen.report.duration_ns < plan.samples_min_ns:
        reasons.add("too_short")
    if not seen.emulated:
        reasons |= _disturbances(seen, plan)
    if reasons & INVALIDATING:
        return Quality.invalid, tuple(sorted(reasons))
    return Quality.degraded if reasons else Quality.valid, tuple(sorted(reasons))


def _disturbances(seen: Seen, plan: Plan) -> set[str]:
    checks = {
        "warmup_unstable": not seen.report.warmup.stable,
        "drift": abs(statistics.drift(seen.samples_ns)) > DRIFT,
        # correlated samples tell less than their number: what is left must still support the plan's percentiles
        "autocorrelated": statistics.effective_size(seen.samples_ns) < plan.samples_min_count <= len(seen.samples_ns),
        "host_loaded": seen.report.cpu_ns < CPU_SHARE * seen.report.duration_ns or seen.load_avg_start > seen.cpus,
        "steal_time": seen.stolen_share > STOLEN_SHARE,
    }
    return {reason for reason, found in checks.items() if found}
