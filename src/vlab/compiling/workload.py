"""What every kernel call of a model has to do: multiply-accumulates and bytes, read off unscheduled kernels."""

from math import prod
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.s_tir import SBlock
from tvm_ffi import structural_walk

from vlab.compiling.expressions import bindings, operator
from vlab.compiling.lineage import Lineage
from vlab.records import KernelCall

_REDUCE = 2
"""Kind of a block iterator (tirx.IterVar)."""


def calls(module: Any, lineage: Lineage) -> dict[str, KernelCall]:
    """The kernel calls of `main`, by the name of the variable that holds the result.

    Args:
        module: fused, and not yet scheduled: a schedule splits and repeats what is counted here.
        lineage: knows the nodes behind that module's variables.
    """
    macs = {
        variable.name_hint: _macs(kernel) for variable, kernel in module.functions.items() if isinstance(kernel, tirx.PrimFunc)
    }
    found = {}
    for binding in bindings(module["main"]):
        value = binding.value
        if operator(value) != "relax.call_tir":
            continue
        kernel, operands = value.args[0].name_hint, value.args[1].fields
        constant = [isinstance(operand, tvm.ir.GenericConst) for operand in operands]
        sizes = [_bytes(operand.ty) for operand in operands]
        found[binding.var.name] = KernelCall(
            kernel=kernel,
            nodes=lineage.of(binding.var.name),
            macs=macs[kernel],
            weight_bytes=sum(size for size, weight in zip(sizes, constant, strict=True) if weight),
            input_bytes=sum(size for size, weight in zip(sizes, constant, strict=True) if not weight),
            output_bytes=_bytes(binding.var.ty),
        )
    return found


MACS = "macs"
"""Key of the multiply-accumulates where loops do not tell: attribute of a kernel that is written loop by loop instead of as a
computation, and of a computation that passes over most of its iterations."""


def _macs(kernel: Any) -> int:
    """Executions of products that are added up in the kernel's reductions."""
    if kernel.attrs and MACS in kernel.attrs:
        return int(kernel.attrs[MACS])
    total = 0

    def count(block: Any) -> None:
        nonlocal total
        if MACS in block.annotations:
            total += int(block.annotations[MACS])
        elif any(int(variable.iter_type) == _REDUCE for variable in block.iter_vars):
            iterations = prod(_extent(variable.dom.extent) for variable in block.iter_vars)
            stores: list[Any] = []
            structural_walk(block.body, (tirx.BufferStore, stores.append))
            total += iterations * sum(_products(store.value) for store in stores)

    structural_walk(kernel.body, (SBlock, count))
    return total


def _products(value: Any) -> int:
    """Products among the terms of a sum."""
    kind = type(value).__name__
    if kind == "Mul":
        return 1
    if kind in ("Add", "Sub"):
        return _products(value.a) + _products(value.b)
    if kind == "Cast":
        return _products(value.value)
    if kind == "Select":
        return max(_products(value.true_value), _products(value.false_value))
    if kind == "Call" and getattr(value.op, "name", "") == "tirx.if_then_else":
        return max(_products(argument) for argument in value.args[1:])
    return 0


def _bytes(ty: Any) -> int:
    if isinstance(ty, relax.TupleType):
        return sum(_bytes(field) for field in ty.fields)
    return prod(_extent(extent) for extent in ty.shape) * int(tvm.DataType(str(ty.dtype)).itemsize)


def _extent(extent: Any) -> int:
    """As a number; 1 where it is none, for models of dynamic shape are refused when their C is generated."""
    return int(extent) if isinstance(extent, int) or hasattr(extent, "value") else 1
