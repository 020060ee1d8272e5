"""Windows over one axis of an image, and which of them leave it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlab.compiling.schedule.registers import as_int


@dataclass(frozen=True)
class Span:
    """Tiles of neighbouring columns that share their code."""

    start: int
    tiles: int
    length: int
    """Columns of one tile."""
    inner: bool
    """Whether every window stays within the input."""


def of_image(data: Any, output: Any, attributes: Mapping[str, int]) -> tuple["Window", "Window"]:
    """Windows over the rows and over the columns of a kernel from NHWC data to an NHWC output.

    Args:
        data: buffer that is read.
        output: buffer that is written.
        attributes: `Geometry.attributes` of the computation.
    """

    def axis(number: int, letter: str) -> Window:
        return Window(
            size=as_int(data.shape[number]),
            kernel=attributes[f"kernel_{letter}"],
            stride=attributes[f"stride_{letter}"],
            dilation=attributes[f"dilation_{letter}"],
            before=attributes[f"before_{letter}"],
            out=as_int(output.shape[number]),
        )

    return axis(1, "h"), axis(2, "w")


@dataclass(frozen=True)
class Window:
    """One axis of a convolution or pooling; sizes in elements."""

    size: int
    """Of the input."""
    kernel: int
    stride: int
    dilation: int
    before: int
    """Padding at the near end; that at the far end follows from `out`."""
    out: int

    def at(self, place: Any, tap: Any) -> Any:
        """Where a tap of the window for a place of the output lies in the input."""
        return place * self.stride + tap * self.dilation - self.before

    def inside(self, place: int, tap: int) -> bool:
        """Whether it lies within the input."""
        return bool(0 <= self.at(place, tap) < self.size)

    @property
    def padded(self) -> bool:
        """Whether any window leaves the input."""
        return not (self.inside(0, 0) and self.inside(self.out - 1, self.kernel - 1))

    def spans(self, tile: int) -> list[Span]:
        """The output cut into tiles; neighbours of one length that stay within the input make one span."""
        spans: list[Span] = []
        for start in range(0, self.out, tile):
            length = min(tile, self.out - start)
            inner = self.inside(start, 0) and self.inside(start + length - 1, self.kernel - 1)
            previous = spans[-1] if spans else None
            if previous and inner and previous.inner and previous.length == length:
                spans[-1] = Span(previous.start, previous.tiles + 1, length, inner)
            else:
                spans.append(Span(start, 1, length, inner))
        return spans
