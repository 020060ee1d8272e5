"""float32 to int8 as whole numbers that no conversion rounds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.artifacts import infer
from tests.unit.compiling.conftest import Save, onnx_model, tensor
from vlab import targets
from vlab.compiling import Compiled

SCALE = np.float32(0.25)


@pytest.mark.parametrize("name", ["host/x86_64", "riscv/rv64gcv-linux"])
@pytest.mark.parametrize(("dtype", "zero_point"), [(np.int8, -7), (np.uint8, 130)])
def test_quantising_rounds_halves_to_even_and_clamps(
    name: str, dtype: type, zero_point: int, save: Save, compile_for: Callable[..., Compiled], tmp_path: Path
) -> None:
    """Every half, every bound and what lies beyond become what ONNX says, also on RISC-V vectors."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    count = 1024
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["y"], name="quantise")
    weights = {"scale": SCALE, "zero_point": np.array(zero_point, dtype)}
    x, y = tensor("x", [1, count], TensorProto.FLOAT), tensor("y", [1, count], kind)
    model = save(onnx_model([node], [x], [y], weights), f"quantise-{np.dtype(dtype).name}.onnx")
    compiled = compile_for(model, name)

    steps = (np.arange(count, dtype=np.float32) - count / 2) / 2
    steps[:4] = (-1e30, 1e30, -0.0, 3e9)
    (got,) = infer(compiled, targets.load(name), [(steps * SCALE)[np.newaxis, np.newaxis]], tmp_path)
    bounds = np.iinfo(dtype)
    expected = np.clip(np.round(steps) + zero_point, bounds.min, bounds.max).astype(dtype)
    assert expected.tolist() == got.ravel().tolist()
