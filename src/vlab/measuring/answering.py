"""Files the lab makes before boards measure: reference outputs, and random inputs for a model that comes without a data set.

They are made in a process of its own, with limits: a model that somebody handed in may run for ever, take all memory or crash
the reference runtime, and the lab goes on and says so.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vlab import processes, reference
from vlab.datasets import INPUTS, Array, Reference, columns, save_reference, to_npz
from vlab.errors import ModelError, RefusedError
from vlab.records import Failure, ModelFormat, Record, TensorSpec
from vlab.reference import Loaded

LIMIT_S = 1800.0
"""For all rows of a data set, one after the other in one thread."""
MEMORY_BYTES = 16 << 30
"""Address space: data set, model and the runtime's tensors."""

_RANDOM_ROWS = 32
_ORDER, _ROWS, _ANSWER, _FAILURE = "order.json", "rows.npy", "answer.npz", "failure.json"


class _Order(Record):
    model: str
    format: ModelFormat
    what: Literal["outputs", "inputs"]
    shapes: dict[str, tuple[int, ...]]


def reference_outputs(model: Path, format_: ModelFormat, inputs: Array) -> bytes:
    """Outputs of the reference runtime for every row, as an .npz for `load_reference`.

    Args:
        model: the model file.
        format_: its format.
        inputs: rows as `load_dataset` gives them.

    Raises:
        ModelError: the runtime cannot load or run the model, or not within its limits.
        MeasureError: the rows do not fit the model's inputs.
        MissingToolError: the runtime is not installed.
    """
    return _answer(_Order(model=str(model.absolute()), format=format_, what="outputs", shapes={}), inputs)


def random_inputs(model: Path, format_: ModelFormat, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """An .npz with 32 rows of seeded random inputs.

    Args:
        model: the model file.
        format_: its format.
        shapes: shapes of inputs with free dimensions.

    Raises:
        ModelError: the model cannot be loaded within the limits, or a dimension stays free.
        MissingToolError: the reference runtime is not installed.
    """
    given = {name: tuple(shape) for name, shape in shapes.items()}
    return _answer(_Order(model=str(model.absolute()), format=format_, what="inputs", shapes=given), None)


def _answer(order: _Order, rows: Array | None) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / _ORDER).write_bytes(order.to_json())
        if rows is not None:
            np.save(folder / _ROWS, rows, allow_pickle=False)
        try:
            done = processes.run_limited(
                [sys.executable, "-c", "from vlab.measuring import answering; answering.main()", folder],
                timeout_s=LIMIT_S,
                memory_bytes=MEMORY_BYTES,
                cwd=folder,
            )
        except processes.LimitError as error:
            raise ModelError(
                f"the reference runtime did not finish {Path(order.model).name} within {LIMIT_S:.0f} s; check the model there, "
                "or hand in fewer rows"
            ) from error
        if (folder / _FAILURE).is_file():
            raise Failure.from_json((folder / _FAILURE).read_bytes()).error
        try:
            return (folder / _ANSWER).read_bytes()
        except OSError as error:
            raise ModelError(
                f"the reference runtime ended with status {done.returncode} on {Path(order.model).name} "
                f"({done.last_words.splitlines()[-1][:200]}); its memory limit was {MEMORY_BYTES} bytes; check the model there"
            ) from error


def main() -> None:
    """Carry out the order in the directory that is the only argument."""
    folder = Path(sys.argv[1])
    order = _Order.from_json((folder / _ORDER).read_bytes())
    try:
        path = Path(order.model)
        loaded = reference.load(path.read_bytes(), order.format, path.name)
        if order.what == "inputs":
            answer = _random(loaded, order.shapes)
        else:
            answer = _outputs(loaded, np.load(folder / _ROWS, allow_pickle=False))
        (folder / _ANSWER).write_bytes(answer)
    except RefusedError as error:
        (folder / _FAILURE).write_bytes(Failure.of(error).to_json())


def _outputs(model: Loaded, inputs: Array) -> bytes:
    rows = columns(inputs, [_fixed(spec, inputs) for spec in model.inputs])
    return save_reference(Reference(model.runtime, model.outputs(rows)))


def _random(model: Loaded, shapes: Mapping[str, Sequence[int]]) -> bytes:
    specs = [spec.model_copy(update={"shape": tuple(shapes.get(spec.name, _one_row(spec.shape)))}) for spec in model.inputs]
    for spec in specs:
        if any(size < 1 for size in spec.shape):
            shown = ",".join(str(size) if size > 0 else "?" for size in spec.shape)
            raise ModelError(
                f"input {spec.name} of {model.model} has free dimensions ({shown}), expected all fixed; "
                f"put numbers for the question marks: --shape {spec.name}={shown}"
            )
    names = [spec.name for spec in specs] if len(specs) > 1 else [INPUTS]
    return to_npz(dict(zip(names, reference.random_rows(specs, _RANDOM_ROWS), strict=True)))


def _one_row(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A free first dimension is the batch, which is 1."""
    return (1, *shape[1:]) if shape and shape[0] < 1 else shape


def _fixed(spec: TensorSpec, inputs: Array) -> TensorSpec:
    """The input with its free dimensions taken from a row: a row is one sample, so a free first dimension is the batch."""
    if all(size >= 0 for size in spec.shape):
        return spec
    row = (inputs[spec.name] if inputs.dtype.names else inputs).shape[1:]
    return spec.model_copy(update={"shape": (1, *row) if len(row) == len(spec.shape) - 1 else row})
