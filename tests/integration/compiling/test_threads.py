"""Executables of several threads: the same bits as one, on hardware and under emulators, again and again."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks.models import transformer
from benchmarks.models.graph import Network
from benchmarks.models.quantised import quantise
from tests.artifacts import DIGITS, calls_of, infer
from tests.boards import ready
from tests.samples import FEW
from tests.unit.compiling.conftest import onnx_model, tensor
from vlab import measuring, reference, targets
from vlab.compiling import Compiled, compile_model
from vlab.errors import CompileError, MeasureError
from vlab.records import CompileOptions, Measurement, Quality
from vlab.targets import Target


def shared_model(channels: int, columns: int) -> onnx.ModelProto:
    """A convolution and a product that are worth sharing, with small kernels between and after them."""
    random = np.random.default_rng(8)
    weights = {
        "stem": random.standard_normal((channels, 8, 3, 3)) / 9,
        "deep": random.standard_normal((channels, 1, 3, 3)) / 3,
        "left": random.standard_normal((16, channels)),
        "right": random.standard_normal((576, columns)) / 24,
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "deep"], ["c"], name="depthwise", group=channels, pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["d"], name="flat"),
        helper.make_node("MatMul", ["left", "d"], ["e"], name="small"),
        helper.make_node("MatMul", ["e", "right"], ["f"], name="product"),
        helper.make_node("Softmax", ["f"], ["y"], name="softmax", axis=-1),
    ]
    floats = {name: value.astype(np.float32) for name, value in weights.items()}
    shape = {"shape": np.array([channels, 576])}
    return onnx_model(nodes, [tensor("x", [1, 8, 24, 24])], [tensor("y", [16, columns])], floats | shape)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Just worth it in float32."""
    path = tmp_path_factory.mktemp("model") / "shared.onnx"
    onnx.save(shared_model(32, 192), path)
    return path


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Worth it in int8, too."""
    path = tmp_path_factory.mktemp("model") / "quantised.onnx"
    onnx.save(quantise(Network(shared_model(64, 384), 0, 0)).model, path)
    return path


def compiled_with(threads: int, model: Path, target: Target, cache: Path) -> Compiled:
    """The model for a number of threads."""
    return compile_model(model, target, cache=cache, options=CompileOptions(threads=threads))


def outputs(compiled: Compiled, target: Target, work: Path, samples: int) -> bytes:
    """Raw outputs of so many random samples, which are the same in every call."""
    rows = np.random.default_rng(1).standard_normal((samples, 8, 24, 24)).astype(np.float32)
    return infer(compiled, target, [rows], work)[0].tobytes()


@pytest.mark.parametrize(("name", "threads", "samples"), [("host/x86_64", (2, 5), 300), ("arm/aarch64-linux", (2,), 4)])
def test_any_number_of_threads_gives_the_same_bits(
    model: Path, cache: Path, tmp_path: Path, name: str, threads: tuple[int, ...], samples: int
) -> None:
    """Every sample has the same bytes with one thread, several, and more than there are CPUs; small kernels stay on one."""
    target = ready(name)
    expected = outputs(compiled_with(1, model, target, cache), target, tmp_path, samples)
    for count in threads:
        compiled = compiled_with(count, model, target, cache)
        shared = {call.nodes: call.threads for call in calls_of(compiled) if call.threads > 1}

        assert expected == outputs(compiled, target, tmp_path, samples)
        assert {("conv", "relu"): count, ("product",): count} == shared
        assert count == compiled.manifest.options.threads


@pytest.mark.parametrize(("name", "threads"), [("host/x86_64", 5), ("riscv/rv64gc-linux", 2)])
def test_integer_kernels_are_shared_too(quantised: Path, cache: Path, tmp_path: Path, name: str, threads: int) -> None:
    """A quantised convolution, whose windows each thread copies for itself, and a quantised product: the same bytes again."""
    target = ready(name)
    expected = outputs(compiled_with(1, quantised, target, cache), target, tmp_path, 20)
    compiled = compiled_with(threads, quantised, target, cache)
    shared = {call.kernel.rstrip("0123456789"): call.threads for call in calls_of(compiled) if call.threads > 1}

    assert expected == outputs(compiled, target, tmp_path, 20)
    assert {"integer_conv2d": threads, "integer_dense": threads} == shared


def test_an_encoder_is_the_same_with_threads(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer of BERT, where products, softmax and normalisation are shared or not as their size asks for."""
    target = ready("host/x86_64")
    monkeypatch.setattr(transformer, "LAYERS", 1)
    path = tmp_path / "encoder.onnx"
    onnx.save(transformer.bert().model, path)
    one, three = (compiled_with(threads, path, target, cache) for threads in (1, 3))
    rows = reference.random_rows(one.manifest.inputs, 5)

    for ours, theirs in zip(*(infer(compiled, target, rows, tmp_path) for compiled in (one, three)), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert sum(call.threads == 3 for call in calls_of(three)) >= 6


def test_each_thread_has_workspace_of_its_own(model: Path, cache: Path) -> None:
    """Where a shared kernel takes temporary memory, every further thread adds its part, and the manifest counts it."""
    target = ready("host/x86_64")
    sizes = {}
    for threads in (2, 5):
        compiled = compiled_with(threads, model, target, cache)
        found = re.search(r"WORKSPACE = (\d+), TASK_WORKSPACE = (\d+)", (compiled.directory / "model.c").read_text())
        assert found is not None
        workspace, task = map(int, found.groups())
        sizes[threads] = compiled.manifest.workspace_bytes

        assert workspace + (threads - 1) * task == sizes[threads]
        assert 0 < task <= workspace
    assert sizes[5] > sizes[2]


def test_a_small_model_has_one_thread_whatever_is_asked_for(cache: Path) -> None:
    """Where no kernel is worth sharing the program is that of one thread, without a pool."""
    target = ready("host/x86_64")
    one, two = (compiled_with(threads, DIGITS, target, cache) for threads in (1, 2))

    assert (one.directory / "model").read_bytes() == (two.directory / "model").read_bytes()


def test_a_measurement_of_several_threads_is_valid(model: Path, cache: Path, tmp_path: Path) -> None:
    """Time, memory, outputs are measured as ever; instructions are null with the reason; another plan is refused."""
    target = ready("arm/aarch64-linux")
    if not target.emulated:
        pytest.skip("this machine is such a board")
    compiled = compiled_with(2, model, target, cache)
    rows = np.random.default_rng(1).standard_normal((2, 8, 24, 24)).astype(np.float32)

    def measure(threads: int) -> Measurement:
        return measuring.measure(
            compiled.directory,
            compiled.manifest,
            target,
            FEW.model_copy(update={"threads": threads}),
            rows,
            None,
            None,
            emulated=True,
            work=tmp_path,
            plugin_cache=tmp_path / "plugin",
        )[0]

    found = measure(2)

    assert (Quality.valid, ()) == (found.quality, found.quality_reasons)
    assert found.instructions_per_inference is None
    assert "2 threads" in found.instructions_reason
    assert found.ram_peak_bytes is not None
    with pytest.raises(MeasureError, match="compiled for 2 threads, but the plan says 1"):
        measure(1)


def test_microcontrollers_have_one_core(model: Path, cache: Path) -> None:
    """Threads for a board without an operating system are refused at once."""
    with pytest.raises(CompileError, match="arm/cortex-m4 is a microcontroller of one core; got 2 threads"):
        compiled_with(2, model, targets.load("arm/cortex-m4"), cache)
