"""Bars, verdicts, ratios and the written table."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bars import Bar, Row, Verdict, tally
from benchmarks.chart import svg
from benchmarks.machine import Machine
from benchmarks.report import Measured, Report, figure, markdown, merged
from benchmarks.sections.integer import agreement
from benchmarks.tasks import Figure, Kept, Task
from benchmarks.versus import interleaving
from vlab import settings
from vlab.errors import MeasureError, MissingToolError, ModelError

finite = st.floats(1e-3, 1e9)
times = st.lists(st.floats(1.0, 1e9), min_size=1, max_size=12)


def row(value: float | None, bar: Bar | None = None, section: str = "speed") -> Row:
    """A row of which only figure and bar matter."""
    return Row(section=section, subject="ds-cnn, host/x86_64", quantity="time", unit="", value=value, bar=bar)


@pytest.mark.parametrize(
    ("value", "bar", "verdict"),
    [
        (0.9, Bar(limit=0.9), Verdict.met),
        (0.9000001, Bar(limit=0.9), Verdict.missed),
        (0.999, Bar(limit=0.999, sense="at least"), Verdict.met),
        (0.9989, Bar(limit=0.999, sense="at least"), Verdict.missed),
        (None, Bar(limit=1), Verdict.unmeasured),
        (3.0, None, Verdict.informative),
    ],
)
def test_a_bar_is_met_up_to_its_limit(value: float | None, bar: Bar | None, verdict: Verdict) -> None:
    """The limit itself meets the bar, anything beyond misses it, and what was not measured meets nothing."""
    assert verdict == row(value, bar).verdict


@given(value=finite, limit=finite, sense=st.sampled_from(["at most", "at least"]))
def test_a_share_of_at_most_one_is_a_bar_that_is_met(value: float, limit: float, sense: str) -> None:
    """The picture and the table never disagree."""
    bar = Bar.model_validate({"limit": limit, "sense": sense})
    assert bar.holds(value) == (bar.share(value) <= 1)


@pytest.mark.parametrize(("value", "share"), [(0, 0.0), (1, float("inf"))])
def test_a_limit_of_zero_is_met_by_zero_alone(value: float, share: float) -> None:
    """Where nothing may be wrong, one is infinitely too many."""
    assert share == Bar(limit=0).share(value)


@given(times)
def test_a_program_against_itself_is_a_ratio_of_one(blocks: list[float]) -> None:
    """Ratio and both ends of its interval are 1."""
    seen = interleaving.compare(blocks, blocks)
    assert (seen.ratio, seen.lower, seen.upper) == pytest.approx((1, 1, 1))


@given(times, st.floats(0.1, 10))
def test_the_interval_holds_the_ratio(blocks: list[float], factor: float) -> None:
    """The ratio is that of the medians, between the ends of its interval."""
    ours = [factor * block for block in blocks]
    seen = interleaving.compare(ours, blocks)
    assert seen.ratio == pytest.approx(np.median(ours) / np.median(blocks))
    assert seen.lower <= seen.ratio * (1 + 1e-9)
    assert seen.ratio <= seen.upper * (1 + 1e-9)


def test_agreement_counts_elements_and_samples() -> None:
    """One element of six is two units off, and in one sample of two another one is largest."""
    expected = np.array([[1, 2, 9], [4, 5, 6]], np.int8)
    got = np.array([[1, 3, 9], [4, 7, 6]], np.int8)
    within, top1 = agreement(got, expected, "LiteRT")
    assert (within.value, top1.value) == (5 / 6, 0.5)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (7386017, "instructions", "7,386,017"),
        (0.8234, "", "0.823"),
        (0.9995, "", "0.9995"),
        (12.5, "s", "12.5 s"),
        (0, "", "0"),
    ],
)
def test_a_figure_is_written_as_closely_as_it_matters(value: float, unit: str, text: str) -> None:
    """Whole numbers stand in full, and a share just below 1 does not become 1."""
    assert text == figure(value, unit)


def test_the_table_shows_what_is_missed_and_what_is_missing(report: Report) -> None:
    """A missed bar stands out, a figure that could not be measured says why, and the counts head the page."""
    text = markdown(report, "chart.svg")
    assert "**1 met, 1 missed, 1 not measured**" in text
    assert "| ds-cnn, host/x86_64: time | 1.200 | at most 1 | **missed** |  |" in text
    assert "| not measured | not measured: no emulator |" in text


def test_the_picture_is_whole(report: Report) -> None:
    """The SVG is well-formed and has a bar for each figure that has a limit."""
    picture = ET.fromstring(svg(report))  # noqa: S314 - written a line above
    bars = [element for element in picture.iter("{http://www.w3.org/2000/svg}rect") if element.get("rx")]
    assert len(bars) == sum(1 for one in report.measured if one.row.bar and one.row.value is not None)


def test_the_published_page_is_its_figures() -> None:
    """docs/performance.md and its picture are what docs/performance.json is written as, so neither was touched by hand."""
    docs = settings.checkout() / "docs"
    if not (docs / "performance.json").is_file():
        pytest.skip("nothing was published yet: python -m benchmarks.compile --publish")
    published = Report.from_json((docs / "performance.json").read_bytes())
    assert (docs / "performance.md").read_text(encoding="utf-8") == markdown(published, "performance.svg")
    assert (docs / "performance.svg").read_text(encoding="utf-8") == svg(published)


def test_a_section_measured_again_leaves_the_others(report: Report) -> None:
    """New rows of a section take the place of its old ones, and every section keeps its commit."""
    fresh = report.model_copy(
        update={"measured": (Measured(row=row(0.5, Bar(limit=1)), commit="def", measured_on="2026-02-01T00:00:00Z"),)}
    )
    both = merged(fresh, report)
    assert [("speed", "def"), ("arm64", "abc")] == [(one.row.section, one.commit) for one in both.measured]


def test_figures_of_two_machines_do_not_stand_on_one_page(report: Report) -> None:
    """Times of another CPU are no part of this machine's table."""
    other = report.model_copy(update={"machine": report.machine.model_copy(update={"cpu": "another"})})
    with pytest.raises(MeasureError, match="measure all sections"):
        merged(other, report)


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    """An outcome is found again as it was; another dependency is another outcome; what failed is tried again."""
    calls = []

    def measure() -> list[Figure]:
        calls.append(1)
        if len(calls) == 1:
            raise ModelError("the model is refused\nand more")
        return [Figure(0.5)]

    def task(**depends_on: str) -> Task:
        return Task("speed", "one", [row(None, Bar(limit=1))], measure, 1, depends_on)

    kept = Kept(tmp_path, "abc")
    failed = kept.measure(task())
    assert (failed.rows[0].verdict, failed.rows[0].detail) == (Verdict.missed, "failed: the model is refused")
    assert kept.find(task()) is None
    measured = kept.measure(task())
    assert kept.find(task()) == measured
    assert kept.find(task(cpu="another")) is None


