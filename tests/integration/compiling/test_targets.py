"""Every target: compiled, linked, run under its emulator or natively, compared, and its memory accounted for."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import DIGITS, DIGITS_TEST, TRAINED, calls_of, infer
from tests.boards import ready
from tests.integration.compiling.forked import compile_here, compile_processes
from tests.samples import FEW
from tests.unit.compiling.tflite_model import separable
from vlab import measuring, processes, reference, targets
from vlab.compiling import Compiled, compile_model
from vlab.compiling.own_cpu import write_target
from vlab.datasets import Array, write_rows
from vlab.errors import CompileError, MissingToolError
from vlab.measuring import counting
from vlab.measuring.counting import count, count_calls
from vlab.measuring.running import Program
from vlab.records import Quality
from vlab.targets import Target


def _separable_int8(folder: Path) -> Path:
    path = folder / "separable-int8.tflite"
    path.write_bytes(separable("int8"))
    return path


MODELS: dict[str, Callable[[Path], Path]] = {"separable-int8": _separable_int8, "digits": lambda _: DIGITS}
"""Compiled for every target: where its file is, given a folder to make it in."""
FIRMWARE = sorted(name for name, target in targets.known().items() if target.firmware)

# A board of somebody else: a Nucleo-F411RE by the memory of its chip, 512 KiB of flash and 128 KiB of RAM, emulated by a larger
# board that has both elsewhere.
NUCLEO = """\
description = "Nucleo-F411RE (Cortex-M4F), by the memory of its chip"
isa = "armv7e-m+fp"
lanes = 1
accumulators = 8

[lower]
mtriple = "thumbv7em-none-eabihf"
mcpu = "cortex-m4"
mfloat_abi = "hard"

[compiler]
program = "arm-none-eabi-gcc"
flags = ["-O2", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "--specs=nano.specs"]
packages = ["gcc-arm-none-eabi", "libnewlib-arm-none-eabi"]

[firmware]
family = "cortex-m"
flash_origin = 0x0000_0000
flash_bytes = 524_288
ram_origin = 0x2000_0000
ram_bytes = 131_072
stack_bytes = 4096
timer_hz = 25_000_000

[emulator]
program = "qemu-system-arm"
args = ["-M", "mps2-an386"]
packages = ["qemu-system-arm"]
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of MODELS."""
    folder = tmp_path_factory.mktemp("models")
    trained = {path.stem: path for path in TRAINED.glob("*.tflite")}
    return {name: make(folder) for name, make in MODELS.items()} | trained


@pytest.fixture(scope="module")
def compiled_for(
    request: pytest.FixtureRequest, cache: Path, models: dict[str, Path]
) -> Iterator[Callable[[str, str], Compiled]]:
    """What the tests of this run ask for, compiled two at a time from the first use on, where this machine can serve it."""
    usable = {name: target for name, target in targets.known().items() if _is_usable(target)}
    asked = [getattr(item, "callspec", None) for item in request.session.items if item.path == Path(__file__)]
    named = [(spec.params["name"], spec.params.get("model", "digits")) for spec in asked if spec]
    wanted = dict.fromkeys([("riscv/rv64gcv256-linux", "digits"), *named])
    with compile_processes(2) as pool:
        pending: dict[tuple[str, str], Future[Compiled]] = {
            (name, model): pool.submit(compile_here, models[model], usable[name], cache)
            for name, model in wanted
            if name in usable and model in models
        }

        def compiled(name: str, model: str) -> Compiled:
            ready(name)
            if model not in models:
                pytest.skip(f"needs the trained models: {TRAINED}/{model}.tflite")
            return pending[name, model].result()

        yield compiled
        pool.shutdown(cancel_futures=True)


def _is_usable(target: Target) -> bool:
    tools = all(shutil.which(tool.program) for tool in target.tools)
    return (target.native or target.emulated) and tools


def _values(random: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        *itertools.product(sorted(targets.known()), sorted(MODELS)),
        *itertools.product(("arm/aarch64-linux", "arm/cortex-m4", "riscv/rv64gcv-linux"), ("ad01_fp32", "ad01_int8")),
        ("riscv/rv32imafc", "pretrainedResnet"),
    ],
)
def test_every_target_computes_what_the_reference_computes(
    compiled_for: Callable[[str, str], Compiled], models: dict[str, Path], tmp_path: Path, name: str, model: str
):
    """For inputs that the compile's own check has not seen, codes are those of the reference runtime and floats are near."""
    compiled, target = compiled_for(name, model), targets.load(name)
    random = np.random.default_rng(20_26)
    rows = [_values(random, (3, *spec.shape), np.dtype(spec.dtype)) for spec in compiled.manifest.inputs]
    expected = reference.load(models[model].read_bytes(), compiled.manifest.model.format, model).outputs(rows)

    for ours, theirs in zip(infer(compiled, target, rows, tmp_path), expected, strict=True):
        allowed = 1e-5 * max(1, np.abs(theirs).max()) if theirs.dtype.kind == "f" else 0
        relative = 1e-4 if theirs.dtype.kind == "f" else 0
        np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=relative, atol=allowed)
    assert target.digest() == compiled.manifest.target_sha256


