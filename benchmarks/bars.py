"""One row of the table: what was measured, the bar it is held to, and whether it meets it."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from pydantic import Field

from vlab.records import Record


class Verdict(StrEnum):
    """How a row stands to its bar."""

    met = "met"
    missed = "missed"
    unmeasured = "not measured"
    informative = ""
    """There is no bar."""


class Bar(Record):
    """A limit that a figure is held to."""

    limit: float
    sense: Literal["at most", "at least"] = "at most"
    aim: float | None = Field(default=None, description="what is aimed at beyond the limit")

    def holds(self, value: float) -> bool:
        """Whether a value meets the limit; a value equal to it does."""
        return value <= self.limit if self.sense == "at most" else value >= self.limit

    def share(self, value: float) -> float:
        """How much of the limit a value uses up: at most 1 where the bar is met, infinite where it cannot be told."""
        part, whole = (value, self.limit) if self.sense == "at most" else (self.limit, value)
        if whole > 0:
            return part / whole
        return 0.0 if part <= whole else float("inf")


class Row(Record):
    """One measured figure."""

    section: str
    subject: str = Field(description="what was measured: a model, and where it ran")
    quantity: str = Field(description="what the figure is, such as `time / ONNX Runtime's`")
    unit: str = Field(description="of the figure; empty for a ratio")
    value: float | None = Field(description="null where it could not be measured")
    lower: float | None = Field(default=None, description="of the 95 % interval, where the figure scatters")
    upper: float | None = None
    bar: Bar | None = Field(default=None, description="null where the figure is only told")
    failed: bool = Field(default=False, description="no value because the compile stage failed: the bar is missed")
    detail: str = Field(default="", description="the figures behind it; or why there is none")

    @property
    def verdict(self) -> Verdict:
        """Whether the bar is met."""
        if self.bar is None:
            return Verdict.informative
        if self.value is None:
            return Verdict.missed if self.failed else Verdict.unmeasured
        return Verdict.met if self.bar.holds(self.value) else Verdict.missed


def tally(rows: Iterable[Row]) -> dict[Verdict, int]:
    """How many rows have which verdict, rows without a bar left out."""
    counts = dict.fromkeys((Verdict.met, Verdict.missed, Verdict.unmeasured), 0)
    for row in rows:
        if row.bar is not None:
            counts[row.verdict] += 1
    return counts
