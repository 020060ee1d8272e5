"""ONNX's node tests as models like those of the field: one input is data, the others are weights."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from vlab.datasets import Array


@dataclass(frozen=True)
class Case:
    """One node with inputs and expected outputs."""

    name: str
    operator: str
    """With its domain where that is not ONNX's main one."""
    model: bytes
    inputs: tuple[Array, ...]
    """Of the inputs that are left: the first one, and those that are no tensors."""
    outputs: tuple[Any, ...]
    rtol: float
    atol: float


@cache
def collect() -> tuple[Case, ...]:
    """All node tests in their order, without the variants that repeat one with the operator's function body.

    All inputs but the first become initialisers: in models they are weights, axes and shapes that the exporter wrote down.
    """
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests divide by zero on purpose
        return tuple(_case(test) for test in collect_testcases(None) if "_expanded" not in test.name)


def _case(test: Any) -> Case:
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    model.ir_version = max(4, model.ir_version)  # the first that lets initialisers be no inputs
    (values, expected), *_ = test.data_sets
    described = list(model.graph.input)
    del model.graph.input[:]
    inputs = []
    for position, (about, value) in enumerate(zip(described, values, strict=True)):
        if position == 0 or not about.type.HasField("tensor_type"):
            model.graph.input.append(about)
            inputs.append(_array(value))
        else:
            tensor = value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value))
            model.graph.initializer.add().CopyFrom(tensor)
            model.graph.initializer[-1].name = about.name
    node = model.graph.node[0]
    return Case(
        name=test.name,
        operator=f"{node.domain}.{node.op_type}" if node.domain else node.op_type,
        model=model.SerializeToString(),
        inputs=tuple(inputs),
        outputs=tuple(_array(value) for value in expected),
        rtol=test.rtol,
        atol=test.atol,
    )


def _array(value: Any) -> Any:
    """A tensor as an array; what is no tensor stays as it is."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return value if value is None or isinstance(value, Sequence) else np.asarray(value)
