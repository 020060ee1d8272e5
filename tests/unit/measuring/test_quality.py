"""The verdict: each reason alone, and what invalidates."""

import random
from dataclasses import replace

import pytest

from vlab.measuring.quality import Seen, judge
from vlab.measuring.running import TimeReport
from vlab.records import Plan, Quality, Warmup

PLAN = Plan.named("smoke")
SOURCE = random.Random(5)
QUIET = Seen(
    samples_ns=[1_000_000 + SOURCE.randrange(20_000) for _ in range(1000)],
    report=TimeReport(
        load_ns=1,
        first_inference_ns=1,
        clock_resolution_ns=1,
        warmup=Warmup(count=200, duration_ns=200_000_000, stable=True),
        inferences=1000,
        stride=1,
        duration_ns=1_010_000_000,
        cpu_ns=1_009_000_000,
        preemptions=2,
    ),
    emulated=False,
    numerics_hold=True,
    outputs_repeat=True,
    counting_trouble="",
    stolen_share=0.0,
    load_avg_start=0.1,
    cpus=4,
)


def test_a_quiet_run_is_valid() -> None:
    """Nothing wrong, no reasons."""
    assert (Quality.valid, ()) == judge(QUIET, PLAN)


def reported(**changes: object) -> Seen:
    """The quiet run with another report."""
    return replace(QUIET, report=QUIET.report.model_copy(update=changes))


DISTURBED = {
    "warmup_unstable": reported(warmup=Warmup(count=10, duration_ns=60_000_000_000, stable=False)),
    "drift": replace(QUIET, samples_ns=[int(value * (1 + 0.05 * (i > 600))) for i, value in enumerate(QUIET.samples_ns)]),
    "autocorrelated": replace(QUIET, samples_ns=[1_000_000 + 100 * (i % 500 > 250) for i in range(1000)]),
    "host_loaded": reported(cpu_ns=900_000_000),
    "steal_time": replace(QUIET, stolen_share=0.02),
}


@pytest.mark.parametrize("reason", DISTURBED)
def test_disturbances_degrade_hardware_and_not_emulated_boards(reason: str) -> None:
    """A disturbed clock degrades a result on hardware; on emulated boards latency is no result to begin with."""
    verdict, reasons = judge(DISTURBED[reason], PLAN)
    assert Quality.degraded is verdict
    assert reason in reasons

    assert (Quality.valid, ()) == judge(replace(DISTURBED[reason], emulated=True), PLAN)


def test_waiting_processes_before_the_run_count_as_load() -> None:
    """More runnable processes than CPUs at the start degrade the result."""
    assert (Quality.degraded, ("host_loaded",)) == judge(replace(QUIET, load_avg_start=4.5), PLAN)


@pytest.mark.parametrize("emulated", [False, True])
def test_a_plan_that_was_not_met_degrades_everywhere(emulated: bool) -> None:
    """Fewer samples or less time than the plan asks are told on hardware and under emulation."""
    short = replace(reported(duration_ns=500_000_000, cpu_ns=500_000_000), samples_ns=QUIET.samples_ns[:50], emulated=emulated)

    assert (Quality.degraded, ("too_few_samples", "too_short")) == judge(short, PLAN)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"numerics_hold": False}, "numerics_failed"),
        ({"outputs_repeat": False}, "outputs_changed"),
        ({"counting_trouble": "instructions_changed", "emulated": True}, "instructions_changed"),
    ],
)
def test_wrong_programs_are_invalid(change: dict[str, object], reason: str) -> None:
    """A program that computes something else, or not the same twice, was not measured; other reasons stay visible."""
    verdict, reasons = judge(replace(QUIET, samples_ns=QUIET.samples_ns[:50], **change), PLAN)  # type: ignore[arg-type]

    assert Quality.invalid is verdict
    assert {reason, "too_few_samples"} == set(reasons)


def test_a_missing_count_degrades_an_emulated_board() -> None:
    """The instruction count is what an emulated board is for; without it the result is degraded."""
    seen = replace(QUIET, emulated=True, counting_trouble="instructions_uncounted")

    assert (Quality.degraded, ("instructions_uncounted",)) == judge(seen, PLAN)
