"""What fusion made of a computation of ours: the computation, and one elementwise expression that follows it.

A rule that writes its own loops takes the buffers and the epilogue from here and leaves blocks and their order behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tvm
from tvm import tirx
from tvm.ir.expr import TensorLoad, Var
from tvm.s_tir import Schedule
from tvm_ffi import structural_map, structural_walk

from vlab.compiling.schedule.nests import at_places
from vlab.compiling.schedule.registers import UnfitError, shape


@dataclass(frozen=True)
class Fused:
    """A kernel: one computation, then at most one elementwise block."""

    function: Any
    """The PrimFunc as it was."""
    attributes: dict[str, Any]
    """Annotations of the computation."""
    data: Any
    """What the computation reads, of as many axes as its result."""
    weights: Any
    """What else it reads; the data again where that is all."""
    intermediate: Any
    """Buffer the computation writes; the output itself where nothing follows."""
    output: Any
    axes: tuple[Any, ...]
    """Block variables of the epilogue, one for each axis of the output."""
    value: Any
    """What the epilogue stores, in terms of `axes` and loads of `intermediate`."""

    @classmethod
    def of(cls, function: Any, annotation: str) -> "Fused":
        """Take a kernel apart.

        Args:
            function: after fusion, before any schedule.
            annotation: key that marks the computation's block.

        Raises:
            UnfitError: it has more in it than the computation and elementwise operations on its whole result.
        """
        schedule = Schedule(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))
        root = schedule.get_sblock("root", "main")
        for block in list(schedule.get_child_blocks(root))[:-1]:
            if annotation not in schedule.get(block).annotations:
                schedule.compute_inline(block)
        blocks = [schedule.get(block) for block in schedule.get_child_blocks(root)]
        computations = [block for block in blocks if annotation in block.annotations]
        if len(computations) != 1 or len(blocks) > 2 or annotation not in blocks[0].annotations:
            raise UnfitError(
                f"it has {len(computations)} computations of ours in {len(blocks)} blocks, expected one, and one block after"
            )
        first, last = blocks[0], blocks[-1]
        (intermediate,) = (region.source for region in first.writes)
        operands = [region.source for region in first.reads if not region.source.same_as(intermediate)]
        if not all(any(operand.same_as(parameter) for parameter in function.params) for operand in operands):
            raise UnfitError("an operand of its computation is computed in the same kernel")
        data = next(operand for operand in operands if len(operand.shape) == len(intermediate.shape))
        weights = next((operand for operand in operands if not operand.same_as(data)), data)
        if len(blocks) == 1:
            axes = tuple(variable.var for variable in first.iter_vars[: len(intermediate.shape)])
            value = tirx.BufferLoad(intermediate, list(axes))
            return cls(function, dict(first.annotations), data, weights, intermediate, intermediate, axes, value)
        axes = tuple(variable.var for variable in last.iter_vars)
        store = last.body
        if not isinstance(store, tirx.BufferStore) or shape(store.buffer) != shape(intermediate):
            raise UnfitError("what is fused after its computation is not elementwise")
        fused = cls(function, dict(first.annotations), data, weights, intermediate, store.buffer, axes, store.value)
        loads = [load for load in fused._loads() if load.source.same_as(intermediate)]
        if not all(fused._whole(access) for access in [store, *loads]):
            raise UnfitError("what is fused after its computation is not elementwise")
        return fused

    def replaced(self, indices: Sequence[Any], computed: Any) -> Any:
        """The epilogue's value at a place.

        Args:
            indices: one for each axis of the output.
            computed: what stands for the computation's result there.
        """

        def loaded(node: Any) -> Any:
            return computed if node.source.same_as(self.intermediate) else node

        return structural_map(self.value, [(TensorLoad, loaded), (Var, at_places(self.axes, indices))])

    def around(self, body: Any) -> Any:
        """The kernel with another body over the same parameters."""
        parameters = list(self.function.params)
        kernel = tirx.PrimFunc(parameters, body)
        for key, value in self.function.attrs.items():
            kernel = kernel.with_attr(key, value)
        return kernel

    def with_rows_merged(self, factor: int) -> tuple["Fused", list[Any]]:
        """The kernel over NHWC images in which so many rows follow one another as one, and the declarations of these views.

        Raises:
            UnfitError: an operand of the epilogue varies along rows or columns but has not the output's shape.
        """
        views: list[tuple[Any, Any]] = []

        def view(buffer: Any) -> Any:
            for known, seen in views:
                if known.same_as(buffer):
                    return seen
            images, height, width, channels = shape(buffer)
            merged = tirx.decl_buffer([images, height // factor, width * factor, channels], str(buffer.dtype), str(buffer.name))
            views.append((buffer, merged))
            return merged

        def loaded(load: Any) -> Any:
            return tirx.BufferLoad(view(load.source), list(load.indices)) if self._whole(load) else load

        for load in self._loads():
            if not self._whole(load) and self._varies_in_the_image(load):
                raise UnfitError("an operand of what is fused after its computation varies along one axis of the image alone")
        data, output = view(self.data), view(self.output)
        intermediate = view(self.intermediate)
        value = structural_map(self.value, [(TensorLoad, loaded)])
        declared = [(buffer, merged) for buffer, merged in views if merged.same_as(output) or not merged.same_as(intermediate)]
        declarations = [tirx.DeclBuffer(merged, data=tirx.buffer_data(buffer)) for buffer, merged in declared]
        return replace(self, data=data, output=output, intermediate=intermediate, value=value), declarations

    def _whole(self, access: Any) -> bool:
        """Whether a load or store of the epilogue goes over a buffer of the output's shape, axis by axis."""
        whole = shape(access.buffer if isinstance(access, tirx.BufferStore) else access.source)
        return whole == shape(self.output) and all(
            index.same_as(axis) or (extent == 1 and isinstance(index, tirx.IntImm))
            for index, axis, extent in zip(access.indices, self.axes, whole, strict=True)
        )

    def _varies_in_the_image(self, load: Any) -> bool:
        found: list[Any] = []
        for index, extent in zip(load.indices, load.source.shape, strict=True):
            if int(extent) > 1:
                structural_walk(index, (Var, found.append))
        return any(variable.same_as(axis) for variable in found for axis in self.axes[:-1])

    def _loads(self) -> list[Any]:
        loads: list[Any] = []
        structural_walk(self.value, (TensorLoad, loads.append))
        return loads
