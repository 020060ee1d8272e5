"""Build the program that runs a model in ONNX Runtime behind the harness of the boards."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from vlab import processes
from vlab.compiling.toolchain import Harness
from vlab.errors import CompileError
from vlab.records import TensorSpec
from vlab.targets import Target

SOURCE = Path(__file__).with_name("onnxruntime_model.c")
EXECUTABLE = "onnxruntime-model"
_LIBRARY = "libonnxruntime.so.*"


def library_in(package: Path) -> Path:
    """The shared library with the C API in an unpacked wheel.

    Raises:
        CompileError: there is none, or more than one.
    """
    found = sorted((package / "capi").glob(_LIBRARY))
    if len(found) != 1:
        raise CompileError(f"{package} has {len(found)} files capi/{_LIBRARY}, expected 1; install a wheel of onnxruntime")
    return found[0]


def build(
    model: Path,
    *,
    library: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    target: Target,
    directory: Path,
) -> Path:
    """Compile and link the program; dynamic, for it loads the library.

    Args:
        model: ONNX file, read when the program starts.
        library: ONNX Runtime for the target's machine.
        inputs: of the model.
        outputs: of the model.
        target: whose C compiler is used.
        directory: for the program, made where it is missing.

    Raises:
        CompileError: the compiler refused.
        MissingToolError: it is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tensors.h").write_text(_tensors(model, library, inputs, outputs), encoding="utf-8")
    harness = Harness.of(target)
    flags = [flag for flag in target.compiler.flags if flag != "-static"]
    argv: list[str | Path] = [
        target.compiler.find(),
        *flags,
        f"-I{directory}",
        f"-I{harness.directory}",
        *(harness.directory / source for source in harness.sources),
        SOURCE,
        "-ldl",
        "-lm",
        "-lpthread",
        "-o",
        EXECUTABLE,
    ]
    done = processes.run_limited(argv, timeout_s=120, cwd=directory)
    if done.returncode:
        raise CompileError(f"{target.compiler.program} could not build {EXECUTABLE}: {done.last_words}")
    return directory / EXECUTABLE


def _tensors(model: Path, library: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    rank = max(len(spec.shape) for spec in (*inputs, *outputs)) or 1
    lines = [
        f'#define LIBRARY "{library.absolute()}"',
        f'#define MODEL "{model.absolute()}"',
        "struct tensor {",
        "  const char *name;",
        "  int element_type;",
        f"  size_t rank, bytes;\n  int64_t shape[{rank}];",
        "};",
    ]
    for kind, specs in (("input", inputs), ("output", outputs)):
        sizes = [_bytes(spec) for spec in specs]
        rows = [
            f'{{"{spec.name}", {_element_type(spec)}, {len(spec.shape)}, {size}, {{{", ".join(map(str, spec.shape)) or 0}}}}}'
            for spec, size in zip(specs, sizes, strict=True)
        ]
        lines.append(f"static const struct tensor {kind}_tensors[] = {{{', '.join(rows)}}};")
        lines.append(f"#define {kind.upper()}_BYTES {{{', '.join(map(str, sizes))}}}")
    return "\n".join(lines) + "\n"


def _bytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * np.dtype(spec.dtype).itemsize


def _element_type(spec: TensorSpec) -> int:
    """ONNXTensorElementDataType of onnxruntime_c_api.h, whose numbers are those of TensorProto.DataType."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype)))