@pytest.mark.parametrize("name", FIRMWARE)
def test_the_memory_report_is_that_of_the_image(compiled_for: Callable[[str, str], Compiled], name: str):
    """Flash and RAM by section are what readelf says of the image, and add up; the stack's use is within its size."""
    manifest, target = compiled_for(name, "digits").manifest, targets.load(name)
    image = compiled_for(name, "digits").directory / manifest.executable
    readelf = shutil.which("readelf") or pytest.skip(
        "readelf is not on this machine; install it with: apt-get install binutils"
    )
    told = processes.run_limited([readelf, "--section-headers", "--wide", image], timeout_s=10).stdout.decode()
    rows = re.findall(r"\] \.(\S+) +(\w+) +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+) \S+ +(\S*A\S*) ", told)
    sizes = {section: int(size, 16) for section, _, _, size, flags in rows if "T" not in flags and int(size, 16)}
    ends = {section: int(address, 16) + sizes[section] for section, _, address, _, _ in rows if section in sizes}
    flash, ram = manifest.memory
    assert target.firmware is not None

    parts = {section.name: section.size_bytes for section in (*flash.sections, *ram.sections)}
    assert sizes == {part: size for part, size in parts.items() if part != "padding"}
    assert ram.used_bytes == max(ends.values()) - target.firmware.ram_origin
    assert flash.used_bytes == sum(section.size_bytes for section in flash.sections) <= flash.limit_bytes
    assert (manifest.arena_bytes, manifest.workspace_bytes) == (parts["arena"], parts.get("workspace", 0))
    assert manifest.weights_bytes <= parts["weights"] < manifest.weights_bytes + 64
    assert target.firmware.stack_bytes == parts["stack"]
    assert manifest.stack_used_bytes is not None
    assert 0 < manifest.stack_used_bytes < parts["stack"]


@pytest.mark.parametrize("name", FIRMWARE)
def test_a_microcontroller_counts_and_tells_time_alike(compiled_for: Callable[[str, str], Compiled], tmp_path: Path, name: str):
    """With one instruction a nanosecond of emulated time, the board's own clock agrees with the count of instructions."""
    compiled, target = compiled_for(name, "digits"), targets.load(name)
    assert target.emulator is not None
    assert target.firmware is not None
    write_rows([np.ones((2, 1, 1, 8, 8), np.float32)], tmp_path / "in.bin")
    program = Program(compiled.directory / compiled.manifest.executable, target, tmp_path)
    counted = count(program, "in.bin", target.emulator, tmp_path / "plugins", log_limit_s=60)
    limits = ["2", "1", "1", "5", "1", "1000000000", "5"]
    command = target.command(program.executable, ["time", "in.bin", "ns.bin", *limits], options=["-icount", "shift=0"])
    assert 0 == processes.run_limited(command, timeout_s=60, cwd=tmp_path).returncode

    by_call = count_calls(program, "in.bin", len(calls_of(compiled)), target.emulator, tmp_path / "plugins")

    assert counted.per_inference is not None, counted.how
    assert by_call.of_calls is not None, by_call.how
    assert 0.95 * counted.per_inference < sum(by_call.of_calls) <= counted.per_inference
    samples_ns = np.fromfile(tmp_path / "ns.bin", "<u8").astype(float)
    tick_ns = 1e9 / target.firmware.timer_hz
    np.testing.assert_allclose(samples_ns, counted.per_inference, rtol=0, atol=2 * tick_ns + 300)


