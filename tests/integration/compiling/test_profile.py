"""Profiles of real artifacts, natively, under emulators with Linux, and of firmware."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests.artifacts import DIGITS, DIGITS_TEST
from tests.boards import ready
from tests.unit.compiling.test_profile_names import residual
from vlab import profiling
from vlab.compiling import compile_model
from vlab.measuring.counting import NoPluginError, build_plugin, count, count_calls
from vlab.measuring.running import Program
from vlab.records import KernelProfile
from vlab.targets import Target

REST = 100
"""Instructions of an inference that are neither kernels nor calls of them: its outputs, and firmware's look at the stack."""


@pytest.fixture(scope="module")
def residual_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The residual network as a file."""
    path = tmp_path_factory.mktemp("model") / "residual.onnx"
    onnx.save(residual(), path)
    return path


@pytest.mark.parametrize("name", ["arm/aarch64-linux", "riscv/rv64gc-linux", "riscv/rv32imafc"])
def test_instructions_of_the_calls_are_those_of_the_inference(residual_path: Path, cache: Path, name: str) -> None:
    """Kernel by kernel the count adds up to the whole; there are no times, and shares are of instructions."""
    target = ready(name)
    if not target.emulated or target.emulator is None:
        pytest.skip("this machine is such a board")
    found = profiling.profile_model(residual_path, target, cache=cache)
    compiled = compile_model(residual_path, target, cache=cache / "compile")
    whole = _whole(compiled.directory / "model", target, found, cache)
    parts = [call.instructions or 0 for call in found.calls]

    assert min(parts) > 0
    assert 0 <= whole - sum(parts) <= REST
    assert 1 == pytest.approx(sum(call.share or 0 for call in found.calls))
    assert {None} == {call.median_ns for call in found.calls} == {call.gmacs_per_s for call in found.calls}
    assert found.time_reason
    assert all(call.instructions_per_mac == (call.instructions or 0) / call.call.macs for call in found.calls if call.call.macs)
    assert max(found.calls, key=lambda call: call.instructions or 0).call.macs == 16 * 16 * 16 * 16 * 9


def _whole(executable: Path, target: Target, found: KernelProfile, cache: Path) -> int:
    assert target.emulator is not None
    work = cache / f"{found.target.replace('/', '-')}-work"
    work.mkdir()
    (work / "in.bin").write_bytes(b"\0" * (4 * 3 * 16 * 16))
    program = Program(executable, target, work)
    counted = count(program, "in.bin", target.emulator, cache / "plugin", log_limit_s=60)
    calls = count_calls(program, "in.bin", len(found.calls), target.emulator, cache / "plugin")
    assert counted.per_inference is not None
    assert calls.of_calls == tuple(call.instructions for call in found.calls)  # no kernel here depends on the values
    return counted.per_inference


def test_log_and_plugin_agree_on_every_call(residual_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that loads no plugins gives the same numbers."""
    target = ready("arm/aarch64-linux")
    if not target.emulated or target.emulator is None:
        pytest.skip("this machine is such a board")
    try:
        build_plugin(target.emulator, cache / "plugin")
    except NoPluginError as error:
        pytest.skip(str(error))
    by_plugin = profiling.profile_model(residual_path, target, cache=cache)

    def refuse(*_: object) -> Path:
        raise NoPluginError("there is no compiler")

    monkeypatch.setattr("vlab.measuring.counting.build_plugin", refuse)
    by_log = profiling.profile_model(residual_path, target, cache=cache)

    assert "execution log, because there is no compiler" == by_log.instructions_reason
    assert [call.instructions for call in by_plugin.calls] == [call.instructions for call in by_log.calls]


def test_native_times_add_up_and_name_the_layers(residual_path: Path, cache: Path) -> None:
    """On hardware every call has a time, work gives GMAC/s, and instructions are there or the reason why not."""
    target = ready("host/x86_64")
    found = profiling.profile_model(residual_path, target, cache=cache)

    assert not found.emulated
    assert found.repetitions >= 10
    assert 1 == pytest.approx(sum(call.share or 0 for call in found.calls))
    for call in found.calls:
        assert call.median_ns is not None
        assert call.min_ns is not None
        assert call.min_ns <= call.median_ns
        assert (call.instructions is None) == (found.instructions_reason != "perf_event_open")
        if call.call.macs and call.median_ns:
            assert call.gmacs_per_s == pytest.approx(call.call.macs / call.median_ns)
    heavy = [call for call in found.calls if call.call.macs >= 16 * 16 * 16 * 16 * 9]
    assert sum(call.share or 0 for call in heavy) > 0.5


def test_the_command_prints_a_table_and_the_record(tmp_path: Path) -> None:
    """`vlab profile` fits into 80 columns, largest share first; `--json` gives the whole record."""
    ready("riscv/rv64gc-linux")
    environment = {**os.environ, "VLAB_HOME": str(tmp_path), "COLUMNS": "80"}
    arguments = ["profile", DIGITS, "-t", "riscv/rv64gc-linux", "-d", DIGITS_TEST]
    shown, record = (
        subprocess.run(
            [sys.executable, "-m", "vlab", *arguments, *more], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for more in ([], ["--json"])
    )
    found = KernelProfile.from_json(json.dumps(json.loads(record)).encode())

    assert max(map(len, shown.splitlines())) <= 80
    shares = [float(line.split()[1]) for line in shown.splitlines() if "%" in line]
    assert sorted(shares, reverse=True) == shares
    assert len(found.calls) == len(shares)
    assert {"Conv", "Gemm"} <= _operators(found)


def _operators(found: KernelProfile) -> set[str]:
    """Operators of the nodes that kernels with multiply-accumulates name."""
    nodes = {node.name or node.output[0]: node.op_type for node in onnx.load(DIGITS).graph.node}
    return {nodes[name] for call in found.calls if call.call.macs for name in call.call.nodes}
