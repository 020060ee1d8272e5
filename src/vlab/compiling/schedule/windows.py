"""Windows over one axis of an image, and which of them leave it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any


@dataclass(frozen=True)
class Span:
    """Tiles of neighbouring columns that share their code."""

    start: int
    tiles: int
    length: int
    """Columns of one tile."""
    inner: bool
    """Whether every window stays within the input."""


def of_image(data: Any, output: Any, attributes: Mapping[str, int]) -> tuple[list["Window"], list["Window"]]:
    """Windows over the rows and over the columns of a kernel from NHWC data to an NHWC output; several where it is transposed.

    Args:
        data: buffer that is read.
        output: buffer that is written.
        attributes: `Geometry.attributes` of the computation, and `transposed`.
    """

    def axis(number: int, letter: str) -> list[Window]:
        window = Window(
            size=int(data.shape[number]),
            kernel=attributes[f"kernel_{letter}"],
            stride=attributes[f"stride_{letter}"],
            dilation=attributes[f"dilation_{letter}"],
            before=attributes[f"before_{letter}"],
            out=int(output.shape[number]),
        )
        return by_phase(window) if attributes.get("transposed") else [window]

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
    """Places of the output that the window slides to."""
    first: int = 0
    """The first of them."""
    step: int = 1
    """From one of them to the next."""
    first_tap: int = 0
    """Of the weights, that of the window's first place."""
    tap_step: int = 1
    """From there to the weight of the next."""

    def to(self, place: Any) -> Any:
        """Where in the output a place of the window is."""
        return place * self.step + self.first

    def weight(self, tap: Any) -> Any:
        """Which of the weights along this axis a tap has."""
        return tap * self.tap_step + self.first_tap

    def at(self, place: Any, tap: Any) -> Any:
        """Where a tap of the window for a place of the output lies in the input."""
        return place * self.stride + tap * self.dilation - self.before

    def inside(self, place: int, tap: int) -> bool:
        """Whether it lies within the input."""
        return bool(0 <= self.at(place, tap) < self.size)

    @property
    def peeled(self) -> int:
        """Places whose window leaves the input."""
        return sum(not (self.inside(place, 0) and self.inside(place, self.kernel - 1)) for place in range(self.out))

    @property
    def padded(self) -> bool:
        """Whether any window leaves the input."""
        return self.kernel > 0 and not (self.inside(0, 0) and self.inside(self.out - 1, self.kernel - 1))

    def spans(self, tile: int) -> list[Span]:
        """The output cut into tiles; neighbours of one length that stay within the input make one span."""
        spans: list[Span] = []
        for start in range(0, self.out, tile):
            length = min(tile, self.out - start)
            inner = not self.kernel or (self.inside(start, 0) and self.inside(start + length - 1, self.kernel - 1))
            previous = spans[-1] if spans else None
            if previous and inner and previous.inner and previous.length == length:
                spans[-1] = Span(previous.start, previous.tiles + 1, length, inner)
            else:
                spans.append(Span(start, 1, length, inner))
        return spans


def by_phase(transposed: Window) -> list[Window]:
    """The windows of a transposed convolution: for each residue of an output's place by the stride an ordinary one of stride 1.

    An output at `o` sums the inputs `i` and taps `k` with o = i * stride + k * dilation - before. Of one residue these are the
    taps `k0`, `k0 + s`, ... with s = stride / gcd(stride, dilation), and from the last of them to the first `i` becomes larger
    by dilation / gcd(stride, dilation) each time. Where no tap has an output's residue, the window is empty.

    Args:
        transposed: its kernel, stride, dilation and padding as the operator has them, the sizes as they are.
    """
    stride, common = transposed.stride, gcd(transposed.stride, transposed.dilation)
    windows = []
    for phase in range(min(stride, transposed.out)):
        reaches = [(tap, phase + transposed.before - tap * transposed.dilation) for tap in reversed(range(transposed.kernel))]
        taps = [(tap, reach // stride) for tap, reach in reaches if reach % stride == 0]
        last, place = taps[0] if taps else (0, 0)
        window = Window(
            size=transposed.size,
            kernel=len(taps),
            stride=1,
            dilation=transposed.dilation // common,
            before=-place,
            out=-(-(transposed.out - phase) // stride),
            first=phase,
            step=stride,
            first_tap=last,
            tap_step=-(stride // common),
        )
        windows.append(window)
    return windows
