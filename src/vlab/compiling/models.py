"""What a model file is, told by its bytes and without any model library."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import ModelError
from vlab.records import ModelFormat, ModelRef, digest_file

_TFLITE_IDENTIFIER = b"TFL3"
"""File identifier in bytes 4 to 8 of a TFLite flatbuffer (schema.fbs, `file_identifier`)."""

_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
"""Field number to wire type of ModelProto (onnx.proto, IR version 13)."""
_GRAPH, _OPSET_IMPORT = 7, 8

_SUPPORTED = "expected an ONNX or TFLite model"


def inspect_model(path: Path) -> ModelRef:
    """Digest, format and size of a model; the format is told by content, never by file name.

    ONNX is recognised by walking the top level of its protocol buffer, which also tells a file that was cut off.

    Raises:
        ModelError: no such file, not a model, or truncated.
    """
    if not path.is_file():
        raise ModelError(f"{path} is not a file; {_SUPPORTED}")
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty; {_SUPPORTED}")
    return ModelRef(name=path.stem, sha256=digest_file(path), format=_format(path), size_bytes=path.stat().st_size)


def _format(path: Path) -> ModelFormat:
    content = path.read_bytes()
    if content[4:8] == _TFLITE_IDENTIFIER:
        return ModelFormat.tflite
    numbers: set[int] = set()
    try:
        for field in _fields(content):
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
    raise ModelError(f"{path} is not a model: it starts with {content[:8]!r}; {_SUPPORTED}")


@dataclass(frozen=True)
class _Field:
    number: int
    wire_type: int
    end: int
    """Offset after the field, which may lie beyond the end of a truncated file."""


def _fields(content: bytes) -> Iterator[_Field]:
    """The fields of a serialised message (protobuf.dev/programming-guides/encoding).

    Raises:
        IndexError: the message ends within a number.
    """
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(content, at)
        elif wire_type == 2:
            length, at = _varint(content, at)
            at += length
        yield _Field(tag >> 3, wire_type, at)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number at an offset, seven bits a byte with the lowest first, and the offset after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, at
