"""Reference runtimes, which say what a model computes: ONNX Runtime or ONNX's own for ONNX, LiteRT's own kernels for TFLite."""

import importlib.metadata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vlab.errors import MissingToolError, ModelError
from vlab.records import ModelFormat, TensorSpec

Array = npt.NDArray[Any]

_SEED = 20240229

_Runner = Callable[[Sequence[Array]], Sequence[Any]]


@dataclass(frozen=True)
class Loaded:
    """A model in its reference runtime."""

    runtime: str
    """Name and version, such as `onnxruntime 1.32.0`."""
    model: str
    """What messages call the model."""
    inputs: tuple[TensorSpec, ...]
    """In the model's order; a free dimension is -1."""
    run: _Runner
    """One sample's inputs in, its outputs out, each in the model's order."""

    def outputs(self, columns: Sequence[Array]) -> tuple[Array, ...]:
        """For each output [N, ...], from for each input [N, ...shape of the input], N at least 1.

        Raises:
            ModelError: the runtime cannot run the model, or an output's shape depends on the sample.
        """
        try:
            answers = [self.run([np.asarray(value) for value in sample]) for sample in zip(*columns, strict=True)]
            return tuple(np.stack(output) for output in zip(*answers, strict=True))
        except Exception as error:
            raise ModelError(f"{self.runtime} cannot run {self.model}: {error}; check it there first") from error


def runtime_name(format_: ModelFormat) -> str:
    """Reference runtime of a format with its version, such as `onnxruntime 1.32.0`.

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


def load(content: bytes, format_: ModelFormat, name: str, *, fused: bool = False) -> Loaded:
    """Load a model into its reference runtime.

    Args:
        content: the model's bytes.
        format_: tells the runtime.
        name: what messages call the model.
        fused: let ONNX Runtime put operators together, which rounds quantised models otherwise: a second opinion.

    Raises:
        ModelError: the runtime cannot load the model.
        MissingToolError: the runtime is not installed.
    """
    runtime = runtime_name(format_)
    try:
        inputs, run = _onnxruntime(content, fused=fused) if format_ is ModelFormat.onnx else _litert(content)
    except Exception as error:
        if format_ is ModelFormat.onnx:
            with suppress(Exception):
                return Loaded(f"onnx {importlib.metadata.version('onnx')}", name, *_onnx(content))
        raise ModelError(f"{runtime} cannot load {name}: {' '.join(str(error).split())}; check it there first") from error
    return Loaded(runtime, name, inputs, run)


def random_rows(specs: Sequence[TensorSpec], count: int) -> list[Array]:
    """For each input [count, ...shape of the input], the same every time.

    Normal for floats; for whole numbers of one byte, which are quantised values, the whole type; 0 or 1 for others, so that
    they may be indices.
    """
    random = np.random.default_rng(_SEED)
    columns: list[Array] = []
    for spec in specs:
        shape, dtype = (count, *spec.shape), np.dtype(spec.dtype)
        values: Array
        if dtype.kind == "f":
            values = random.standard_normal(shape)
        elif dtype.kind in "iu" and dtype.itemsize == 1:
            values = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, endpoint=True)
        else:
            values = random.integers(0, 2, shape)
        columns.append(values.astype(dtype))
    return columns


_NUMPY_OF_ONNX = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def _onnxruntime(content: bytes, *, fused: bool) -> tuple[tuple[TensorSpec, ...], _Runner]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not fused:  # node by node as the model says: fused quantised operators round otherwise, and on some CPUs saturate
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    specs = tuple(
        TensorSpec(
            name=one.name,
            shape=tuple(size if isinstance(size, int) else -1 for size in one.shape),
            dtype=_NUMPY_OF_ONNX.get(one.type, one.type),
        )
        for one in session.get_inputs()
    )

    def run(sample: Sequence[Array]) -> Sequence[Any]:
        answers: Sequence[Any] = session.run(None, {spec.name: array for spec, array in zip(specs, sample, strict=True)})
        return answers

    return specs, run


def _onnx(content: bytes) -> tuple[tuple[TensorSpec, ...], _Runner]:
    """ONNX's own reference implementation, for operators and versions of them that ONNX Runtime lacks."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load_model_from_string(content)
    evaluator = ReferenceEvaluator(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    specs = tuple(
        TensorSpec(
            name=about.name,
            shape=tuple(
                extent.dim_value if extent.HasField("dim_value") else -1 for extent in about.type.tensor_type.shape.dim
            ),
            dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(about.type.tensor_type.elem_type)).name,
        )
        for about in model.graph.input
        if about.name not in weights
    )

    def run(sample: Sequence[Array]) -> Sequence[Any]:
        with np.errstate(all="ignore"):
            answers: Sequence[Any] = evaluator.run(None, {spec.name: array for spec, array in zip(specs, sample, strict=True)})
        return answers

    return specs, run


def _litert(content: bytes) -> tuple[tuple[TensorSpec, ...], _Runner]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    specs = tuple(
        TensorSpec(name=one["name"], shape=tuple(int(size) for size in one["shape"]), dtype=np.dtype(one["dtype"]).name)
        for one in details
    )

    def run(sample: Sequence[Array]) -> Sequence[Any]:
        for detail, array in zip(details, sample, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]).copy() for detail in interpreter.get_output_details()]

    return specs, run
