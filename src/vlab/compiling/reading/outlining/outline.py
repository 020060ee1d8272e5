"""What an outline holds, and what follows from it whatever the format."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

_PRECISIONS = ("bfloat16", "float16", "float32", "float64")
"""Least precise first."""


@dataclass(frozen=True)
class Quantisation:
    """How whole numbers stand for real ones: real = scale * (whole - zero_point)."""

    scale: float
    zero_point: int
    dtype: str
    """numpy name of the whole numbers."""

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest real number: what calibration took the tensor's values to be within."""
        info = np.iinfo(self.dtype)
        return self.scale * (int(info.min) - self.zero_point), self.scale * (int(info.max) - self.zero_point)


@dataclass(frozen=True, eq=False)
class Operator:
    """One node of the graph."""

    name: str
    kind: str
    """Operator as the format calls it, such as Conv or CONV_2D."""
    inputs: tuple[str, ...]
    """Names of tensors; empty for an optional one that is absent."""
    outputs: tuple[str, ...]
    carries: bool = False
    """Whether its outputs hold the values of its first input, in another place or type."""
    keeps_step: bool = False
    """Whether no output value moves further than the input value behind it."""
    indexes: Mapping[str, int] = field(default_factory=dict)
    """Inputs whose values are places in a table, with the number of places."""
    products: int = 0
    """Multiply-accumulates as far as the shapes are known; its values for an operator without any."""


@dataclass(frozen=True)
class Outline:
    """A model's graph."""

    operators: tuple[Operator, ...]
    """In the model's order, which is topological."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    """Of the tensors whose shape is known and fixed."""
    dtypes: Mapping[str, str]
    """numpy name, of the tensors whose type is known."""
    weights: Mapping[str, int]
    """Bytes of each constant."""
    quantisation: Mapping[str, Quantisation]
    """Of the tensors of whole numbers that have one scale."""
    scalars: Mapping[str, float] = field(default_factory=dict)
    """Values of the constants that hold one number."""

    @cached_property
    def maker(self) -> dict[str, Operator]:
        """The operator that computes a tensor."""
        return {name: operator for operator in self.operators for name in operator.outputs}

    def size_bytes(self, tensor: str) -> int:
        """Bytes of a tensor's values; 0 where its shape is not known."""
        if tensor not in self.shapes:
            return 0
        dtype = self.dtypes.get(tensor, "float32")
        return math.prod(self.shapes[tensor]) * np.dtype(dtype).itemsize

    def value_range(self, tensor: str) -> tuple[float, float] | None:
        """Range that calibration found for a real-valued tensor, where the model quantises it at once."""
        ranges = [
            self.quantisation[operator.outputs[0]].range
            for operator, name in self._uses(tensor)
            if operator.kind in ("QuantizeLinear", "QUANTIZE")
            and operator.inputs[0] == name
            and operator.outputs[0] in self.quantisation
        ]
        return ranges[0] if ranges else None

    def step(self, tensor: str) -> float | None:
        """Difference between neighbouring values of a tensor that was quantised: 1 for whole numbers; None for others."""
        real = False
        for _ in range(len(self.operators) + 1):
            if tensor in self.quantisation:
                return self.quantisation[tensor].scale if real else 1.0
            operator = self.maker.get(tensor)
            if operator is None or not operator.inputs:
                return None
            real = real or operator.kind in ("DequantizeLinear", "DEQUANTIZE")
            if not (operator.carries or operator.keeps_step or operator.kind in ("DequantizeLinear", "DEQUANTIZE")):
                return None
            tensor = operator.inputs[0]
        return None

    def precision(self, tensor: str) -> str | None:
        """The least precise float type among what is computed from the inputs on the way to a tensor; None without floats."""
        needed = {tensor}
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs):
                needed.update(operator.inputs)
        found = {self.dtypes.get(name) for name in needed & self._computed}
        return next((one for one in _PRECISIONS if one in found), None)

    @cached_property
    def _computed(self) -> frozenset[str]:
        """Tensors that depend on the inputs, those included."""
        live = set(self.inputs)
        for operator in self.operators:
            if live.intersection(operator.inputs):
                live.update(operator.outputs)
        return frozenset(live)

    def _uses(self, tensor: str) -> Iterator[tuple[Operator, str]]:
        """Operators that read a tensor's values, each with the name it reads them by."""
        names = {tensor}
        for operator in self.operators:
            for name in operator.inputs:
                if name in names:
                    yield operator, name
            if operator.carries and operator.inputs and operator.inputs[0] in names:
                names.update(operator.outputs)
