"""Compiling from end to end: same bytes, checked outputs, cache, refusals."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.miscompiling import give_wrong_kernel, legalise_wrongly, shift_codes
from tests.unit.compiling.conftest import Save, onnx_model, small_cnn, tensor
from tests.unit.compiling.tflite_model import dense_softmax, separable
from vlab import compiling, targets
from vlab.compiling import Compiled
from vlab.compiling.cache import Cache
from vlab.errors import CompileError, DifferenceError, MissingToolError, ModelError
from vlab.records import ArtifactManifest, CompileOptions, digest_file

Compile = Callable[..., Compiled]


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["host/x86_64", "riscv/rv64gcv-linux", "arm/cortex-m4"])
def test_a_small_cnn_compiles_and_agrees(save: Save, compile_for: Compile, name: str):
    """For a PC, vectors and a microcontroller: an artifact that agrees, every kernel scheduled, all files in the manifest."""
    compiled = compile_for(save(small_cnn()), name)
    manifest = compiled.manifest

    assert manifest.numerics.max_abs_err < 1e-6
    assert 1 == manifest.numerics.top1_agreement
    assert [] == [kernel for kernel in manifest.kernels if not kernel.scheduled]
    assert {"manifest.json", *(file.name for file in manifest.files)} == set(names(compiled.directory))
    assert [file.sha256 for file in manifest.files] == [digest_file(compiled.directory / file.name) for file in manifest.files]
    assert (compiled.directory / "manifest.json").read_bytes() == manifest.to_json()
    assert compiled.manifest_sha256 == digest_file(compiled.directory / "manifest.json") == manifest.digest()


def test_the_same_bytes_wherever_and_whenever(save: Save, compile_for: Compile, tmp_path: Path):
    """Another process, hash seed and cache path give the same artifact to the byte, without a path in it."""
    path = save(small_cnn())
    code = (
        "import sys; from pathlib import Path; from vlab import compiling, targets\n"
        "print(compiling.compile_model(Path(sys.argv[1]), targets.load('host/x86_64'), cache=Path(sys.argv[2])).directory)\n"
        "assert 'tvm' not in sys.modules and 'onnx' not in sys.modules"
    )
    first = compile_for(path).directory
    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "elsewhere"],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    second = Path(done.stdout.strip())

    assert first != second
    assert compiling.pack(first) == compiling.pack(second)
    packed = compiling.pack(second)
    for trace in (str(tmp_path), str(Path(__file__).parents[3])):
        assert trace.encode() not in packed


def test_several_inputs_and_outputs_of_several_types(save: Save, compile_for: Compile):
    """Tensors go in and come out in the model's order and types."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("ArgMax", ["sum"], ["largest"], axis=1, keepdims=0),
        helper.make_node("Gather", ["table", "row"], ["rows"]),
        helper.make_node("Log", ["a"], ["log"]),
    ]
    inputs = [tensor("a", ["N", 8]), tensor("b", ["N", 8]), tensor("row", [2], TensorProto.INT64)]
    outputs = [
        tensor("sum", ["N", 8]),
        tensor("largest", ["N"], TensorProto.INT64),
        tensor("rows", [2, 3]),
        tensor("log", ["N", 8]),
    ]
    model = onnx_model(nodes, inputs, outputs, {"table": np.arange(12, dtype=np.float32).reshape(4, 3)})

    manifest = compile_for(save(model)).manifest

    assert [("a", (1, 8), "float32"), ("b", (1, 8), "float32"), ("row", (2,), "int64")] == [
        (spec.name, spec.shape, spec.dtype) for spec in manifest.inputs
    ]
    assert [("sum", "float32"), ("largest", "int64"), ("rows", "float32"), ("log", "float32")] == [
        (spec.name, spec.dtype) for spec in manifest.outputs
    ]