@pytest.mark.parametrize("name", ["arm/cortex-m4", "riscv/rv32imafc"])
def test_the_execution_log_of_a_microcontroller_counts_the_same(
    compiled_for: Callable[[str, str], Compiled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Where QEMU's system emulator loads no plugin, its log gives the same number."""
    compiled, target = compiled_for(name, "digits"), targets.load(name)
    assert target.emulator is not None
    write_rows([np.ones((1, 1, 1, 8, 8), np.float32)], tmp_path / "in.bin")
    program = Program(compiled.directory / compiled.manifest.executable, target, tmp_path)
    by_plugin = count(program, "in.bin", target.emulator, tmp_path / "plugins", log_limit_s=60)
    monkeypatch.setattr(counting, "SOURCE", "plugin/none.c")
    by_log = count(program, "in.bin", target.emulator, tmp_path / "plugins", log_limit_s=60)

    assert ("plugin", "execution log") == (by_plugin.how, by_log.how.partition(",")[0])
    assert by_log.per_inference is not None
    assert by_plugin.per_inference == by_log.per_inference


def test_a_board_that_is_too_small_is_refused_in_words_of_the_model(models: dict[str, Path], cache: Path):
    """By how much, in which memory and section, and the layers that take most; no word of the linker."""

    def refused(name: str, **limits: int) -> str:
        target = ready(name)
        assert target.firmware is not None
        small = target.model_copy(update={"firmware": target.firmware.model_copy(update=limits)})
        with pytest.raises(CompileError) as caught:
            compile_model(models["digits"], small, cache=cache)
        return str(caught.value)

    ram = refused("arm/cortex-m4", ram_bytes=24 * 1024)
    assert re.search(r"needs \d+\.\d KiB of RAM and the board has 24\.0 KiB, which is \d+\.\d KiB too little: arena ", ram)
    assert re.search(r"stack 8\.0 KiB.*; largest layers: pointwise1\S* \(\d+\.\d KiB of tensors.*\), ", ram)
    flash = refused("riscv/rv32imafc", flash_bytes=54 * 1024, ram_origin=0x8000_0000 + 54 * 1024)
    # the weights alone would fit; what does not reaches into the RAM, and the linker has nothing to say
    assert re.search(
        r"of flash and the board has 54\.0 KiB, which is .* too little: weights 5\d\.\d KiB, code \d+\.\d KiB", flash
    )
    assert "of RAM" not in flash


def test_shorter_vectors_than_the_target_has_are_refused(compiled_for: Callable[[str, str], Compiled]):
    """Linux does not tell the length of RISC-V's vectors, and kernels for longer ones would compute nonsense."""
    compiled, short = compiled_for("riscv/rv64gcv256-linux", "digits"), targets.load("riscv/rv64gcv-linux")
    if not short.emulated:
        pytest.skip("this machine is such a board")
    command = short.command(compiled.directory / compiled.manifest.executable, ["infer", "in.bin", "out.bin"])
    done = processes.run_limited(command, timeout_s=30)

    assert (2, "model: vectors of this CPU have 16 bytes, expected 32 or more\n") == (done.returncode, done.stderr)


def test_adding_a_target_is_one_file(models: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A board's file in the user's own folder is enough: its model is compiled, checked, measured and counted."""
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm" / "nucleo-f411re.toml").write_text(NUCLEO)
    monkeypatch.setenv("VLAB_TARGETS", str(tmp_path))
    target = ready("arm/nucleo-f411re")

    compiled = compile_model(models["digits"], target, cache=cache)
    inputs, labels = measuring.load_dataset(DIGITS_TEST)
    measured, environment = measuring.measure(
        *(compiled.directory, compiled.manifest, target, FEW, inputs[:20], labels[:20], None),
        emulated=True,
        work=tmp_path / "work",
        plugin_cache=tmp_path / "plugins",
    )

    assert [131_072, 524_288] == sorted(region.limit_bytes for region in compiled.manifest.memory)
    assert "arm/nucleo-f411re" == compiled.manifest.target
    assert 1.0 == measured.accuracy
    assert Quality.valid == measured.quality
    assert measured.instructions_per_inference is not None
    ram = compiled.manifest.memory[1].used_bytes - target.firmware.stack_bytes + compiled.manifest.stack_used_bytes
    assert ram == measured.ram_peak_bytes
    assert environment.emulator.startswith("QEMU emulator version")


def test_the_machines_own_cpu_is_a_target_by_its_real_name(
    models: dict[str, Path], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """LLVM names the CPU, the name is in the target and so in the artifact, and what it compiles runs here."""
    try:
        path = write_target(tmp_path)
    except CompileError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("VLAB_TARGETS", str(tmp_path))
    name = f"{path.parent.name}/{path.stem}"

    own = ready(name)
    manifest = compile_model(models["digits"], own, cache=cache).manifest

    assert own.lower.mcpu not in ("native", "generic", "")
    assert own.lower.mcpu in manifest.target
    assert path.read_text() == write_target(tmp_path).read_text()
    base = max((one for one in targets.known().values() if one.native and one.name != name), key=lambda one: one.lanes)
    assert (base.lanes, base.accumulators, base.registers) == (own.lanes, own.accumulators, own.registers)
    assert set(base.cpu_features) <= set(own.cpu_features)


def test_a_missing_toolchain_names_the_command(models: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the cross compiler of a microcontroller the message is what installs it."""
    monkeypatch.setenv("PATH", os.devnull)
    for name, packages in (
        ("arm/cortex-m7", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        ("riscv/rv32imac", "gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"),
    ):
        with pytest.raises(MissingToolError, match=f"apt-get install --no-install-recommends {packages}"):
            compile_model(models["digits"], targets.load(name), cache=cache)