def test_a_missing_tool_is_no_failure(tmp_path: Path) -> None:
    """What this machine lacks leaves a bar unmeasured; it is not missed."""

    def measure() -> list[Figure]:
        raise MissingToolError("qemu is not here")

    outcome = Kept(tmp_path, "abc").measure(Task("speed", "one", [row(None, Bar(limit=1))], measure, 1))
    assert (outcome.rows[0].verdict, outcome.rows[0].detail) == (Verdict.unmeasured, "not measured: qemu is not here")


def test_rows_without_a_bar_are_not_counted() -> None:
    """Only bars are met or missed."""
    assert {Verdict.met: 1, Verdict.missed: 0, Verdict.unmeasured: 0} == tally([row(1, Bar(limit=1)), row(2)])


@pytest.fixture
def report() -> Report:
    """A run with one bar met, one missed, one not measured, and one figure without a bar."""
    rows = [
        row(0.9, Bar(limit=1)),
        row(1.2, Bar(limit=1)),
        Figure(None, "not measured: no emulator").complete(row(None, Bar(limit=1), "arm64")),
        row(5),
    ]
    machine = Machine(
        cpu="CPU",
        cores=2,
        memory_gib=8,
        system="Linux",
        governor="",
        target="host/x86_64",
        python="3.11",
        packages={"onnx": "1"},
        tools={"gcc": "gcc 12"},
    )
    measured = [Measured(row=one, commit="abc", measured_on="2026-01-01T00:00:00Z") for one in rows]
    return Report(quick=False, core=1, machine=machine, measured=tuple(measured))