def test_operators_that_the_importer_takes_wrongly_agree(save: Save, compile_for: Compile):
    """Padding at the lower side, axes from the end without being kept, a mean of int32."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["pooled"], kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
        helper.make_node("ReduceLogSumExp", ["x", "axes"], ["summed"], keepdims=0),
        helper.make_node("ReduceMean", ["w", "axes"], ["mean"]),
    ]
    outputs = [
        tensor("pooled", ["n", "c", "h", "w"]),
        tensor("summed", ["n", "h"]),
        tensor("mean", ["n"] * 4, TensorProto.INT32),
    ]
    inputs = [tensor("x", [1, 2, 5, 6]), tensor("w", [1, 2, 5, 6], TensorProto.INT32)]
    numerics = compile_for(save(onnx_model(nodes, inputs, outputs, {"axes": np.array([-1, -3])}))).manifest.numerics

    assert [0, 0] == [output.max_abs_err for output in numerics.outputs if output.name != "summed"]


def test_a_long_chain_of_choices_takes_time_by_its_length(save: Save, compile_for: Compile):
    """Each of sixteen values is read twice by the next: computed anew for every reader they would be 2^16."""
    nodes = [helper.make_node("Greater", ["x0", "zero"], ["positive"])]
    for step in range(16):
        nodes += [
            helper.make_node("Tanh", [f"x{step}"], [f"t{step}"]),
            helper.make_node("Sigmoid", [f"x{step}"], [f"s{step}"]),
            helper.make_node("Where", ["positive", f"t{step}", f"s{step}"], [f"x{step + 1}"]),
        ]
    model = onnx_model(nodes, [tensor("x0", [1, 19])], [tensor("x16", [1, 19])], {"zero": np.float32(0)})

    assert 1 == len(compile_for(save(model), timeout_s=60).manifest.kernels)


def test_a_model_that_computes_in_half_precision_is_checked_as_one(save: Save, compile_for: Compile):
    """Casts to float32 at its ends do not make it more exact, and an output beside it that is float32 throughout stays so."""
    model = small_cnn()
    for weight in model.graph.initializer:
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    model.graph.node[0].input[0], model.graph.node[-1].output[0] = "half", "narrow"
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["narrow"], ["y"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Exp", ["x"], ["exact"]))
    model.graph.output.append(tensor("exact", [1, 1, 8, 8]))

    manifest = compile_for(save(model)).manifest
    assert [("y", "float16"), ("exact", None)] == [(output.name, output.precision) for output in manifest.outputs]
    assert "large, up to 1e+06" in [case.name for case in manifest.numerics.cases]


def test_real_inputs_are_used_for_the_check(save: Save, compile_for: Compile, tmp_path: Path):
    """The first 32 rows of the data set are compared."""
    probe = tmp_path / "data.npz"
    np.savez(probe, x=np.ones((40, 1, 8, 8), np.float32), y=np.zeros(40, np.int64))

    assert 32 == compile_for(save(small_cnn(), "real.onnx"), probe_inputs=probe).manifest.numerics.inputs


def test_an_operator_that_is_compiled_wrongly_gives_no_artifact(
    save: Save, compile_for: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A kernel that is off by a hundredth is found by the reference check, which says by how much and which operator it is."""
    give_wrong_kernel("relax.sin", "te.sin(x(*at)) + tirx.const(0.01, 'float32')", tmp_path / "wrong", monkeypatch)
    node = helper.make_node("Sin", ["x"], ["y"], name="wave")
    model = onnx_model([node], [tensor("x", [1, 8])], [tensor("y", [1, 8])])

    with pytest.raises(
        CompileError, match=r"differs from onnxruntime .* output y by up to 0\.01 \(allowed 0\.0001.*Sin \(node wave"
    ):
        compile_for(save(model), cache=tmp_path / "cache")
    assert ["locks"] == names(tmp_path / "cache")


@pytest.mark.parametrize("scale", [pytest.param(0.012, id="within"), pytest.param(0.015, id="last")])
def test_a_small_constant_error_in_an_integer_kernel_gives_no_artifact(
    compile_for: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: float
):
    """One step too much in the codes of a kernel is found, although every output may be a step off by itself."""
    shift_codes(scale, tmp_path / "wrong", monkeypatch)
    path = tmp_path / "separable.tflite"
    path.write_bytes(separable("int8"))

    with pytest.raises(DifferenceError, match=r"output y by up to \d.*in the mean by|elements, got"):
        compile_for(path, cache=tmp_path / "cache")


