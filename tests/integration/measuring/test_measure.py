"""The whole measurement of a toy, natively and emulated, and how misbehaving programs end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integration.measuring.conftest import QUICK, Toy, expected_outputs, ready, rows
from vlab import measuring, processes
from vlab.errors import MeasureError
from vlab.measuring import running
from vlab.measuring.running import Program
from vlab.records import Environment, Measurement, Quality

Build = Callable[..., Toy]


def run(toy: Toy, tmp_path: Path, *, count: int = 20, reference: bool = True) -> tuple[Measurement, Environment]:
    """Measure a toy with a quick plan."""
    table = rows(count)
    scores, sums = expected_outputs(table)
    return measuring.measure(
        toy.directory,
        toy.manifest,
        toy.target,
        QUICK,
        table,
        scores.argmax(axis=1),
        measuring.Reference("exact arithmetic", (scores, sums)) if reference else None,
        emulated=toy.target.emulated,
        work=tmp_path / "work",
        plugin_cache=tmp_path / "plugins",
    )


@pytest.mark.parametrize("target", ["riscv/rv64gc-linux", "riscv/rv64gcv-linux", "arm/aarch64-linux"])
def test_an_emulated_board_gives_exact_instructions(build: Build, tmp_path: Path, target: str) -> None:
    """Accuracy, numerics, memory and the exact instruction count come from one executable; nothing disturbs the verdict."""
    toy = build(target, "SPIN=1000")
    found, environment = run(toy, tmp_path)
    again, _ = run(toy, tmp_path)

    assert (Quality.valid, ()) == (found.quality, found.quality_reasons)
    assert (1.0, 20) == (found.accuracy, found.accuracy_inputs)
    assert found.numerics is not None
    assert 0.0 == found.numerics.max_abs_err
    assert found.instructions_per_inference is not None
    assert found.instructions_per_inference > 3000
    assert found.instructions_per_inference == again.instructions_per_inference
    assert found.instructions_reason.startswith(("plugin", "execution log"))
    assert found.outputs_sha256 == again.outputs_sha256
    assert found.ram_peak_bytes is not None
    assert 64 <= len(found.samples_ns) == found.latency.n
    assert environment.emulator.startswith("qemu-")


def test_hardware_has_no_instruction_count(build: Build, tmp_path: Path) -> None:
    """Natively the count is null and memory is the kernel's high-water mark; load may degrade the verdict, nothing more."""
    found, environment = run(build("host/x86_64", "SPIN=20000"), tmp_path)

    assert (None, "counted under emulators only") == (found.instructions_per_inference, found.instructions_reason)
    assert "VmHWM" == found.ram_peak_reason
    assert "" == environment.emulator
    assert found.quality is not Quality.invalid


@pytest.mark.parametrize(
    ("target", "emulated", "reason"),
    [
        ("host/x86_64", True, "declared as emulated, but this machine runs host/x86_64 natively"),
        ("riscv/rv64gc-linux", False, "declared as hardware, but this machine is no riscv/rv64gc-linux"),
    ],
)
def test_a_board_is_what_it_is_declared_to_be(
    build: Build, tmp_path: Path, target: str, *, emulated: bool, reason: str
) -> None:
    """Nothing is run where the figures would be recorded as something else."""
    toy = build(target)
    if emulated == toy.target.emulated:
        pytest.skip("needs an x86-64 machine")
    with pytest.raises(MeasureError, match=reason):
        measuring.measure(
            toy.directory,
            toy.manifest,
            toy.target,
            QUICK,
            rows(1),
            None,
            None,
            emulated=emulated,
            work=tmp_path / "work",
            plugin_cache=tmp_path / "plugins",
        )
    assert not (tmp_path / "work").exists()


def test_passes_are_announced_in_order(build: Build, tmp_path: Path) -> None:
    """Progress rises from 0 to 1 and names the pass that begins."""
    toy = build("riscv/rv64gc-linux")
    seen: list[tuple[str, float]] = []
    measuring.measure(
        toy.directory,
        toy.manifest,
        toy.target,
        QUICK,
        rows(1),
        None,
        None,
        emulated=toy.target.emulated,
        work=tmp_path / "work",
        plugin_cache=tmp_path / "plugins",
        progress=lambda name, share: seen.append((name, share)),
    )

    assert [("infer", 0.0), ("time", 0.25), ("memory", 0.5), ("count", 0.75), ("done", 1.0)] == seen


