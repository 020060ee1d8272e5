"""What a file is, told by its bytes."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.unit.compiling.conftest import small_cnn
from vlab.compiling import inspect_model
from vlab.compiling.reading import wire
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


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"# a text\n", b"\x7fELF\x02\x01\x01\x00"])
def test_another_kind_of_file_is_not_a_model(tmp_path: Path, content: bytes):
    """Files of other kinds are named by how they start."""
    with pytest.raises(ModelError, match=r"is not a model: it starts with b.*expected an ONNX or TFLite model"):
        inspect_model(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"PK\x03\x04 a zip", "a ZIP archive"), (b"\x1f\x8b\x08 gzip", "a gzip file"), (b"\xfd7zXZ\x00", "an xz file")],
)
def test_a_packed_model_is_to_be_unpacked(tmp_path: Path, content: bytes, told: str):
    """An archive is named, and nothing in it is unpacked."""
    with pytest.raises(ModelError, match=f"is {told}; expected an ONNX or TFLite model, so unpack it first"):
        inspect_model(written(tmp_path, content, "model.onnx"))


def test_a_file_larger_than_any_model_is_not_read(tmp_path: Path):
    """A sparse file of a terabyte is refused by its size."""
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.write(CNN)
        stream.truncate(1 << 40)

    with pytest.raises(ModelError, match="has 1099511627776 bytes, expected at most 2147483647"):
        inspect_model(path)


def test_pipes_and_devices_are_no_model(tmp_path: Path):
    """Nothing waits for a pipe or reads a device for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ModelError, match="is not a file"):
            inspect_model(path)


def test_a_hundred_thousand_nodes_are_refused(tmp_path: Path):
    """They are counted without the model being parsed."""
    node = helper.make_node("Relu", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.graph.node.extend([node] * 100_000)

    with pytest.raises(ModelError, match="more than 10000 operators, expected at most that; split it"):
        inspect_model(written(tmp_path, model.SerializeToString()))


def nested(depth: int) -> bytes:
    """A model whose graph holds a node with a graph with a node, and so on: field by field, for no library parses it."""
    graph = b""
    for _ in range(depth):
        attribute = wire.encoded(6 << 3 | 2) + wire.encoded(len(graph)) + graph
        node = wire.encoded(5 << 3 | 2) + wire.encoded(len(attribute)) + attribute
        graph = wire.encoded(1 << 3 | 2) + wire.encoded(len(node)) + node
    return b"\x08\x09" + wire.encoded(7 << 3 | 2) + wire.encoded(len(graph)) + graph + b"\x42\x02\x10\x12"


def test_graphs_a_thousand_deep_are_refused(tmp_path: Path):
    """Nesting is found without recursion; what is allowed is deeper than any real model."""
    assert ModelFormat.onnx == inspect_model(written(tmp_path, nested(15))).format
    with pytest.raises(ModelError, match="nested more than 16 deep"):
        inspect_model(written(tmp_path, nested(1000)))


def test_a_model_of_millions_of_empty_fields_is_refused(tmp_path: Path):
    """What is nothing but structure takes no more time than a large model."""
    with pytest.raises(ModelError, match="more than 1000000 fields"):
        inspect_model(written(tmp_path, b"\x08\x09" * 1_000_001))


def test_a_missing_file_is_refused(tmp_path: Path):
    """A path without a file is not a model."""
    with pytest.raises(ModelError, match="is not a file"):
        inspect_model(tmp_path / "nothing.onnx")