def test_an_output_of_another_shape_than_the_reference_is_refused(
    save: Save, compile_for: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An operator that the compiler makes longer than it is: the shapes tell, before any value is compared."""
    give_wrong_kernel("relax.sin", "x(at[0], 0)", tmp_path / "wrong", monkeypatch, shape="(1, 9)")
    model = onnx_model([helper.make_node("Sin", ["x"], ["y"])], [tensor("x", [1, 8])], [tensor("y", [1, 8])])

    with pytest.raises(CompileError, match=r"output y was compiled to float32\[1, 9\], but onnxruntime .*\[1, 8\]"):
        compile_for(save(model), cache=tmp_path / "cache")


def test_a_call_into_the_compilers_runtime_is_refused(
    save: Save, compile_for: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What needs TVM's runtime cannot run on a board without it."""
    legalise_wrongly(
        "relax.sin", "relax.call_dps_packed('vm.far_away', [*call.args], call.args[0].ty)", tmp_path / "wrong", monkeypatch
    )
    model = onnx_model([helper.make_node("Sin", ["x"], ["y"])], [tensor("x", [1, 8])], [tensor("y", [1, 8])])

    with pytest.raises(CompileError, match=r"calls vm\.far_away of TVM's runtime"):
        compile_for(save(model), cache=tmp_path / "cache")


def test_a_refusal_in_the_worker_keeps_its_kind(save: Save, compile_for: Compile):
    """What the worker refuses reaches the caller as the same error."""
    node = helper.make_node("Bernoulli", ["x"], ["y"], name="activation")
    with pytest.raises(ModelError, match=r"Bernoulli \(node activation\)"):
        compile_for(save(onnx_model([node], [tensor("x", [1, 8])], [tensor("y", [1, 8])])))


def test_options_fix_free_shapes(save: Save, compile_for: Compile):
    """A chosen shape is what the artifact takes."""
    model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [tensor("x", ["N", "T"])], [tensor("y", ["N", "T"])])

    manifest = compile_for(save(model), options=CompileOptions(shapes={"x": (2, 5)})).manifest

    assert (2, 5) == manifest.inputs[0].shape == manifest.outputs[0].shape


def test_a_second_compile_is_a_hit(save: Save, compile_for: Compile, tmp_path: Path):
    """The same again comes from the cache; a damaged entry is built again; other options are another entry."""
    path, cache = save(small_cnn()), tmp_path / "cache"
    first = compile_for(path, cache=cache)
    again = compile_for(path, cache=cache)

    assert (False, True) == (first.cached, again.cached)
    assert first.manifest == again.manifest

    executable = first.directory / "model"
    content = bytearray(executable.read_bytes())
    content[-1] ^= 1
    executable.write_bytes(content)
    repaired = compile_for(path, cache=cache)

    assert not repaired.cached
    assert first.manifest_sha256 == repaired.manifest_sha256
    assert digest_file(executable) == next(file.sha256 for file in first.manifest.files if file.name == "model")
    assert {"locks", first.directory.parent.name} == set(names(cache))


def entry(root: Path, compiled: Compiled) -> Path:
    """A copy of an entry, under key `k` of another cache."""
    shutil.copytree(compiled.directory.parent, root / "k")
    return root / "k"


def rewrite_manifest(directory: Path) -> None:
    """Make the numerics of a manifest look better than they were."""
    path = directory / "artifact" / "manifest.json"
    fields = json.loads(path.read_text())
    fields["numerics"]["max_abs_err"] = 0.0
    path.write_bytes(ArtifactManifest.model_validate(fields).to_json())


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: (directory / "artifact" / "model").write_bytes(b""),
        lambda directory: (directory / "artifact" / "model").unlink(),
        lambda directory: (directory / "artifact" / "model.c").write_text("int x;"),
        lambda directory: (directory / "artifact" / "more").write_text(""),
        lambda directory: (directory / "artifact" / "manifest.json").unlink(),
        lambda directory: (directory / "artifact" / "manifest.json").write_text("{}"),
        lambda directory: (directory / "manifest.sha256").unlink(),
        rewrite_manifest,
    ],
)
def test_any_damage_is_found(save: Save, compile_for: Compile, tmp_path: Path, damage: Callable[[Path], object]):
    """An entry with a missing, changed or foreign file, or a changed manifest, is no entry."""
    directory = entry(tmp_path, compile_for(save(small_cnn())))
    assert Cache(tmp_path).find("k") is not None

    damage(directory)

    assert Cache(tmp_path).find("k") is None


