"""The Relax function that integer kernels are put into: what its variables stand for, and the calls that are added."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax

from vlab.compiling.integer import reducing
from vlab.compiling.integer.constants import QuantisedConstant, constant
from vlab.compiling.integer.cpus import Cpu
from vlab.compiling.integer.kernel import Kernel
from vlab.compiling.integer.rescaling import Codes
from vlab.compiling.integer.writing import shaped


class NoKernelError(ValueError):
    """Why an operator between dequantise and quantise has no integer kernel here."""


@dataclass(frozen=True)
class Real:
    """A real tensor as int8 codes."""

    codes: Any
    """Variable of the new function, int8."""
    meaning: Codes


@dataclass
class Graph:
    """The function under construction."""

    builder: Any
    cpu: Cpu
    bindings: dict[Any, Any] = field(default_factory=dict)
    """Of the original function: what a variable is bound to."""
    renamed: dict[Any, Any] = field(default_factory=dict)
    """Variables of the original function in the new one."""
    reals: dict[Any, Real] = field(default_factory=dict)
    """Original variables that are real numbers given by codes."""
    constants: dict[Any, QuantisedConstant] = field(default_factory=dict)
    """Original variables that are real constants given by codes."""
    codes: dict[Any, Any] = field(default_factory=dict)
    """Variables of uint8 codes as int8 ones."""
    turned: dict[Any, tuple[Any, tuple[int, ...]]] = field(default_factory=dict)
    """New variables that are another one with its axes in another order."""

    def call(self, name: str, kernel: Any, arguments: Sequence[Any], shape: Sequence[int], dtype: str = "int8") -> Any:
        """Call a kernel that is written loop by loop, over flat buffers."""
        given = [constant(one) if isinstance(one, np.ndarray) else one for one in arguments]
        variable = self.builder.add_func(shaped(kernel, [*(shape_of(one) for one in given), tuple(shape)]), f"integer_{name}")
        return self.builder.emit(relax.call_tir(variable, given, relax.TensorType(tuple(shape), dtype)))

    def call_product(self, name: str, kernel: Kernel, data: Any, shape: Sequence[int]) -> Any:
        """Call a kernel of data and weights."""
        return self.call(name, kernel.build(), [data, kernel.packed, *kernel.rescaling.arrays], shape)

    def compute(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a kernel that is computed, for the schedule."""
        return self.builder.emit_te(function, *arguments, primfunc_name_hint=f"integer_{name}")

    def as_int8(self, original: Any) -> Any:
        """The int8 codes of an original variable of codes.

        Raises:
            NoKernelError: its type is another.
        """
        renamed = self.renamed.get(original, original)
        dtype = dtype_of(original)
        if dtype == "int8":
            return renamed
        if dtype != "uint8":
            raise NoKernelError(f"activations are {dtype}; expected int8 or uint8")
        if original not in self.codes:
            self.codes[original] = self.compute("from_uint8", lambda x: reducing.flipped(x, "int8"), renamed)
        return self.codes[original]

    def define(self, original: Any, codes: Any) -> None:
        """Bind an original variable of codes to int8 codes of the new function."""
        if dtype_of(original) == "uint8":
            self.codes[original] = codes
            codes = self.compute("to_uint8", lambda x: reducing.flipped(x, "uint8"), codes)
        self.renamed[original] = codes

    def turn(self, variable: Any, axes: Sequence[int]) -> Any:
        """A new variable with its axes in another order; turning back gives what was turned."""
        axes = tuple(axes)
        if variable in self.turned:
            source, before = self.turned[variable]
            variable, axes = source, tuple(before[axis] for axis in axes)
        if axes == tuple(range(len(axes))):
            return variable
        shape = shape_of(variable)
        moved = [axis for axis in axes if shape[axis] != 1]
        if moved == sorted(moved):  # only axes of 1 move: the bytes stay where they are
            result = self.builder.emit(relax.op.reshape(variable, [shape[axis] for axis in axes]))
        else:
            result = self.builder.emit(relax.op.permute_dims(variable, list(axes)))
        self.turned[result] = (variable, axes)
        return result

    def real(self, expression: Any) -> Real:
        """The codes of a real operand.

        Raises:
            NoKernelError: it has none.
        """
        if expression not in self.reals:
            raise NoKernelError("an operand is not quantised")
        return self.reals[expression]

    def constant(self, expression: Any) -> QuantisedConstant:
        """A constant operand that is given by codes.

        Raises:
            NoKernelError: it is none.
        """
        if expression not in self.constants:
            raise NoKernelError("weights are not quantised constants")
        return self.constants[expression]


def shape_of(variable: Any) -> tuple[int, ...]:
    """Extents of a tensor.

    Raises:
        NoKernelError: they are not fixed.
    """
    try:
        return tuple(int(extent) for extent in variable.ty.shape)
    except (AttributeError, TypeError, ValueError) as error:
        raise NoKernelError("a shape is not fixed") from error


def dtype_of(variable: Any) -> str:
    """Type of a tensor's elements."""
    return str(variable.ty.dtype)


def operator(value: Any) -> str:
    """Name of the operator of a call, without its prefix; empty for anything else."""
    name = getattr(getattr(value, "op", None), "name", "")
    return name.removeprefix("relax.") if isinstance(name, str) else ""


def numbers(values: Any) -> tuple[int, ...]:
    """Numbers of an operator's attribute."""
    return tuple(int(value) for value in values)


def channel_sums(weights: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """For each output channel, the first axis, the sum of its weights."""
    return np.asarray(weights.astype(np.int64).reshape(len(weights), -1).sum(axis=1))