def test_wrong_outputs_are_invalid(build: Build, tmp_path: Path) -> None:
    """Outputs away from the reference, and outputs that change from run to run, invalidate whatever was timed."""
    toy = build("host/x86_64", "CHANGING")
    found, _ = run(toy, tmp_path)

    assert Quality.invalid is found.quality
    assert "numerics_failed" in found.quality_reasons
    assert found.numerics is not None
    assert found.numerics.max_abs_err > found.numerics.tolerance


def test_uneven_instructions_are_invalid(build: Build, tmp_path: Path) -> None:
    """A program whose inferences take different numbers of instructions has no number of instructions."""
    found, _ = run(build("riscv/rv64gc-linux", "UNEVEN"), tmp_path)

    assert found.instructions_per_inference is None
    assert (Quality.invalid, ("instructions_changed",)) == (found.quality, found.quality_reasons)


def test_an_illegal_instruction_says_what_the_cpu_lacks(build: Build, tmp_path: Path) -> None:
    """A program that stops at an instruction the CPU does not know names the instruction set of its target."""
    with pytest.raises(MeasureError, match=r"lacks an instruction set the target needs.*x86-64-v3"):
        run(build("host/x86_64", "ILLEGAL"), tmp_path)


def test_vector_code_on_a_cpu_without_vectors_is_told(tmp_path: Path) -> None:
    """The same under an emulator, with RISC-V vector code on a CPU that has no vector unit."""
    scalar = ready("riscv/rv64gc-linux")
    (tmp_path / "v.c").write_text(
        'int main(void) { __asm__ volatile(".word 0x0c0072d7 # vsetvli t0, zero, e8, m1" ::: "t0"); }'
    )
    processes.run_limited([scalar.compiler.find(), "-static", "-o", "model", "v.c"], timeout_s=60, cwd=tmp_path)
    with pytest.raises(MeasureError, match=r"lacks an instruction set the target needs.*rv64gc"):
        Program(tmp_path / "model", scalar, tmp_path).infer("in.bin", "out.bin")


def test_a_failing_kernel_is_named(build: Build, tmp_path: Path) -> None:
    """The program's last words reach the error."""
    toy = build()
    evil = rows(3)
    evil["a"][2, 0] = 666
    with pytest.raises(MeasureError, match="kernel call 7 failed"):
        measuring.measure(
            toy.directory,
            toy.manifest,
            toy.target,
            QUICK,
            evil,
            None,
            None,
            emulated=toy.target.emulated,
            work=tmp_path / "w",
            plugin_cache=tmp_path / "p",
        )


def test_a_hanging_program_is_stopped(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that never ends is killed at its limit."""
    toy = build("host/x86_64", "HANGING")
    monkeypatch.setattr(running, "PASS_LIMIT_S", 0.5)
    with pytest.raises(MeasureError, match=r"limit of 0\.5 s"):
        run(toy, tmp_path)


def test_a_program_for_another_machine_is_refused(build: Build, tmp_path: Path) -> None:
    """Bytes that are no executable give a clear error, not a traceback."""
    toy = build()
    toy.executable.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(MeasureError, match="cannot be started"):
        run(toy, tmp_path)


def test_labels_of_another_model_count_as_wrong(build: Build, tmp_path: Path) -> None:
    """Accuracy is the plain share of right classes; a label no score stands for is never right."""
    toy = build()
    table = rows(4)
    found, _ = measuring.measure(
        toy.directory,
        toy.manifest,
        toy.target,
        QUICK,
        table,
        np.full(4, 99),
        None,
        emulated=toy.target.emulated,
        work=tmp_path / "w",
        plugin_cache=tmp_path / "p",
    )

    assert 0.0 == found.accuracy
    assert found.numerics is None
