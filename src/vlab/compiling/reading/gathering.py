"""An ONNX model whose weights are in other files, as one file: its bytes, and so its digest, then cover every weight.

The specification is onnx.proto, `TensorProto.external_data`. What it allows is narrowed to regular files below the model's own
folder, reached without any symbolic link, so that a model from elsewhere cannot have other files of this machine read.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vlab.compiling.reading import wire
from vlab.compiling.reading.models import MAX_DEPTH, MAX_MODEL_BYTES, MAX_OPERATORS, inspect_model
from vlab.errors import ModelError
from vlab.records import ModelFormat

_MAX_FILES = 4096
_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    **dict.fromkeys((21, 22, 23), 4),
    15: 128,
}
"""Of one value, by TensorProto.DataType; strings (8) are not allowed in other files."""
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_HINT = "put the file beside the model, or save the model as one file"


@dataclass(frozen=True)
class Gathered:
    """A model as one file."""

    path: Path
    notice: str
    """What was put into it from where; empty for a model that was one file already."""


def gather(model: Path, into: Path) -> Gathered:
    """The model as one file: itself, or a copy with all weights in it. The same files give the same bytes.

    Args:
        model: an ONNX or TFLite file.
        into: folder for the copy, which has the model's name.

    Raises:
        ModelError: not a model; or a weight's file is missing, not a regular file below the model's folder, reached through a
            symbolic link, or shorter than the weight; or everything together is larger than a model can be.
    """
    if inspect_model(model).format is not ModelFormat.onnx:
        return Gathered(model, "")
    content = model.read_bytes()
    if not wire.survey(content, most_operators=MAX_OPERATORS, most_depth=MAX_DEPTH).external:
        return Gathered(model, "")
    with _Folder.opened(model.parent) as folder:
        pieces = _rewritten(memoryview(content), wire.MODEL, 0, len(content), folder)
    copy = into / model.name
    with copy.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
    names = sorted(folder.files)
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Gathered(
        copy, f"{folder.taken_bytes} bytes of weights from {shown} were put into the model; its digest is that of the whole"
    )


@dataclass
class _Folder:
    """The model's own folder, and what was read from it."""

    descriptor: int
    files: set[str] = field(default_factory=set)
    """Locations of the files that weights are in."""
    taken_bytes: int = 0

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> "Iterator[_Folder]":
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def read(self, tensor: str, location: str, offset: int, length: int) -> bytes:
        """Bytes of a weight.

        Raises:
            ModelError: see `gather`.
        """
        self.taken_bytes += length
        if self.taken_bytes > MAX_MODEL_BYTES:
            raise ModelError(
                f"weight {tensor} brings the model to more than {self.taken_bytes} bytes, expected at most {MAX_MODEL_BYTES}; "
                "reduce or quantise the model"
            )
        self.files.add(location)
        if len(self.files) > _MAX_FILES:
            raise ModelError(f"the model's weights are in more than {_MAX_FILES} files, expected at most that; {_HINT}")
        with self._opened(tensor, location) as stream:
            size = os.fstat(stream.fileno()).st_size
            if offset + length > size:
                raise ModelError(
                    f"weight {tensor} is said to be in bytes {offset} to {offset + length} of {location}, which has {size}; "
                    "get the file again"
                )
            stream.seek(offset)
            data = stream.read(length)
        if len(data) != length:
            raise ModelError(f"{location} became shorter while weight {tensor} was read from it; try again")
        return data

    def _opened(self, tensor: str, location: str) -> BinaryIO:
        """Open step by step from the folder's descriptor, so that nothing is reached through a link that appears meanwhile."""
        path = PurePosixPath(location)
        if not location or path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location:
            raise ModelError(
                f"weight {tensor} is said to be in {location!r}; expected a file below the model's folder; {_HINT}"
            )
        at = self.descriptor
        with ExitStack() as stack:
            try:
                for part in path.parts[:-1]:
                    at = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                    stack.callback(os.close, at)
                # O_NONBLOCK, because a pipe would wait for a writer
                found = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
            except OSError as error:
                link = self._is_link(path, at)
                why = "is or goes through a symbolic link" if link else f"cannot be opened ({error.strerror})"
                raise ModelError(
                    f"weight {tensor} is said to be in {location}, which {why}; expected a regular file below the model's "
                    f"folder; {_HINT}"
                ) from error
        stream = os.fdopen(found, "rb", closefd=True) if stat.S_ISREG(os.fstat(found).st_mode) else None
        if stream is None:
            os.close(found)
            raise ModelError(
                f"weight {tensor} is said to be in {location}, which is no regular file; expected one below the model's "
                f"folder; {_HINT}"
            )
        return stream

    @staticmethod
    def _is_link(path: PurePosixPath, at: int) -> bool:
        with suppress(OSError):
            return any(stat.S_ISLNK(os.stat(part, dir_fd=at, follow_symlinks=False).st_mode) for part in path.parts)
        return False


