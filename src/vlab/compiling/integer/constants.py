"""Real constants of a quantised model: codes with scales, whatever a model did to lay them out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class QuantisedConstant:
    """`(codes - zero_points) * scales`, three arrays of one shape."""

    codes: Array
    scales: Array
    zero_points: Array

    @classmethod
    def of(cls, codes: Array, scale: Array, zero_point: Array, axis: int) -> "QuantisedConstant":
        """From one scale and zero point, or one for each index of an axis."""

        def spread(values: Array) -> Array:
            shape = [1] * codes.ndim
            if values.size > 1:
                shape[axis] = values.size
            return np.broadcast_to(values.reshape(shape), codes.shape)

        return cls(codes.astype(np.int64), spread(scale.astype(np.float64)), spread(zero_point.astype(np.int64)))

    def transposed(self, axes: tuple[int, ...]) -> "QuantisedConstant":
        """The same with its axes in another order."""
        return QuantisedConstant(*(array.transpose(axes) for array in (self.codes, self.scales, self.zero_points)))

    def reshaped(self, shape: tuple[int, ...]) -> "QuantisedConstant":
        """The same in another shape."""
        return QuantisedConstant(*(array.reshape(shape) for array in (self.codes, self.scales, self.zero_points)))

    @property
    def real(self) -> Array:
        """The values that are meant, in float64."""
        return np.asarray((self.codes - self.zero_points) * self.scales)

    def scale_of_rows(self) -> Array | None:
        """One scale for each index of the first axis; None if the scale changes along another."""
        rows = self.scales.reshape(len(self.scales), -1)
        return rows[:, 0] if (rows == rows[:, :1]).all() else None


def value(expression: Any) -> Array | None:
    """What a Relax constant holds; None of anything else."""
    return np.asarray(expression.value.numpy()) if is_constant(expression) else None


def is_constant(expression: Any) -> bool:
    """Whether an expression is a constant."""
    return type(expression).__name__ in ("GenericConst", "Constant") and hasattr(expression, "value")


def constant(array: Array) -> Any:
    """A constant of Relax."""
    return relax.const(np.ascontiguousarray(array), str(array.dtype))
