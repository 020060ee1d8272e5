"""Everything besides model, target and options that the bytes of an artifact, or what is recorded of its check, depend on."""

import importlib.metadata
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vlab import processes, settings
from vlab.compiling import installed
from vlab.errors import CompileError, MissingToolError
from vlab.records import Record, Sha256, digest_file
from vlab.targets import Target

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "onnx", "tflite", "numpy")
THREADS = "threads.c"
"""Of a Linux board's program, where it has more than one."""
LINKER_SCRIPT = "firmware.ld"
HEADER = "aot.h"
"""What the C of a model includes."""
_SHARED = ("datasets", "numerics", "records", "reference", "targets")
"""Modules and packages of vlab that decide on which inputs, against what and how closely an artifact is checked, how a target
is read and what a manifest looks like."""


class Sources(Record):
    """The part of a toolchain that is known before anything is compiled: a part of the cache's key."""

    packages: dict[str, str]
    cc: str
    tools_sha256: Sha256
    libc_sha256: Sha256
    emulator_sha256: Sha256 | None
    compiling_sha256: Sha256


@dataclass(frozen=True)
class Harness:
    """The C program that the kernels are linked into."""

    directory: Path
    sources: tuple[str, ...]
    """Files to compile."""
    others: tuple[str, ...]
    """Headers, linker script, and what only some programs need."""

    @classmethod
    def of(cls, target: Target) -> "Harness":
        """The harness for Linux boards, or for microcontrollers of the target's family.

        Raises:
            CompileError: a file is not there.
        """
        directory = settings.data_dir("targets") / "harness"
        if target.firmware is None:
            sources, others = ("linux.c", "profile.c"), ("linux.h", THREADS)
        else:
            sources, others = ("firmware.c", f"{target.firmware.family}.c"), ("board.h", LINKER_SCRIPT)
        harness = cls(directory, ("commands.c", *sources), (HEADER, "commands.h", *others))
        for path in harness.files:
            if not path.is_file():
                raise CompileError(f"{path} is missing, and without the harness nothing can be linked; install vlab again")
        return harness

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of it."""
        return tuple(self.directory / name for name in (*self.sources, *self.others))


def sources(target: Target, harness: Harness) -> Sources:
    """The toolchain on this machine.

    Raises:
        MissingToolError: a package, the C compiler or the emulator is not installed; names the command that installs it.
    """
    cc = target.compiler.find()
    return Sources(
        packages=_packages(),
        cc=_first_line(cc),
        tools_sha256=installed.tools_sha256(target.compiler, [harness.directory / name for name in harness.sources]),
        libc_sha256=installed.linked_sha256(target.compiler, start_files=target.firmware is None),
        emulator_sha256=installed.emulator_sha256(target),
        compiling_sha256=_compiling_sha256(harness),
    )


def _packages() -> dict[str, str]:
    try:
        return {name: importlib.metadata.version(name) for name in _PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingToolError(
            f"{error.name} is not installed; install what compiling needs with: pip install 'vlab[compile]'"
        ) from error


def _first_line(cc: str) -> str:
    done = processes.run_limited([cc, "--version"], timeout_s=30, env={"LC_ALL": "C"})
    return done.stdout.decode(errors="replace").partition("\n")[0].strip()


def _compiling_sha256(harness: Harness) -> str:
    """Digest over the compile stage's own sources, what of vlab it rests on, and the harness, by name and content."""
    package = Path(__file__).parents[1]
    shared = [path for name in _SHARED for path in [*package.glob(f"{name}.py"), *package.glob(f"{name}/*.py")]]
    digest = sha256()
    for path in [*sorted([*package.glob("compiling/**/*.py"), *shared]), *harness.files]:
        name = path.relative_to(package) if path.is_relative_to(package) else path.name
        digest.update(f"{digest_file(path)}  {name}\n".encode())
    return digest.hexdigest()
