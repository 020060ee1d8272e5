"""A small transformer on the boards that have vectors, under their emulators."""

from pathlib import Path

import onnx
import pytest

from tests.boards import ready
from tests.integration.compiling.forked import compile_here
from tests.unit.compiling.encoder import small_transformer


@pytest.mark.parametrize("name", ["host/x86_64", "arm/aarch64-linux", "riscv/rv64gcv-linux", "riscv/rv64gc-linux"])
def test_a_transformer_equals_the_reference_and_no_kernel_falls_back(name: str, tmp_path: Path):
    """Both styles of exporters, with int64 inputs: compared on the target itself, every kernel by a rule of ours."""
    model = tmp_path / "transformer.onnx"
    onnx.save(small_transformer(), model)

    manifest = compile_here(model, ready(name), cache=tmp_path / "cache").manifest

    assert manifest.numerics.max_abs_err <= 1e-5
    assert [] == [kernel for kernel in manifest.kernels if kernel.reason]
    assert not [kernel.name for kernel in manifest.kernels if "transpose" in kernel.name]
