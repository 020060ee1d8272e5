"""What figures are compared with: stored weights, and another runtime in the same harness."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks import models
from benchmarks.sections.weights import Stored, stored
from benchmarks.versus import arm64, building, contest
from tests.artifacts import TRAINED
from tests.boards import ready
from vlab import datasets, settings
from vlab.errors import MissingToolError


def test_a_qdq_model_stores_weights_biases_and_scales(tmp_path: Path) -> None:
    """DS-CNN has 22,016 weights in int8, 588 biases in int32, and a float32 scale for each of 588 channels."""
    assert Stored(weights_bytes=22_016 + 4 * 588, scales_bytes=4 * 588) == stored(models.write("ds-cnn-int8", tmp_path))


def test_a_tflite_model_stores_weights_biases_and_scales() -> None:
    """The trained ResNet-8: 77,360 weights, 346 biases; its dense layer has one scale for all ten channels."""
    path = TRAINED / "pretrainedResnet_quant.tflite"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {TRAINED}")
    assert Stored(weights_bytes=77_360 + 4 * 346, scales_bytes=4 * 337) == stored(path)


def test_the_aarch64_wheel_is_pinned_by_digest() -> None:
    """What is fetched is the version this project runs with, and pip refuses any other bytes."""
    pin = arm64._pin((settings.checkout() / "requirements" / "lab.txt").read_text(encoding="utf-8"))
    assert pin.startswith(f"onnxruntime=={onnxruntime.__version__} \\\n    --hash=sha256:")
    assert pin.endswith("\n")


def test_requirements_without_digests_are_refused() -> None:
    """A pin without digests would fetch whatever is there."""
    with pytest.raises(MissingToolError, match="pins no onnxruntime"):
        arm64._pin("onnxruntime==1.32.0\n")


def test_both_sides_of_a_contest_compute_the_same(tmp_path: Path) -> None:
    """ONNX Runtime behind the harness gives what our executable gives for the same inputs, so both are timed doing the work."""
    library = building.library_in(Path(onnxruntime.__file__).parent)
    model = models.write("ds-cnn", tmp_path / "models")
    pair = contest.prepare(model, ready("host/x86_64"), library=library, scratch=tmp_path)
    outputs = [
        datasets.read_rows(program.infer(contest.INPUTS, f"{side}.bin"), pair.compiled.manifest.outputs, 4)[0]
        for side, program in (("ours", pair.ours), ("theirs", pair.theirs))
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)
    assert len(np.unique(outputs[0], axis=0)) == 4