def _rewritten(content: memoryview, kind: str, start: int, end: int, folder: _Folder) -> list[bytes | memoryview]:
    """The pieces of a message in which every external weight carries its own values; recursion is as deep as the graphs."""
    pieces: list[bytes | memoryview] = []
    try:
        found = list(wire.fields(content, start, end))
    except IndexError as error:
        raise ModelError("the model is damaged: it ends within a field; get it again") from error
    if any(one.end > end for one in found):
        raise ModelError("the model is damaged: a field is longer than what it is in; get it again")
    if kind == wire.TENSOR and any(map(wire.is_external, found)):
        kept = [one for one in found if one.number not in (_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION)]
        values = _values(content, found, folder)
        return [*(content[one.start : one.end] for one in kept), _header(_RAW_DATA, len(values)), values]
    for one in found:
        inner = wire.INNER.get((kind, one.number)) if one.wire_type == wire.LENGTH else None
        if inner is None:
            pieces.append(content[one.start : one.end])
            continue
        parts = _rewritten(content, inner, one.value, one.end, folder)
        pieces += [_header(one.number, sum(map(len, parts))), *parts]
    return pieces


def _header(number: int, length: int) -> bytes:
    return wire.encoded(number << 3 | wire.LENGTH) + wire.encoded(length)


def _values(content: memoryview, found: list[wire.Field], folder: _Folder) -> bytes:
    """The values of one external weight, from its fields."""
    name = next((bytes(content[one.value : one.end]).decode(errors="replace") for one in found if one.number == _NAME), "?")
    entries = dict(_entry(content, one) for one in found if one.number == _EXTERNAL_DATA)
    data_type = next((one.value for one in found if one.number == _DATA_TYPE), 0)
    if data_type not in _BITS:
        raise ModelError(f"weight {name} in another file has type {data_type}, expected numbers; {_HINT}")
    count = 1
    for extent in _extents(content, found):
        if extent >= 1 << 63:
            raise ModelError(f"weight {name} has a negative dimension; export the model again")
        count *= extent
    length = -(-count * _BITS[data_type] // 8)
    try:
        offset, said = int(entries.get("offset", "0")), int(entries.get("length", str(length)))
    except ValueError as error:
        raise ModelError(f"weight {name} is said to be at {entries}, expected numbers; export the model again") from error
    if offset < 0 or said != length:
        raise ModelError(
            f"weight {name} takes {length} bytes, and {said} from byte {offset} of another file are named; "
            "export the model again"
        )
    return folder.read(name, entries.get("location", ""), offset, length)


def _extents(content: memoryview, found: list[wire.Field]) -> Iterator[int]:
    """Dimensions, which may stand one by one or packed."""
    for one in found:
        if one.number != _DIMS:
            continue
        if one.wire_type == wire.VARINT:
            yield one.value
            continue
        at = one.value
        while at < one.end:
            extent, at = wire.varint(content, at)
            yield extent


def _entry(content: memoryview, one: wire.Field) -> tuple[str, str]:
    """A StringStringEntryProto: key in field 1, value in field 2."""
    parts = wire.fields(content, one.value, one.end)
    texts = {part.number: bytes(content[part.value : part.end]).decode(errors="replace") for part in parts}
    return texts.get(1, ""), texts.get(2, "")
