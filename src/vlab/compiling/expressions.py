"""What is in a Relax function: its bindings, and what a value in it is."""

from collections.abc import Iterator
from typing import Any

import tvm


def bindings(function: Any) -> Iterator[Any]:
    """All bindings of a function, in order."""
    return (binding for block in function.body.blocks for binding in block.bindings)


def operator(value: Any) -> str:
    """Name of the operator that a value calls; empty where it is no such call."""
    return getattr(getattr(value, "op", None), "name", "")


def constant(value: Any) -> Any:
    """Values of a constant as an array, or None where it is none."""
    return value.value.numpy() if isinstance(value, tvm.ir.expr.GenericConst) else None


def shape(value: Any) -> tuple[int, ...]:
    """Shape of a tensor.

    Raises:
        AttributeError, TypeError, ValueError: it is no tensor of a fixed shape.
    """
    return tuple(int(extent) for extent in value.ty.shape)
