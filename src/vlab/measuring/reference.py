"""What the reference runtime computes, and random inputs for a model that comes without a data set."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlab.errors import MissingToolError, ModelError
from vlab.measuring.datasets import INPUTS, Array, Reference, columns, save_reference, to_npz
from vlab.records import TensorSpec

_SEED = 20240229
_RANDOM_ROWS = 32
_TFLITE_MARK = b"TFL3"

_Runner = Callable[[Sequence[Array]], Sequence[Any]]


def reference_outputs(model: Path, inputs: Array) -> bytes:
    """Outputs of the reference runtime for every row, as an .npz for `load_reference`.

    Args:
        model: ONNX (run by ONNX Runtime) or TFLite (run by LiteRT's reference kernels).
        inputs: rows as `load_dataset` gives them.

    Raises:
        ModelError: the runtime cannot load or run the model.
        MeasureError: the rows do not fit the model's inputs.
        MissingToolError: the runtime is not installed.
    """
    specs, run = _open(model, None)
    specs = [_fixed(spec, inputs) for spec in specs]
    rows = columns(inputs, specs)
    try:
        answers = [run([column[index] for column in rows]) for index in range(len(inputs))]
    except Exception as error:
        raise ModelError(f"{reference_name(model)} cannot run {model.name}: {error}; check it there first") from error
    outputs = (np.stack([np.asarray(answer[index]) for answer in answers]) for index in range(len(answers[0])))
    return save_reference(Reference(reference_name(model), tuple(outputs)))


def random_inputs(model: Path, shapes: Mapping[str, Sequence[int]]) -> bytes:
    """An .npz with 32 rows of seeded random inputs: normal for floats, 0 or 1 for whole numbers.

    Args:
        model: ONNX or TFLite.
        shapes: shapes of inputs with free dimensions.

    Raises:
        ModelError: the model cannot be loaded, or a dimension stays free.
        MissingToolError: the reference runtime is not installed.
    """
    specs, _ = _open(model, shapes)
    random = np.random.default_rng(_SEED)
    arrays: dict[str, Array] = {}
    for spec in specs:
        if any(size < 1 for size in spec.shape):
            raise ModelError(f"input {spec.name} of {model.name} has free dimensions {list(spec.shape)}; give its shape")
        shape, dtype = (_RANDOM_ROWS, *spec.shape), np.dtype(spec.dtype)
        arrays[spec.name] = (random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)).astype(dtype)
    return to_npz(arrays if len(arrays) > 1 else {INPUTS: next(iter(arrays.values()))})


def reference_name(model: Path) -> str:
    """Reference runtime of a model with its version, such as `onnxruntime 1.32.0`.

    Raises:
        MissingToolError: it is not installed.
    """
    package = "ai-edge-litert" if _is_tflite(model) else "onnxruntime"
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingToolError(f"{package} is not installed; install it with: pip install {package}") from error


def _is_tflite(model: Path) -> bool:
    with model.open("rb") as stream:
        return stream.read(8)[4:] == _TFLITE_MARK


def _open(model: Path, shapes: Mapping[str, Sequence[int]] | None) -> tuple[list[TensorSpec], _Runner]:
    name = reference_name(model)
    try:
        specs, run = _open_tflite(model) if _is_tflite(model) else _open_onnx(model)
    except Exception as error:
        raise ModelError(f"{name} cannot load {model.name}: {error}; check it there first") from error
    given = shapes or {}
    return [spec.model_copy(update={"shape": tuple(given.get(spec.name, spec.shape))}) for spec in specs], run


def _open_onnx(model: Path) -> tuple[list[TensorSpec], _Runner]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
    specs = [
        TensorSpec(
            name=one.name,
            shape=tuple(size if isinstance(size, int) else -1 for size in one.shape),
            dtype=_NUMPY_OF_ONNX.get(one.type, one.type),
        )
        for one in session.get_inputs()
    ]

    def run(sample: Sequence[Array]) -> Sequence[Any]:
        answers: Sequence[Any] = session.run(None, {spec.name: array for spec, array in zip(specs, sample, strict=True)})
        return answers

    return specs, run


_NUMPY_OF_ONNX = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def _open_tflite(model: Path) -> tuple[list[TensorSpec], _Runner]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_path=str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    specs = [
        TensorSpec(name=one["name"], shape=tuple(int(size) for size in one["shape"]), dtype=np.dtype(one["dtype"]).name)
        for one in details
    ]

    def run(sample: Sequence[Array]) -> Sequence[Any]:
        for detail, array in zip(details, sample, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]

    return specs, run


def _fixed(spec: TensorSpec, inputs: Array) -> TensorSpec:
    """The input with its free dimensions taken from a row: a row is one sample, so a free first dimension is the batch."""
    if all(size >= 0 for size in spec.shape):
        return spec
    row = (inputs[spec.name] if inputs.dtype.names else inputs).shape[1:]
    return spec.model_copy(update={"shape": (1, *row) if len(row) == len(spec.shape) - 1 else row})
