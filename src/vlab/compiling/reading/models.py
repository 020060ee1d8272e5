"""What a model file is, told by its bytes and without any model library; files that no compile could bear are refused."""

from pathlib import Path

from vlab.compiling.reading import wire
from vlab.errors import ModelError
from vlab.records import ModelFormat, ModelRef, digest_file

MAX_MODEL_BYTES = (2 << 30) - 1
"""What a protocol buffer and the offsets of a flatbuffer can address."""
MAX_OPERATORS = 10_000
"""In all graphs of a model; the largest network in use has some 5,000, and compiling takes time for each."""
MAX_DEPTH = 16
"""Graphs within each other."""

_TFLITE_IDENTIFIER = b"TFL3"
"""File identifier in bytes 4 to 8 of a TFLite flatbuffer (schema.fbs, `file_identifier`)."""

_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Field number to wire type of ModelProto (onnx.proto, IR version 13)."""
_GRAPH, _OPSET_IMPORT = 7, 8

_CONTAINERS = {
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}
_SUPPORTED = "expected an ONNX or TFLite model"


def inspect_model(path: Path) -> ModelRef:
    """Digest, format and size of a model; the format is told by content, never by file name.

    ONNX is recognised by walking the top level of its protocol buffer, which also tells a file that was cut off.

    Raises:
        ModelError: no such file, not a model, truncated, larger than a model can be, or with more operators or deeper nested
            graphs than anything compiles.
    """
    if not path.is_file():
        raise ModelError(f"{path} is not a file; {_SUPPORTED}")
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path} is empty; {_SUPPORTED}")
    if size > MAX_MODEL_BYTES:
        raise ModelError(f"{path} has {size} bytes, expected at most {MAX_MODEL_BYTES}; reduce or quantise the model")
    content = path.read_bytes()
    format_ = _format(path, content)
    if format_ is ModelFormat.onnx:
        found = wire.survey(content, most_operators=MAX_OPERATORS, most_depth=MAX_DEPTH)
        if found.operators > MAX_OPERATORS:
            raise ModelError(
                f"{path} has more than {MAX_OPERATORS} operators, expected at most that; split it into several models"
            )
        if found.depth > MAX_DEPTH:
            raise ModelError(
                f"{path} has graphs nested more than {MAX_DEPTH} deep, expected at most that; export it without control flow"
            )
    return ModelRef(name=path.stem, sha256=digest_file(path), format=format_, size_bytes=size)


def _format(path: Path, content: bytes) -> ModelFormat:
    if content[4:8] == _TFLITE_IDENTIFIER:
        return ModelFormat.tflite
    numbers: set[int] = set()
    try:
        for field in wire.fields(content):
            if field.number not in _ONNX_FIELDS or _ONNX_FIELDS[field.number] != field.wire_type:
                break
            if field.end > len(content):
                raise ModelError(
                    f"{path} is a truncated ONNX model: {len(content)} bytes of at least {field.end}; get it again"
                )
            numbers.add(field.number)
        else:
            if {_GRAPH, _OPSET_IMPORT} <= numbers:
                return ModelFormat.onnx
            if numbers:
                raise ModelError(f"{path} is a truncated ONNX model: its graph or its operator set is missing; get it again")
    except IndexError as error:
        if numbers:
            raise ModelError(f"{path} is a truncated ONNX model: it ends within a field; get it again") from error
    for start, what in _CONTAINERS.items():
        if content.startswith(start):
            raise ModelError(f"{path} is {what}; {_SUPPORTED}, so unpack it first")
    raise ModelError(f"{path} is not a model: it starts with {content[:8]!r}; {_SUPPORTED}")
