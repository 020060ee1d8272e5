"""Reference runtimes, and random rows for them."""

from importlib.util import find_spec

import numpy as np
import pytest

from vlab import reference
from vlab.errors import MissingToolError, ModelError
from vlab.records import ModelFormat, TensorSpec


def test_random_rows_repeat_and_may_be_indices():
    """The same rows every time, fewer of them the first ones; whole numbers are small enough to be indices."""
    image, row = TensorSpec(name="a", shape=(1, 2, 2), dtype="float32"), TensorSpec(name="b", shape=(3,), dtype="int64")
    images, rows = reference.random_rows([image, row], 8)

    assert ((8, 1, 2, 2), np.float32) == (images.shape, images.dtype)
    assert ({0, 1}, np.int64) == (set(rows.ravel().tolist()), rows.dtype)
    assert all(map(np.array_equal, (images, rows), reference.random_rows([image, row], 8)))
    assert np.array_equal(images[:3], reference.random_rows([image], 3)[0])


def test_random_rows_of_quantised_inputs_take_the_whole_type():
    """A value of one byte is anything from its smallest to its largest."""
    (rows,) = reference.random_rows([TensorSpec(name="q", shape=(100,), dtype="int8")], 32)

    assert (-128, 127) == (rows.min(), rows.max())


@pytest.mark.skipif(bool(find_spec("ai_edge_litert")), reason="the reference runtime for TFLite is installed")
def test_a_missing_runtime_names_the_command_that_installs_it():
    """Nothing is compared without the format's own runtime."""
    with pytest.raises(MissingToolError, match="pip install ai-edge-litert"):
        reference.load(b"", ModelFormat.tflite, "m")


def test_a_failing_runtime_says_of_which_model():
    """The runtime's own words come after its name and the model's."""
    with pytest.raises(ModelError, match=r"onnxruntime [\d.]+ cannot load digits: "):
        reference.load(b"no model", ModelFormat.onnx, "digits")
