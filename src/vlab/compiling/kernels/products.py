"""Matrix products in the layout that their kernel reads: own computations in place of `relax.matmul`.

A constant right matrix [K, N] is stored as panels [N / n][K][n] at compile time, a variable one that does not lie that way is
copied into panels by the kernel. Transposes of either side and of the result are no kernels: they become indices. The tile is
`vlab.compiling.schedule.product`'s, whose rule schedules the kernel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from vlab.compiling.expressions import constant, operator, shape
from vlab.compiling.kernels.rewriting import Definitions, rewrite
from vlab.compiling.schedule import ANNOTATION, Registers
from vlab.compiling.schedule.product import AXES, PANELS, RULE, pick_tile

_FEWEST_ROWS = 4
"""Matrices of fewer rows that share their right matrix become one."""


def legalise_products(module: Any, registers: Registers) -> Any:
    """Replace the float32 products of matrices of fixed shapes in the main function of a Relax module."""
    products: dict[Any, Any] = {}

    def rule(binding: Any, definitions: Definitions, builder: Any) -> Any:
        product, axes = binding.value, None
        if operator(product) == "relax.matmul":
            products[binding.var] = product
        if operator(product) == "relax.permute_dims":
            axes = _axes(product)
            product = products.get(product.args[0])
            if product is None or definitions.reads(binding.value.args[0]) != 1 or axes[-1] != len(axes) - 1:
                return None
        if operator(product) != "relax.matmul" or not _fits(product):
            return None
        left, right = (_operand(argument, definitions) for argument in product.args)
        *batch, rows, columns = shape(product)
        if axes is None and rows < _FEWEST_ROWS and math.prod(batch) > 1 and math.prod(right.shape[:-2]) == 1:
            flat = (math.prod(batch) * rows, columns)
            matrix = builder.normalize(relax.op.reshape(product.args[0], (flat[0], right.shape[-2])))
            small = _Product(_operand(matrix, definitions), right, flat, (0, 1), registers)
            return relax.op.reshape(small.emit(builder), shape(product))
        return _Product(left, right, shape(product), axes or range(len(batch) + 2), registers).emit(builder)

    return rewrite(module, rule)


@dataclass(frozen=True)
class _Operand:
    """A matrix, or a batch of them, that is read from a tensor with its axes in another order."""

    source: Any
    axes: tuple[int, ...]
    """For each axis of the operand the source's."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the operand."""
        sizes = shape(self.source)
        return tuple(sizes[axis] for axis in self.axes)

    @property
    def constant(self) -> Any:
        """Its values, or None where they are not known."""
        values = constant(self.source)
        return None if values is None else values.transpose(self.axes)

    def at(self, tensor: Any, indices: Sequence[Any]) -> Any:
        """The element at these indices of the result's batch and of the matrix; batches of one matrix are repeated."""
        missing = len(self.axes) - len(indices)
        indices = [*[0] * missing, *indices[max(0, -missing) :]]
        place: list[Any] = [0] * len(self.axes)
        for axis, index, extent in zip(self.axes, indices, self.shape, strict=True):
            place[axis] = 0 if extent == 1 else index
        return tensor[tuple(place)]


def _operand(value: Any, definitions: Definitions) -> _Operand:
    """A side of a product, seen through the transposes before it."""
    axes = tuple(range(len(shape(value))))
    while (transpose := definitions.call(value, "relax.permute_dims")) is not None:
        order = _axes(transpose)
        axes = tuple(order[axis] for axis in axes)
        value = transpose.args[0]
    return _Operand(value, axes)


def _axes(transpose: Any) -> tuple[int, ...]:
    rank = len(shape(transpose))
    given = transpose.attrs.axes
    return tuple(range(rank))[::-1] if given is None else tuple(int(axis) % rank for axis in given)


