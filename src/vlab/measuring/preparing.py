"""Files the lab makes before boards measure: reference outputs, and random inputs for a model that comes without a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vlab import reference
from vlab.datasets import INPUTS, Array, Reference, columns, save_reference, to_npz
from vlab.errors import ModelError
from vlab.records import ModelFormat, TensorSpec

_RANDOM_ROWS = 32


def reference_outputs(model: Path, format_: ModelFormat, inputs: Array) -> bytes:
    """Outputs of the reference runtime for every row, as an .npz for `load_reference`.

    Args:
        model: the model file.
        format_: its format.
        inputs: rows as `load_dataset` gives them.

    Raises:
        ModelError: the runtime cannot load or run the model.
        MeasureError: the rows do not fit the model's inputs.
        MissingToolError: the runtime is not installed.
    """
    loaded = reference.load(model.read_bytes(), format_, model.name)
    rows = columns(inputs, [_fixed(spec, inputs) for spec in loaded.inputs])
    return save_reference(Reference(loaded.runtime, loaded.outputs(rows)))


def random_inputs(model: Path, format_: ModelFormat, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """An .npz with 32 rows of seeded random inputs.

    Args:
        model: the model file.
        format_: its format.
        shapes: shapes of inputs with free dimensions.

    Raises:
        ModelError: the model cannot be loaded, or a dimension stays free.
        MissingToolError: the reference runtime is not installed.
    """
    loaded = reference.load(model.read_bytes(), format_, model.name)
    specs = [spec.model_copy(update={"shape": tuple(shapes.get(spec.name, _one_row(spec.shape)))}) for spec in loaded.inputs]
    for spec in specs:
        if any(size < 1 for size in spec.shape):
            shown = ",".join(str(size) if size > 0 else "?" for size in spec.shape)
            raise ModelError(
                f"input {spec.name} of {model.name} has free dimensions ({shown}), expected all fixed; "
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
