"""What of this machine is in the key of the compile cache: by content, and noticed when it is replaced."""

import shutil
from pathlib import Path

import pytest

from vlab import processes, targets
from vlab.compiling import toolchain
from vlab.compiling.toolchain import Harness, Sources
from vlab.targets import Target


def own(target: Target, folder: Path) -> Target:
    """The target with a compiler that takes its programs and libraries from a folder, where there are copies of them."""
    compiler = target.compiler
    flags = (*compiler.flags, f"-B{folder}/", f"-L{folder}")
    return target.model_copy(update={"compiler": compiler.model_copy(update={"flags": flags})})


def sources(target: Target) -> Sources:
    """The part of the key that is of this machine."""
    return toolchain.sources(target, Harness.of(target))


@pytest.mark.parametrize("program", ["as", "ld"])
def test_a_replaced_tool_changes_the_key(tmp_path: Path, program: str):
    """Assembler and linker count by their bytes, also within a process that has asked before."""
    target = own(targets.load("host/x86_64"), tmp_path)
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program}; install it with: apt-get install binutils")
    copy = Path(shutil.copy(found, tmp_path / program))

    before = sources(target)
    assert sources(target) == before
    with copy.open("ab") as stream:
        stream.write(b"mended")

    assert sources(target) == before.model_copy(update={"tools_sha256": sources(target).tools_sha256})
    assert sources(target).tools_sha256 != before.tools_sha256


@pytest.mark.parametrize("name", ["crt1.o", "crtbeginT.o", "libgcc.a", "libc.a"])
def test_a_replaced_library_or_start_file_changes_the_key(tmp_path: Path, name: str):
    """What is linked into every executable counts by its bytes."""
    target = own(targets.load("host/x86_64"), tmp_path)
    argv = [target.compiler.find(), f"-print-file-name={name}"]
    original = Path(processes.run_limited(argv, timeout_s=30).stdout.decode().strip())
    copy = Path(shutil.copy(original, tmp_path / name))

    before = sources(target)
    with copy.open("ab") as stream:
        stream.write(b"\n")

    assert sources(target) == before.model_copy(update={"libc_sha256": sources(target).libc_sha256})
    assert sources(target).libc_sha256 != before.libc_sha256


def test_a_replaced_emulator_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The figures of the check are what the emulator computed; a target that runs by itself has none."""
    target = targets.load("riscv/rv64gc-linux")
    copy = Path(shutil.copy(target.emulator.find() if target.emulator else "", tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    before = sources(target)
    with copy.open("ab") as stream:
        stream.write(b"mended")

    assert sources(target) == before.model_copy(update={"emulator_sha256": sources(target).emulator_sha256})
    assert sources(target).emulator_sha256 != before.emulator_sha256
    assert sources(targets.load("host/x86_64")).emulator_sha256 is None