class _Product:
    """One product on its way to a kernel."""

    def __init__(
        self, left: _Operand, right: _Operand, shape: tuple[int, ...], axes: Sequence[int], registers: Registers
    ) -> None:
        self.left, self.right = left, right
        self.shape = shape
        self.axes = axes
        """For each axis of the kernel's result the product's."""
        *self.batch, self.rows, self.columns = shape
        self.depth = right.shape[-2]
        self.matrices = [1] * (len(shape) - len(right.shape)) + list(right.shape[:-2])
        """For each axis of the batch how many right matrices there are: as many, or one for all."""
        lies_in_rows = right.constant is None and right.axes[-1] == len(right.axes) - 1
        self.tile = pick_tile(self.rows, self.columns, registers, whole=lies_in_rows)
        self.direct = lies_in_rows and self.columns % self.tile.columns == 0
        """The right matrix is read where it is."""
        self.panels = -(-self.columns // self.tile.columns)

    def emit(self, builder: Any) -> Any:
        """The call of the kernel."""
        right = self.right.constant
        argument = self.right.source if right is None else relax.const(self._stored(right))
        name = "product" if right is None else "dense"
        return builder.call_te(self._compute, self.left.source, argument, primfunc_name_hint=name)

    def _stored(self, values: Any) -> Any:
        """[..., K, N] as [..., N / n, K, n], with zeros where the last panel ends."""
        values = values.reshape(*self.matrices, self.depth, self.columns)
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, -self.columns % self.tile.columns)])
        return np.ascontiguousarray(np.moveaxis(values.reshape(*values.shape[:-1], self.panels, -1), -2, -3))

    def _compute(self, left: Any, right: Any) -> Any:
        tile, batch = self.tile, len(self.batch)
        depth = te.reduce_axis((0, self.depth), "k")
        if self.right.constant is None and not self.direct:
            right = self._packed(right)

        def term(*place: Any) -> Any:
            (panel, block, inner, column), matrix = place[batch:], place[:batch]
            row = block * tile.rows + inner
            if self.rows % tile.rows:
                row = tirx.min(row, self.rows - 1)  # the last tile computes its last row again
            if self.direct:
                factor = self.right.at(right, [*matrix, depth, panel * tile.columns + column])
            else:
                factor = right[(*self._repeated(matrix), panel, depth, column)]
            return te.sum(self.left.at(left, [*matrix, row, depth]) * factor, axis=depth)

        blocks = -(-self.rows // tile.rows)
        kinds = "".join("r" if size == 1 else "b" for size in self.matrices) + "mn"
        attributes = {ANNOTATION: RULE, AXES: "".join(kinds[axis] for axis in self.axes)}
        sums = te.compute((*self.batch, self.panels, blocks, tile.rows, tile.columns), term, "sums", attrs=attributes)

        def gather(*place: Any) -> Any:
            index: list[Any] = [0] * len(place)
            for axis, value in zip(self.axes, place, strict=True):
                index[axis] = value
            *matrix, row, column = index
            return sums[(*matrix, column // tile.columns, row // tile.rows, row % tile.rows, column % tile.columns)]

        return te.compute(tuple(self.shape[axis] for axis in self.axes), gather, "product")

    def _repeated(self, matrix: Sequence[Any]) -> list[Any]:
        """Indices of a batch of panels from those of the result's batch."""
        return [0 if size == 1 else index for size, index in zip(self.matrices, matrix, strict=True)]

    def _packed(self, right: Any) -> Any:
        width = self.tile.columns

        def element(*place: Any) -> Any:
            *matrix, panel, depth, column = place
            number = panel * width + column
            value = self.right.at(right, [*matrix, depth, number])
            inside = self.columns % width == 0
            return value if inside else tirx.if_then_else(number < self.columns, value, tirx.const(0.0, "float32"))

        return te.compute((*self.matrices, self.panels, self.depth, width), element, PANELS)


def _fits(call: Any) -> bool:
    """Whether a product is of float32 matrices of fixed shapes that hold values."""
    types = [call.ty, *(argument.ty for argument in call.args)]
    try:
        shapes = [shape(value) for value in (call, *call.args)]
    except (AttributeError, TypeError, ValueError):
        return False
    return all(str(ty.dtype) == "float32" for ty in types) and all(len(shape) > 1 and 0 not in shape for shape in shapes)