def test_an_interrupted_compile_leaves_nothing_that_looks_done(save: Save, compile_for: Compile, tmp_path: Path):
    """A compile that passes its limit leaves no entry; what a killed one left is removed by the next."""
    path, cache = save(small_cnn()), tmp_path / "cache"
    with pytest.raises(CompileError, match=r"took too long.*timeout_s"):
        compile_for(path, cache=cache, timeout_s=0.2)
    assert ["locks"] == names(cache)

    key = names(cache / "locks")[0]
    (cache / f".{key}-killed").mkdir()
    compile_for(path, cache=cache)
    assert {"locks", key} == set(names(cache))


def test_a_compile_without_memory_is_refused(save: Save, compile_for: Compile, tmp_path: Path):
    """The memory limit ends the compile, not the caller."""
    with pytest.raises(CompileError):
        compile_for(save(small_cnn()), cache=tmp_path, memory_bytes=2**27)


def test_concurrent_compiles_of_the_same_build_once(save: Save, compile_for: Compile, tmp_path: Path):
    """Of two that ask at the same time one builds and the other takes what it built."""
    path, results = save(small_cnn()), []
    threads = [threading.Thread(target=lambda: results.append(compile_for(path, cache=tmp_path / "cache"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [False, True] == sorted(result.cached for result in results)
    assert results[0].manifest == results[1].manifest


def test_a_missing_compiler_names_the_command_that_installs_it(
    save: Save, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Nothing is tried without the C compiler."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError, match="apt-get install --no-install-recommends gcc-riscv64-linux-gnu"):
        compiling.compile_model(save(small_cnn()), targets.load("riscv/rv64gc-linux"), cache=cache)


def test_tflite_needs_its_reference_runtime(compile_for: Compile, tmp_path: Path):
    """Without a runtime to compare with nothing is compiled, and the message says what to install."""
    if find_spec("ai_edge_litert"):
        pytest.skip("the reference runtime for TFLite is installed")
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_softmax())

    with pytest.raises(MissingToolError, match="pip install ai-edge-litert"):
        compile_for(path)


@pytest.mark.skipif(
    not find_spec("ai_edge_litert"), reason="needs the reference runtime for TFLite: pip install ai-edge-litert"
)
def test_a_tflite_model_is_compared_with_litert(compile_for: Compile, tmp_path: Path):
    """A TFLite model goes the same way, with the other reference."""
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_softmax())

    assert compile_for(path).manifest.numerics.reference.startswith("ai-edge-litert ")


@pytest.mark.skipif(
    not find_spec("ai_edge_litert"), reason="needs the reference runtime for TFLite: pip install ai-edge-litert"
)
def test_a_tflite_model_with_half_precision_weights_is_that_of_its_rounded_weights(compile_for: Compile, tmp_path: Path):
    """A DEQUANTIZE after every constant costs nothing when the model runs, and the outputs are LiteRT's."""
    path = tmp_path / "half.tflite"
    path.write_bytes(separable("float16"))
    manifest = compile_for(path).manifest

    assert manifest.numerics.max_abs_err < 1e-5
    assert manifest.numerics.reference.startswith("ai-edge-litert ")
    kernels = [kernel.name for kernel in manifest.kernels]
    assert ["fused_conv2d_add_relu", "fused_dense_add1", "fused_depthwise_conv2d_add_relu", "mean"] == sorted(kernels)
    assert all(kernel.scheduled for kernel in manifest.kernels)
