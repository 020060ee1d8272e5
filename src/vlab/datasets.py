"""Data sets and reference outputs: .npz files in, checked arrays and the raw bytes of the harness out.

A data set has key `x`, float32 or whatever the model takes, [N, ...] with one row for each inference, and optionally `y`, whole
numbers [N], the right class of each row. For a model with several inputs the rows stand under the inputs' names instead of
`x`; they are then held as one structured array with a field for each input.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.errors import MeasureError
from vlab.records import TensorSpec

Array = npt.NDArray[Any]

INPUTS, LABELS, OUTPUTS, RUNTIME = "x", "y", "y", "runtime"
MAX_BYTES = 4 << 30
"""Uncompressed; a data set is held in memory, and a small file may unpack to a very large one."""

_CHUNK = 256


def load_dataset(path: Path) -> tuple[Array, Array | None]:
    """Rows of inputs [N, ...], and labels int64 [N] where the file has them.

    Raises:
        MeasureError: not an .npz of plain arrays, no inputs, or labels that do not fit them.
    """
    arrays = _load(path)
    labels = arrays.pop(LABELS, None)
    if not arrays:
        raise MeasureError(f"{path.name} has no inputs; expected rows of inputs under key {INPUTS!r}")
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        raise MeasureError(f"{path.name} has rows {counts}; expected the same number for every input, at least 1")
    count = min(counts.values())
    inputs = arrays[INPUTS] if list(arrays) == [INPUTS] else _structured(arrays, count)
    if labels is not None and (labels.shape != (count,) or labels.dtype.kind not in "iu"):
        raise MeasureError(
            f"{path.name}: labels {LABELS!r} are {labels.dtype}{list(labels.shape)}, expected whole numbers [{count}]"
        )
    return inputs, None if labels is None else labels.astype(np.int64)


@dataclass(frozen=True)
class Reference:
    """What the reference runtime computed for every row of a data set."""

    runtime: str
    """Name and version of the runtime."""
    outputs: tuple[Array, ...]
    """For each output of the model [N, ...]."""


def load_reference(path: Path) -> Reference:
    """Reference outputs as `save_reference` wrote them.

    Raises:
        MeasureError: not such a file.
    """
    arrays = _load(path)
    runtime = arrays.pop(RUNTIME, None)
    names = [OUTPUTS, *(f"{OUTPUTS}{index}" for index in range(1, len(arrays)))]
    if runtime is None or runtime.dtype.kind != "U" or runtime.shape or set(arrays) != set(names):
        raise MeasureError(
            f"{path.name} holds {sorted(arrays)}; expected reference outputs under {', '.join(names)} and {RUNTIME!r}"
        )
    return Reference(str(runtime), tuple(arrays[name] for name in names))


def save_reference(reference: Reference) -> bytes:
    """Bytes of an .npz: the first output under `y`, further ones under `y1`, `y2`, ..., the runtime's name under `runtime`."""
    outputs = {f"{OUTPUTS}{index or ''}": output for index, output in enumerate(reference.outputs)}
    return to_npz({**outputs, RUNTIME: np.array(reference.runtime)})


def to_npz(arrays: Mapping[str, Array]) -> bytes:
    """Bytes of an .npz; the same arrays, the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def columns(inputs: Array, specs: Sequence[TensorSpec]) -> list[Array]:
    """The rows of each input of the model, [N, ...shape of the input].

    Raises:
        MeasureError: a row has another type or size than the input, or inputs are missing.
    """
    fields = inputs.dtype.names
    if fields is None and len(specs) == 1:
        found = [inputs]
    elif fields is not None and set(fields) == {spec.name for spec in specs}:
        found = [inputs[spec.name] for spec in specs]
    else:
        got, wanted = list(fields or [INPUTS]), [spec.name for spec in specs]
        raise MeasureError(f"the data set has inputs {got}, the model takes {wanted}; name the keys of the .npz after them")
    for rows, spec in zip(found, specs, strict=True):
        size = int(np.prod(spec.shape, dtype=np.int64))
        if rows.dtype != np.dtype(spec.dtype) or rows[0].size != size:
            raise MeasureError(
                f"a row of the data set is {rows.dtype}{list(rows.shape[1:])}, input {spec.name} takes "
                f"{spec.dtype}{list(spec.shape)}; convert the data set"
            )
    return [rows.reshape(len(inputs), *spec.shape) for rows, spec in zip(found, specs, strict=True)]


def write_rows(columns: Sequence[Array], path: Path) -> None:
    """Write tensors, each [N, ...], as the harness reads them: little-endian, those of a sample one after the other."""
    with path.open("wb") as stream:
        for start in range(0, len(columns[0]), _CHUNK):
            pieces = (rows[start : start + _CHUNK] for rows in columns)
            parts = [
                np.ascontiguousarray(piece.reshape(len(piece), -1), dtype=piece.dtype.newbyteorder("<")).view(np.uint8)
                for piece in pieces
            ]
            stream.write(np.concatenate(parts, axis=1).tobytes())


def read_rows(path: Path, specs: Sequence[TensorSpec], count: int) -> list[Array]:
    """Tensors of `count` samples, each [N, ...shape of the tensor], as the harness writes them; undoes `write_rows`.

    Raises:
        MeasureError: the file has another size.
    """
    row = np.dtype([(f"f{index}", np.dtype(spec.dtype).newbyteorder("<"), spec.shape) for index, spec in enumerate(specs)])
    size = path.stat().st_size
    if size != count * row.itemsize:
        raise MeasureError(
            f"the program wrote {size} bytes of outputs, expected {count} samples of {row.itemsize}; compile again"
        )
    table = np.fromfile(path, dtype=row)
    return [table[f"f{index}"] for index in range(len(specs))]


def _structured(arrays: Mapping[str, Array], count: int) -> Array:
    table = np.empty(count, dtype=[(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
    for name, array in arrays.items():
        table[name] = array
    return table


def _load(path: Path) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise MeasureError(f"{path.name} unpacks to {size} bytes, expected at most {MAX_BYTES}; hand in fewer rows")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise MeasureError(f"{path.name} is not an .npz of plain arrays ({error}); save it with numpy.savez") from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray):
            raise MeasureError(f"{path.name} holds {name}, which is no array; save it with numpy.savez")
    return found
