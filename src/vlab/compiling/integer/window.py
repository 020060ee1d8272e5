"""The shape of a convolution, and the padded image it reads."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder

from vlab.compiling.integer.writing import loop, span, vector

_COPY_BYTES = (16, 8, 4, 2, 1)
_FLAT_BYTES = 32_768
"""Images up to this size are one long row to a 1 by 1 convolution: tiles of pixels then divide it better."""


@dataclass(frozen=True)
class Window:
    """Shape of a convolution over [batch, height, width, channels]; a matrix product is one with a 1 by 1 window."""

    batch: int
    height: int
    width: int
    channels: int
    outputs: int
    """Output channels."""
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Top, left, bottom, right."""
    groups: int = 1
    """Of channels, each with outputs of its own: one, or as many as channels."""
    planes: bool = False
    """Whether the data can be had as planes too, one of each channel."""

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width with the padding."""
        top, left, bottom, right = self.padding
        return self.height + top + bottom, self.width + left + right

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of the output."""
        high, wide = (
            (size - (kernel - 1) * dilation - 1) // stride + 1
            for size, kernel, dilation, stride in zip(self.padded, self.kernel, self.dilation, self.strides, strict=True)
        )
        return high, wide

    @property
    def pixels(self) -> int:
        """Of all outputs."""
        return self.batch * math.prod(self.output)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod((self.pixels, *self.kernel, self.channels // self.groups, self.outputs))

    def at(self, batch: Any, row: Any, column: Any, inner_row: Any = 0, inner_column: Any = 0) -> Any:
        """Offset in the padded image of what the window of an output takes, from one of its rows and columns on."""
        high, wide = self.padded
        line = batch * high + row * self.strides[0] + inner_row * self.dilation[0]
        return (line * wide + column * self.strides[1] + inner_column * self.dilation[1]) * self.channels

    @property
    def runs(self) -> tuple[int, int, int]:
        """Rows and columns of a window that are runs of bytes of their own, and the length of one."""
        height, width = self.kernel
        return (height, 1, width * self.channels) if self.dilation[1] == 1 else (height, width, self.channels)

    def flattened(self) -> "Window":
        """The same over one long row, where that is the same and small enough."""
        pixels = self.batch * self.height * self.width
        plain = self.kernel == self.strides == (1, 1) and not any(self.padding)
        if not plain or pixels * self.channels > _FLAT_BYTES:
            return self
        return Window(1, 1, pixels, self.channels, self.outputs)


def padded(data: Any, window: Window, zero_point: int, dtype: str = "int8") -> Any:
    """The data within its padding of zero points, as another type if that is wanted; copied if need be."""
    if not any(window.padding) and dtype == "int8":
        return data
    high, wide = window.padded
    top, left, _, _ = window.padding
    line, run = wide * window.channels, window.width * window.channels
    before, between = top * line + left * window.channels, line - run
    image = builder.alloc_buffer((window.batch * high * line,), dtype)
    value = tirx.const(zero_point, dtype)
    with loop(window.batch) as batch:
        start = batch * (high * line)
        _fill(image, start, before, value)
        with loop(window.height) as row, builder.serial(0, run) as at:
            source = (batch * window.height + row) * run + at
            builder.buffer_store(image, builder.cast(data[source], dtype), [start + before + row * line + at])
        if window.height > 1:
            with loop(window.height - 1) as row:
                _fill(image, start + before + row * line + run, between, value)
        after = before + (window.height - 1) * line + run
        _fill(image, start + after, high * line - after, value)
    return image


def _fill(buffer: Any, start: Any, size: int, value: Any) -> None:
    if size:
        with builder.serial(0, size) as at:
            builder.buffer_store(buffer, value, [start + at])


def copy_windows(image: Any, copied: Any, window: Window, length: int, batch: Any, row: Any) -> None:
    """Each window of a row of outputs to `length` bytes of its own; what its runs do not fill may be anything."""
    with builder.serial(0, window.output[1]) as column:
        copy_window(image, copied, window, column * length, (batch, row, column))


def copy_window(image: Any, copied: Any, window: Window, target: Any, place: tuple[Any, Any, Any]) -> None:
    """The window of an output, given as batch, row and column, to where `target` says; its runs follow each other there."""
    rows, columns, run = window.runs
    for inner in range(rows * columns):
        source = window.at(*place, inner // columns, inner % columns)
        for start, size in _pieces(run):
            builder.buffer_store(copied, vector(image, source + start, size), [span(target + inner * run + start, size)])


def _pieces(length: int) -> Iterator[tuple[int, int]]:
    """A run as pieces that one instruction copies."""
    at = 0
    while at < length:
        size = next(size for size in _COPY_BYTES if size <= length - at)
        yield at, size
        at += size
