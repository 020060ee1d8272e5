"""The probe and what the reference runtime answers to it."""

import importlib.metadata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.compiling.foreign import said
from vlab.errors import CompileError, MissingToolError, ModelError
from vlab.records import ModelFormat, TensorSpec

Array = npt.NDArray[Any]
Sample = list[Array]
"""One array for each input, or for each output."""

_MOST_SAMPLES = 32
_RANDOM_SAMPLES = 8
_MOST_OPERATIONS = 2_000_000_000
"""Of a whole probe: an emulator runs some ten million a second where it emulates vectors."""
_SEED = 20240229


def probe(specs: Sequence[TensorSpec], path: Path | None, *, operations: int) -> list[Sample]:
    """Inputs for the reference check: at most 32 real ones, or 8 random ones; fewer of a model with many operations.

    Args:
        specs: the model's inputs.
        operations: of one inference. The count follows from it and not from a clock, so that it is the same everywhere.
        path: .npz with rows of inputs under key `x`, or under the names of the inputs where there are several; random without.

    Raises:
        ModelError: the file cannot be read or its rows do not fit the inputs.
    """
    affordable = max(1, _MOST_OPERATIONS // max(1, operations))
    if path is None:
        random = np.random.default_rng(_SEED)
        return [[_random(spec, random) for spec in specs] for _ in range(min(_RANDOM_SAMPLES, affordable))]
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = ["x"] if len(specs) == 1 and "x" in archive else [spec.name for spec in specs]
            columns = [archive[key][: min(_MOST_SAMPLES, affordable)] for key in keys]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        wanted = " and ".join(["x"] if len(specs) == 1 else [spec.name for spec in specs])
        raise ModelError(f"{path} holds no inputs: {said(error)}; expected an .npz with rows under {wanted}") from error
    counts = {len(column) for column in columns}
    if len(counts) != 1 or counts == {0}:
        raise ModelError(f"{path} has {sorted(counts)} rows of inputs; expected the same number for each input, at least 1")
    return [[_fit(column[row], spec, path) for column, spec in zip(columns, specs, strict=True)] for row in range(counts.pop())]


def _random(spec: TensorSpec, random: np.random.Generator) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return random.standard_normal(spec.shape).astype(dtype)
    return random.integers(0, 2, spec.shape).astype(dtype)  # small enough to be an index


def _fit(row: Array, spec: TensorSpec, path: Path) -> Array:
    size = int(np.prod(spec.shape, dtype=np.int64))
    if row.dtype != np.dtype(spec.dtype) or row.size != size:
        raise ModelError(
            f"a row of {path} is {row.dtype}{list(row.shape)}; expected {spec.dtype}{list(spec.shape)} for input {spec.name}"
        )
    return np.ascontiguousarray(row.reshape(spec.shape))


def reference_outputs(format_: ModelFormat, content: bytes, names: Sequence[str], samples: Sequence[Sample]) -> list[Sample]:
    """The reference runtime's outputs for each sample.

    Raises:
        CompileError: the reference runtime cannot run the model.
    """
    runner = _onnxruntime(content, names) if format_ is ModelFormat.onnx else _litert(content)
    try:
        return [[np.asarray(output) for output in runner(sample)] for sample in samples]
    except Exception as error:
        raise CompileError(
            f"{reference_name(format_)} cannot run the model, so there is nothing to compare with: {said(error)}"
        ) from error


def reference_name(format_: ModelFormat) -> str:
    """Reference runtime of a format, with its version.

    Raises:
        MissingToolError: it is not installed; names the command that installs it.
    """
    package = "onnxruntime" if format_ is ModelFormat.onnx else "ai-edge-litert"
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingToolError(
            f"{package} is not installed, and a compiled {format_} model must be compared with what it computes; "
            f"install it with: pip install {package}"
        ) from error


def _onnxruntime(content: bytes, names: Sequence[str]) -> Callable[[Sample], Sequence[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CompileError(f"onnxruntime cannot load the model, so there is nothing to compare with: {said(error)}") from error

    def run(sample: Sample) -> Sequence[Any]:
        answers: Sequence[Any] = session.run(None, dict(zip(names, sample, strict=True)))
        return answers

    return run


def _litert(content: bytes) -> Callable[[Sample], Sequence[Any]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()

    def run(sample: Sample) -> Sequence[Any]:
        for detail, array in zip(interpreter.get_input_details(), sample, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]

    return run


def to_bytes(samples: Sequence[Sample]) -> bytes:
    """Raw little-endian values as the harness reads and writes them: for each sample all its tensors."""
    return b"".join(
        np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes() for sample in samples for array in sample
    )
