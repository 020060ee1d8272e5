"""Figures as people read them."""

import pytest

from tests.samples import RESULT, digest
from vlab.records import AssetRef, BoardOutcome, FileRef, Percentile, Report
from vlab.reporting import as_markdown, kib, percentile, si


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (999, "999"), (734_047, "734 k"), (7_387_474, "7.39 M"), (2.5e9, "2.5 G")]
)
def test_counts_have_three_digits_and_a_prefix(value: float | None, text: str) -> None:
    """Instruction counts in the table."""
    assert text == si(value)


@pytest.mark.parametrize(("size", "text"), [(None, "-"), (552_000, "539 KiB"), (2**20, "1.0 MiB"), (15_309_210, "14.6 MiB")])
def test_sizes_are_in_binary_units(size: int | None, text: str) -> None:
    """Artifact and memory sizes in the table."""
    assert text == kib(size)


def test_a_percentile_and_its_interval_share_a_unit() -> None:
    """One unit for all three, so that they can be compared at a glance."""
    figure = Percentile(value=11_750_000, lower=9_066_000, upper=12_150_000, confidence=0.99, n=80, supported=True, needed=11)

    assert "11.75 ms\n[9.066, 12.15]" == percentile(figure)


def test_an_unsupported_percentile_says_what_it_needs() -> None:
    """Never interpolated, never left unexplained."""
    figure = Percentile(value=None, lower=None, upper=None, confidence=0.99, n=80, supported=False, needed=662)

    assert "- (needs 662)" == percentile(figure)


def test_the_page_has_a_column_for_each_board_with_evidence_or_trouble() -> None:
    """Evidence is named by file and digest, which fit into a column; a board without it says why."""
    file = FileRef(name="virt-0.evidence.json", sha256=digest("evidence"), size_bytes=24_000)
    measured = BoardOutcome(board=RESULT.board, evidence=AssetRef(uri=f"store:/{file.sha256}/{file.name}", file=file))
    other = BoardOutcome(board=RESULT.board.model_copy(update={"name": "virt-1"}), trouble="pending: the chain is down")
    report = Report(request_id="r-0", tracking_run_id="0", boards=(measured, other))

    page = as_markdown(report, {"virt-0": RESULT}, {})

    assert f"| evidence | `virt-0.evidence.json`<br>sha256 {file.sha256[:12]}… | pending: the chain is down |" in page
    assert "| accuracy | 87.50 % | - |" in page
