"""Models compiled for this machine and called in this process, through the compile stage's own lowering and generated C."""

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper

from tests.unit.compiling.conftest import onnx_model, tensor
from vlab.compiling import generating, importing, lowering
from vlab.compiling.toolchain import Harness
from vlab.records import Kernel
from vlab.targets import Compiler, Llvm, Target

Array = np.ndarray[Any, Any]


def x86_64(mcpu: str, lanes: int, accumulators: int) -> Target:
    """A level of x86-64 with as many lanes as a test wants."""
    return Target(
        name="host/x86_64",
        description="for a test",
        machine="x86_64",
        isa=mcpu,
        lanes=lanes,
        accumulators=accumulators,
        lower=Llvm(mtriple="x86_64-linux-gnu", mcpu=mcpu),
        compiler=Compiler(program="gcc", flags=("-O1", "-fPIC", "-shared"), packages=("gcc",)),
    )


AVX2 = x86_64("x86-64-v3", 8, 12)
"""Vectors, and multiply-add with one rounding."""
SCALAR = x86_64("x86-64-v2", 1, 8)
"""One value at a time, and two roundings."""
TARGETS = {"vectors": AVX2, "wide": x86_64("x86-64-v3", 16, 6), "scalar": SCALAR}
"""Three ways in which registers may be."""


def run(model: Any, inputs: Sequence[Array], target: Target, directory: Path) -> tuple[list[Array], tuple[Kernel, ...]]:
    """Outputs of an ONNX model's kernels, called in this process, and what the schedule said."""
    imported = importing.import_onnx(model.SerializeToString(), {})
    lowered = lowering.lower(imported.module, imported.nodes, target, 1)
    generated = generating.generate(lowered, 1)
    directory.mkdir(exist_ok=True)
    lowering.emit_object(lowered, target).write_to_file(str(directory / "kernels.o"), "o")
    (directory / "model.c").write_text(generated.source)
    (directory / "weights.S").write_text(generating.WEIGHTS)
    (directory / "weights.bin").write_bytes(generated.weights)
    argv = [target.compiler.find(), *target.compiler.flags, f"-I{Harness.of(target).directory}"]
    subprocess.run([*argv, "model.c", "weights.S", "kernels.o", "-lm", "-o", "model.so"], check=True, cwd=directory)
    library = ctypes.CDLL(str(directory / "model.so"))
    columns = [np.ascontiguousarray(array) for array in inputs]
    pointers = (ctypes.c_void_p * len(columns))(*[column.ctypes.data for column in columns])
    answers = (ctypes.c_void_p * len(generated.outputs))()
    if failed := library.aot_run(pointers, answers):
        raise RuntimeError(f"kernel call {failed} failed")
    outputs = []
    for described, address in zip(generated.outputs, answers, strict=True):
        content = ctypes.string_at(address, described.size_bytes)
        outputs.append(np.frombuffer(content, described.dtype).reshape(described.shape))
    return outputs, lowered.report


def reference(model: Any, inputs: Sequence[Array]) -> list[Array]:
    """What ONNX Runtime answers."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


class Collected:
    """A model that grows by operators; every value asked for is an output."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(3)
        self.nodes: list[Any] = []
        self.inputs: dict[str, Array] = {}
        self.weights: dict[str, Array] = {}
        self.outputs: dict[str, int] = {}

    def value(self, *shape: int, known: bool = False) -> str:
        """An input, or a weight."""
        name = f"v{len(self.inputs)}_{len(self.weights)}"
        (self.weights if known else self.inputs)[name] = self.random.standard_normal(shape).astype(np.float32)
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operator with one output."""
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def output(self, name: str, rank: int) -> None:
        """Compare this value."""
        self.outputs[name] = rank

    def model(self) -> Any:
        """The model as it is now."""
        inputs = [tensor(name, value.shape) for name, value in self.inputs.items()]
        outputs = [tensor(name, [None] * rank) for name, rank in self.outputs.items()]
        return onnx_model(self.nodes, inputs, outputs, self.weights)

    def agree(self, target: Target, directory: Path) -> tuple[Kernel, ...]:
        """Assert that every output is ONNX Runtime's, and return what the schedule said."""
        model = self.model()
        columns = list(self.inputs.values())
        got, report = run(model, columns, target, directory)
        for name, ours, theirs in zip(self.outputs, got, reference(model, columns), strict=True):
            assert ours.shape == theirs.shape, name
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=name)
        return report
