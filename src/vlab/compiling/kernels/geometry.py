"""Windows over two-dimensional images: what convolution and pooling have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from vlab.compiling.schedule.windows import Window

MOST_PEELED = 256
"""Columns whose window leaves the image, times the window's width: beyond that, code for each of them would be too long."""


@dataclass(frozen=True)
class Geometry:
    """Windows over NHWC data; sizes in elements, in pairs of height and width."""

    batch: int
    size: tuple[int, int]
    inputs: int
    """Channels of the data."""
    out: tuple[int, int]
    channels: int
    """Channels of the output."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    """Padding at the top and at the left; that at the other ends follows from the output's size."""
    groups: int

    @classmethod
    def of(cls, call: Any, kernel: Sequence[Any]) -> "Geometry | None":
        """That of a `relax.nn` operator over NHWC data; None where a shape is free.

        Args:
            call: of the operator.
            kernel: height and width of the window.
        """
        attributes, data = call.attrs, call.args[0].ty
        try:
            batch, height, width, inputs = (int(extent) for extent in data.shape)
            _, out_height, out_width, channels = (int(extent) for extent in call.ty.shape)
        except TypeError:
            return None
        return cls(
            batch=batch,
            size=(height, width),
            inputs=inputs,
            out=(out_height, out_width),
            channels=channels,
            kernel=_pair(kernel),
            stride=_pair(attributes.strides),
            dilation=_pair(attributes.dilation),
            before=_pair(attributes.padding),
            groups=int(getattr(attributes, "groups", inputs)),
        )

    @property
    def pointwise(self) -> bool:
        """Whether each place of the output depends on the same place of the data alone."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.before == (0, 0) and self.out == self.size

    @property
    def depthwise(self) -> bool:
        """Whether each channel is filtered by itself."""
        return self.groups == self.inputs == self.channels

    @property
    def steps(self) -> int:
        """Products in one value of a convolution's output."""
        return self.kernel[0] * self.kernel[1] * (self.inputs // self.groups)

    @property
    def peelable(self) -> bool:
        """Whether the schedule may give each column whose window leaves the image code of its own."""
        return self.window(1).peeled * self.kernel[1] <= MOST_PEELED

    def window(self, axis: int) -> Window:
        """Along one axis: 0 for the rows, 1 for the columns."""
        pairs = (self.size, self.kernel, self.stride, self.dilation, self.before, self.out)
        return Window(*(pair[axis] for pair in pairs))

    def padded(self) -> "Geometry":
        """The same windows over data with its padding around it."""

        def extent(axis: int) -> int:
            reached = (self.out[axis] - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
            return max(self.before[axis] + self.size[axis], reached)

        return replace(self, size=(extent(0), extent(1)), before=(0, 0))

    def attributes(self) -> dict[str, int]:
        """What the schedule needs to know of the windows, for the attributes of a computation."""
        return {
            f"{key}_{axis}": getattr(self, key)[index]
            for key in ("kernel", "stride", "dilation", "before")
            for index, axis in enumerate("hw")
        }

    def places(self, row: Any, column: Any, down: Any, across: Any) -> tuple[Any, Any]:
        """Row and column of the data under a tap of the window for a place of the output."""
        pairs = ((row, down), (column, across))
        return tuple(
            place * self.stride[axis] + tap * self.dilation[axis] - self.before[axis] for axis, (place, tap) in enumerate(pairs)
        )

    def inside(self, places: Sequence[Any]) -> Any:
        """Whether row and column are in the data."""
        return tirx.all(*(bound for place, size in zip(places, self.size, strict=True) for bound in (place >= 0, place < size)))


def of_float32(call: Any) -> bool:
    """Whether operands and result of a call are float32 throughout, as the rules for windows have it."""
    return {str(argument.ty.dtype) for argument in call.args} | {str(call.ty.dtype)} == {"float32"}


def _pair(values: Sequence[Any]) -> tuple[int, int]:
    return int(values[0]), int(values[1])
