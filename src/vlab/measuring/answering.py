"""The reference runtime in a process of its own, with limits.

A model that somebody handed in may run for ever, take all memory or crash the runtime; the lab goes on and says so.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vlab import errors, processes
from vlab.datasets import Array
from vlab.errors import ModelError, RefusedError
from vlab.measuring import preparing
from vlab.records import ModelFormat, Record

LIMIT_S = 1800.0
"""For all rows of a data set, one after the other in one thread."""
MEMORY_BYTES = 16 << 30
"""Address space: data set, model and the runtime's tensors."""

_ORDER, _ROWS, _ANSWER, _FAILURE = "order.json", "rows.npy", "answer.npz", "failure.json"


class _Order(Record):
    model: str
    format: ModelFormat
    what: Literal["outputs", "inputs"]
    shapes: dict[str, tuple[int, ...]]


class _Failure(Record):
    kind: str
    message: str


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
            failure = _Failure.from_json((folder / _FAILURE).read_bytes())
            raise getattr(errors, failure.kind)(failure.message)
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
        if order.what == "inputs":
            answer = preparing.random_inputs(Path(order.model), order.format, order.shapes)
        else:
            rows = np.load(folder / _ROWS, allow_pickle=False)
            answer = preparing.reference_outputs(Path(order.model), order.format, rows)
        (folder / _ANSWER).write_bytes(answer)
    except RefusedError as error:
        kind = type(error).__name__ if hasattr(errors, type(error).__name__) else ModelError.__name__
        (folder / _FAILURE).write_bytes(_Failure(kind=kind, message=str(error)).to_json())
