"""Quantised models natively, against LiteRT's reference kernels and ONNX Runtime: codes equal or one apart."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.boards import ready
from vlab import processes, reference
from vlab.compiling import compile_model
from vlab.compiling.building import Compiled
from vlab.datasets import read_rows, write_rows
from vlab.records import ModelFormat
from vlab.targets import Target

MODELS = Path(__file__).parents[3].parent / "shared" / "models"
HOST = "host/x86_64"
INPUTS = 200
QUANTISED_BYTES = {"ad01_int8": 270_880, "pretrainedResnet_quant": 78_752}
"""Of each model's int8 weights and int32 biases."""


def codes(compiled: Compiled, target: Target, columns: list[npt.NDArray[np.int8]], scratch: Path) -> npt.NDArray[np.int8]:
    """The artifact's only output for inputs [N, ...]."""
    write_rows(columns, scratch / "inputs.bin")
    argv = target.command(compiled.directory / "model", ["infer", scratch / "inputs.bin", scratch / "outputs.bin"])
    done = processes.run_limited(argv, timeout_s=300)
    assert done.returncode == 0, done.last_words
    return read_rows(scratch / "outputs.bin", compiled.manifest.outputs, len(columns[0]))[0]


@pytest.mark.parametrize("name", sorted(QUANTISED_BYTES))
def test_a_tiny_int8_model_equals_litert(name: str, tmp_path: Path):
    """Over 200 random inputs 99.9 % of the codes are at most 1 apart and the largest is the same; weights stay int8."""
    path = MODELS / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path} is not here; it comes with MLPerf Tiny (github.com/mlcommons/tiny)")
    target = ready(HOST)
    compiled = compile_model(path, target, cache=tmp_path / "cache")
    shape = compiled.manifest.inputs[0].shape
    rows = np.random.default_rng(7).integers(-128, 128, (INPUTS, *shape), np.int8)
    (expected,) = reference.load(path.read_bytes(), ModelFormat.tflite, name).outputs([rows])

    got = codes(compiled, target, [rows], tmp_path)
    apart = np.abs(got.astype(int) - expected.astype(int))

    assert 0.999 <= (apart <= 1).mean()
    assert np.array_equal(expected.reshape(INPUTS, -1).argmax(axis=1), got.reshape(INPUTS, -1).argmax(axis=1))
    assert compiled.manifest.weights_bytes <= 1.1 * QUANTISED_BYTES[name]
    assert all(kernel.name.startswith(("integer_", "fused_integer_", "reshape")) for kernel in compiled.manifest.kernels)
