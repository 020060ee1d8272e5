"""The program around a compiled model, natively and under every emulator of the targets."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.integration.measuring.conftest import Toy, expected_outputs, rows

TARGETS = ["host/x86_64", "riscv/rv64gc-linux", "riscv/rv64gcv-linux", "arm/aarch64-linux"]
LIMITS = ("10", "1000000", "1000000000", "64", "5000000", "5000000000", "1000")

Build = Callable[..., Toy]


@pytest.mark.parametrize("target", TARGETS)
def test_infer_writes_every_output_of_every_sample(build: Build, target: str) -> None:
    """Outputs stand in the file sample after sample, each with all its tensors."""
    toy = build(target)
    table = rows(5)
    (toy.directory / "in.bin").write_bytes(table.tobytes())
    done = toy.run("infer", "in.bin", "out.bin")

    assert 0 == done.returncode, done.stderr
    scores, sums = expected_outputs(table)
    expected = b"".join(one.tobytes() + other.tobytes() for one, other in zip(scores, sums, strict=True))
    assert expected == (toy.directory / "out.bin").read_bytes()


@pytest.mark.parametrize("target", TARGETS)
def test_time_writes_samples_and_one_line(build: Build, target: str) -> None:
    """Samples are raw uint64 nanoseconds, as many as the limits allow; the line says how they came about."""
    toy = build(target, "SPIN=2000")
    (toy.directory / "in.bin").write_bytes(rows(3).tobytes())
    done = toy.run("time", "in.bin", "samples.bin", *LIMITS)

    assert 0 == done.returncode, done.stderr
    said = json.loads(done.stdout)
    samples = np.fromfile(toy.directory / "samples.bin", dtype="<u8")
    assert 64 <= len(samples) <= 1000
    assert said["inferences"] == len(samples) * said["stride"]
    assert samples.sum() <= said["duration_ns"]
    assert said["warmup"]["count"] >= 10
    assert said["warmup"]["duration_ns"] >= 1_000_000
    assert 1 == done.stdout.count(b"\n")


def test_time_ends_at_its_longest_duration(build: Build) -> None:
    """A slow model gets fewer samples than wanted instead of running on."""
    toy = build("host/x86_64", "SPIN=2000000")
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    done = toy.run("time", "in.bin", "samples.bin", "1", "0", "1", "100000", "0", "50000000", "100000")

    assert 0 == done.returncode, done.stderr
    said = json.loads(done.stdout)
    assert said["duration_ns"] >= 50_000_000
    assert 0 < len(np.fromfile(toy.directory / "samples.bin", dtype="<u8")) < 1000
    assert not said["warmup"]["stable"]


def test_a_quick_model_is_timed_every_kth_time(build: Build) -> None:
    """Where more inferences fit than samples are allowed, the stride keeps the duration and bounds the number."""
    toy = build()
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    done = toy.run("time", "in.bin", "samples.bin", "10", "1000000", "1000000000", "64", "50000000", "5000000000", "500")

    said = json.loads(done.stdout)
    assert said["stride"] > 1
    assert 64 <= len(np.fromfile(toy.directory / "samples.bin", dtype="<u8")) <= 500


@pytest.mark.parametrize("target", TARGETS)
def test_memory_grows_by_what_the_model_touches(build: Build, target: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """20 MiB more touched are 20 MiB more measured, on hardware and under an emulator, whose own memory is not counted."""
    small = build(target)
    (small.directory / "in.bin").write_bytes(rows(2).tobytes())
    before = json.loads(small.run("memory", "in.bin").stdout)
    small.directory.rename(tmp_path_factory.mktemp("small") / "artifact")
    large = build(target, "TOUCH_MIB=20")
    (large.directory / "in.bin").write_bytes(rows(2).tobytes())
    after = json.loads(large.run("memory", "in.bin").stdout)

    assert before["peak_bytes"] < 2 << 20
    if "[always]" in _huge_pages():
        pytest.skip("this host gives huge pages to everyone, which the measuring stage switches off and this test does not")
    assert abs(after["peak_bytes"] - before["peak_bytes"] - (20 << 20)) < 256 << 10
    assert before["source"] == ("guest pages" if large.target.emulated else "VmHWM")


def test_count_prints_nothing(build: Build) -> None:
    """Counting runs are silent: printed numbers would change the count."""
    toy = build()
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    done = toy.run("count", "in.bin", "3")

    assert (0, b"", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], r"expected one of: infer"),
        (["infer", "in.bin"], r"expected one of: infer"),
        (["dance", "in.bin", "x"], r"expected one of: infer"),
        (["infer", "none.bin", "out.bin"], r"cannot read none\.bin: No such file"),
        (["infer", "torn.bin", "out.bin"], r"torn\.bin has 25 bytes, expected a multiple of 24"),
        (["infer", "empty.bin", "out.bin"], r"empty\.bin has 0 bytes"),
        (["infer", "in.bin", "no/such/out.bin"], r"cannot write no/such/out\.bin"),
        (["infer", "in.bin", "/dev/full"], r"cannot write /dev/full: No space"),
        (["infer", "evil.bin", "out.bin"], r"kernel call 7 failed"),
        (["count", "in.bin", "3x"], r"N is 3x, expected a whole number"),
        (["count", "in.bin", "-1"], r"N is -1, expected a whole number"),
        (["count", "in.bin", "99999999999999999999"], r"expected a whole number"),
        (["time", "in.bin", "s.bin", "1", "1", "1", "9", "1", "1", "3"], r"MAX_COUNT is below MIN_COUNT"),
    ],
)
def test_errors_are_one_line_and_status_2(build: Build, args: list[str], said: str) -> None:
    """Whatever is wrong, the program says so in one line and ends with status 2."""
    toy = build()
    evil = rows(1)
    evil["a"][0, 0] = 666
    contents = {"in.bin": rows(1).tobytes(), "torn.bin": b"x" * 25, "empty.bin": b"", "evil.bin": evil.tobytes()}
    for name, content in contents.items():
        (toy.directory / name).write_bytes(content)
    done = toy.run(*args)

    assert 2 == done.returncode
    assert 1 == done.stderr.count("\n")
    assert re.search(said, done.stderr)


def _huge_pages() -> str:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.read_text(encoding="ascii") if setting.is_file() else ""
