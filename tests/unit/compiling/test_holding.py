"""Kernels that are written loop by loop stay as small as they are written, however often a name is read."""

from typing import Any

import numpy as np
from tvm.ir import Call
from tvm_ffi import structural_walk

from tests.unit.compiling.test_integer_operators import Operators
from vlab import targets
from vlab.compiling import importing, lowering

MOST_CALLS = 3000
"""In one kernel: about twice what is written; with every name replaced by what it stands for there were 17,000."""


def calls(kernel: Any) -> int:
    """Calls in the body of a kernel."""
    found: list[Any] = []
    structural_walk(kernel.body, (Call, found.append))
    return len(found)


def test_what_kernels_name_is_not_written_again_wherever_it_is_read():
    """A convolution of int8 in vectors grows with the vectors of a tile, not with the steps of rescaling times their reads."""
    model = Operators()
    weights = model.constant(model.random.integers(-127, 128, (64, 1, 1, 32)), "int8", np.full(64, 0.01))
    bias = model.constant(model.random.integers(-3000, 3000, 64), "int32", np.full(64, 0.001))
    operands = [model.input((1, 7, 7, 32), 0.1, -3), weights, bias]
    model.add("CONV_2D", operands, model.tensor((1, 7, 7, 64), 1.2, 4), "Conv2DOptions", 3, padding=1, strideW=1, strideH=1)
    imported = importing.import_tflite(model.content(), {})

    lowered = lowering.lower(imported.module, imported.nodes, targets.load("arm/aarch64-linux"), 1)

    sizes = [calls(kernel) for kernel in lowered.kernels.functions.values()]
    assert 1 == len(sizes)
    assert sizes[0] <= MOST_CALLS
