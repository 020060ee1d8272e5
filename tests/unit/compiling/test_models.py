"""What a file is, told by its bytes."""

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.compiling.conftest import small_cnn
from vlab.compiling import inspect_model
from vlab.errors import ModelError
from vlab.records import ModelFormat, ModelRef

CNN = small_cnn().SerializeToString()
TFLITE = b"\x1c\x00\x00\x00TFL3" + bytes(64)
any_bytes = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, content: bytes, name: str = "model.bin") -> Path:
    """A file of these bytes."""
    path = folder / name
    path.write_bytes(content)
    return path


def test_onnx_is_told_by_content(tmp_path: Path):
    """An ONNX model is one whatever its file is called."""
    expected = ModelRef(name="kws", sha256=sha256(CNN).hexdigest(), format=ModelFormat.onnx, size_bytes=len(CNN))

    assert expected == inspect_model(written(tmp_path, CNN, "kws.tflite"))


def test_tflite_is_told_by_its_identifier(tmp_path: Path):
    """A TFLite model carries its identifier in bytes 4 to 8."""
    assert ModelFormat.tflite == inspect_model(written(tmp_path, TFLITE, "kws.onnx")).format


@any_bytes
@given(length=st.integers(0, len(CNN) - 1))
def test_a_truncated_onnx_model_is_refused(tmp_path: Path, length: int):
    """However many bytes are missing at the end, the model is refused."""
    with pytest.raises(ModelError, match=r"truncated|empty|not a model"):
        inspect_model(written(tmp_path, CNN[:length]))


def test_the_message_counts_the_missing_bytes(tmp_path: Path):
    """A download that stopped half-way is called truncated, with the numbers."""
    with pytest.raises(ModelError, match=r"truncated ONNX model: 300 bytes of at least \d+; get it again"):
        inspect_model(written(tmp_path, CNN[:300]))


@any_bytes
@given(content=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_recognised(tmp_path: Path, content: bytes):
    """Nothing but a ModelError ever comes out of a file that is no model."""
    try:
        inspect_model(written(tmp_path, content))
    except ModelError:
        return


@pytest.mark.parametrize("content", [b"PK\x03\x04 a zip", b"\x89PNG\r\n\x1a\n", b"# a text\n", b"\x7fELF\x02\x01\x01\x00"])
def test_another_kind_of_file_is_not_a_model(tmp_path: Path, content: bytes):
    """Files of other kinds are named by how they start."""
    with pytest.raises(ModelError, match=r"is not a model: it starts with b.*expected an ONNX or TFLite model"):
        inspect_model(written(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path):
    """A path without a file is not a model."""
    with pytest.raises(ModelError, match="is not a file"):
        inspect_model(tmp_path / "nothing.onnx")
