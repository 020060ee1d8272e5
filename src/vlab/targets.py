"""Kinds of boards: one TOML file each under `targets/`, read into a `Target`.

Those that ship come with the project; more are taken from `VLAB_TARGETS`, a folder of the same form.

    >>> load("riscv/rv64gc-linux").isa
    'rv64gc'

The name is the path without its suffix, so that a file says nothing twice. `docs/targets.md` explains every key.
"""

import json
import os
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from vlab import settings
from vlab.errors import MissingToolError, TargetError
from vlab.records import Record, TargetName

Word = Annotated[str, StringConstraints(pattern=r"^\S+$")]
"""One word of a command line or of a compiler's option."""

Program = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
"""A program to be found on PATH; never a path."""

Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
"""Name of a Debian package."""


class Llvm(Record):
    """A code generation target, in the words of `tvm.target.Target`."""

    kind: Literal["llvm"] = "llvm"
    mtriple: Word
    mcpu: Word = Field(description="a CPU that LLVM knows by this name; `native` is not one")
    mabi: Word | None = None
    mfloat_abi: Literal["soft", "hard"] | None = None
    mattr: tuple[Annotated[str, StringConstraints(pattern=r"^[+-]\S+$")], ...] = ()

    def options(self) -> dict[str, Any]:
        """The dictionary that `tvm.target.Target` takes."""
        given = {key: value for key, value in self.model_dump(mode="json").items() if value}
        return {key.replace("mfloat_abi", "mfloat-abi"): value for key, value in given.items()}


class Tool(Record):
    """A program and how to get it."""

    program: Program
    packages: tuple[Package, ...] = Field(min_length=1, description="Debian packages that bring it")

    @property
    def install_command(self) -> str:
        """What to type to install it on Debian."""
        return f"apt-get install --no-install-recommends {' '.join(self.packages)}"

    def find(self) -> str:
        """Path of the program.

        Raises:
            MissingToolError: it is not on PATH; names the command that installs it.
        """
        path = shutil.which(self.program)
        if path is None:
            raise MissingToolError(f"{self.program} is not on this machine; install it with: {self.install_command}")
        return path


class Compiler(Tool):
    """The C compiler that links an artifact."""

    flags: tuple[Word, ...] = Field(description="for compiling and linking; must give a static executable")


class Emulator(Tool):
    """What runs an executable of this target on other machines."""

    args: tuple[Word, ...] = Field(default=(), description="before the executable; selects the CPU")


class Firmware(Record):
    """A microcontroller: where its memories are, how large, and its clock. `docs/targets.md` has an example of each family."""

    family: Literal["cortex-m", "riscv"] = Field(description="start, traps and timer: targets/harness/FAMILY.c")
    flash_origin: int = Field(ge=0, lt=2**64, description="first address of what is not lost without power")
    flash_bytes: int = Field(gt=0, lt=2**40)
    ram_origin: int = Field(ge=0, lt=2**64)
    ram_bytes: int = Field(gt=0, lt=2**40)
    stack_bytes: int = Field(ge=512, lt=2**32, multiple_of=16, description="part of the RAM")
    timer_hz: int = Field(ge=1000, le=10**10, description="SysTick on its processor clock, or mtime")
    timer_address: int | None = Field(default=None, ge=0, lt=2**64, description="of mtime on RISC-V; Cortex-M has one place")

    @model_validator(mode="after")
    def _timer_is_known(self) -> Self:
        if (self.timer_address is None) == (self.family == "riscv"):
            raise ValueError("timer_address is the address of mtime: expected for riscv, and for no other family")
        return self

    @model_validator(mode="after")
    def _memories_are_two(self) -> Self:
        if self.flash_origin < self.ram_origin + self.ram_bytes and self.ram_origin < self.flash_origin + self.flash_bytes:
            raise ValueError("flash and RAM overlap; expected two ranges of addresses with nothing in common")
        return self


class Target(Record):
    """A kind of board: one that runs Linux, or a microcontroller that runs nothing but the model."""

    name: TargetName
    description: str = Field(min_length=1)
    machine: Word | None = Field(default=None, description="what `uname -m` says on such a board; absent without Linux")
    firmware: Firmware | None = Field(default=None, description="the microcontroller; absent with Linux")
    isa: str = Field(min_length=1, description="instruction set that the kernels may use")
    cpu_features: tuple[Word, ...] = Field(
        default=(), description="names a board's /proc/cpuinfo must list, for features beyond those of every such machine"
    )
    lanes: int = Field(ge=1, le=64, description="float32 values in a vector the schedule works with; 1 without vectors")
    accumulators: int = Field(ge=1, le=64, description="vector registers the schedule keeps sums in")
    registers: int = Field(
        default=32, ge=4, le=64, description="vector registers there are; where several make one vector, such groups of them"
    )
    scalar_factors: bool = Field(
        default=False,
        description="whether vectors are multiplied by scalar registers, so that a factor needs none",
    )
    lower: Llvm = Field(description="target the kernels are lowered for")
    emit: Llvm | None = Field(default=None, description="target machine code is emitted for, where it differs")
    compiler: Compiler
    emulator: Emulator | None = Field(default=None, description="absent where the target only runs natively")

    @model_validator(mode="after")
    def _linux_or_not(self) -> Self:
        if (self.machine is None) == (self.firmware is None):
            raise ValueError("expected either machine, for a board with Linux, or [firmware], for a microcontroller")
        return self

    @property
    def native(self) -> bool:
        """Whether this machine is such a board: architecture and CPU features are there."""
        return sys.platform == "linux" and platform.machine() == self.machine and not self._missing_features()

    @property
    def emulated(self) -> bool:
        """Whether `command` goes through the emulator on this machine."""
        return self.emulator is not None and not self.native

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The programs this machine needs to compile for the target and to run what came out."""
        return (self.compiler, self.emulator) if self.emulated and self.emulator else (self.compiler,)

    def command(self, executable: Path, args: Sequence[str | Path], *, options: Sequence[str] = ()) -> list[str]:
        """What to run on this machine to run an executable of the target, natively or emulated.

        Args:
            executable: static executable for the target.
            args: its arguments.
            options: further options of the emulator, such as a plugin that counts instructions.

        Raises:
            TargetError: this machine is not such a board and there is no emulator; or options without emulator.
            MissingToolError: the emulator is not installed; names the command that installs it.
        """
        words = [str(executable), *map(str, args)]
        if self.firmware and self.emulator:
            return [self.emulator.find(), *self.emulator.args, *options, *_booting(words)]
        if self.native:
            if options:
                raise TargetError(
                    f"{self.name} runs natively on this machine, so there is no emulator to take {' '.join(options)}"
                )
            return words
        if self.emulator is None:
            raise TargetError(self._refusal())
        return [self.emulator.find(), *self.emulator.args, *options, *words]

    def _missing_features(self) -> list[str]:
        have = cpu_features()
        return [feature for feature in self.cpu_features if feature not in have]

    def _refusal(self) -> str:
        if self.machine is None:
            return f"{self.name} is a microcontroller without emulator, and nothing else can run it; add [emulator] to its file"
        if platform.machine() != self.machine or sys.platform != "linux":
            got = f"this machine is {platform.machine()} ({sys.platform})"
            return f"{self.name} runs only on {self.machine} Linux and {got}; choose another board or another target"
        missing = " ".join(self._missing_features())
        return f"{self.name} needs {self.isa}, and this machine's CPU lacks: {missing}; choose another board or target"


def _booting(words: Sequence[str]) -> list[str]:
    """Options of a QEMU system emulator that boots an image and hands it arguments by semihosting.

    Raises:
        TargetError: a word holds a blank, where the image would cut it in two.
    """
    for word in words[1:]:
        if re.search(r"\s", word):
            raise TargetError(f"{word!r} holds a blank, expected none in paths for a microcontroller; use another directory")
    given = ",".join(f"arg={word.replace(',', ',,')}" for word in ("model", *words[1:]))
    quiet = ("-display", "none", "-monitor", "none", "-serial", "null")
    return [*quiet, "-semihosting-config", f"enable=on,target=native,{given}", "-kernel", words[0]]


def load(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none (the message lists the known ones), or its file is wrong.
    """
    files = _files()
    if name not in files:
        raise TargetError(f"target {name!r} is unknown; expected one of: {', '.join(files) or '(none are installed)'}")
    return read(files[name])


def known() -> dict[str, Target]:
    """Every target, sorted by name.

    Raises:
        TargetError: a file is wrong; names file and key.
    """
    return {name: read(path) for name, path in _files().items()}


def read(path: Path) -> Target:
    """Read one target file; its place, `family/board.toml`, is its name.

    Raises:
        TargetError: not readable, not TOML, or a key is wrong; names file and key.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"{path}: {error}") from error
    if "name" in table:
        raise TargetError(f"{path}: name: got {table['name']!r}, expected no such key; the name is the path of the file")
    try:
        # As JSON, because strict validation then still takes an array for a tuple.
        text = json.dumps({"name": f"{path.parent.name}/{path.stem}", **table}, default=str)
        return Target.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        got = "" if first["type"] == "missing" else f" (got {first['input']!r})"
        raise TargetError(f"{path}: {where}: {first['msg']}{got}; docs/targets.md explains every key") from error


def _files() -> dict[str, Path]:
    """The file of every target, sorted by the target's name.

    Raises:
        TargetError: two files are one target.
    """
    files: dict[str, Path] = {}
    for folder in (settings.data_dir("targets"), settings.own_targets()):
        for path in folder.glob("*/*.toml"):
            name = f"{path.parent.name}/{path.stem}"
            if name in files:
                raise TargetError(f"{path} and {files[name]} are both target {name}; give your own file another name")
            files[name] = path
    return dict(sorted(files.items()))


def cpu_features() -> frozenset[str]:
    """Features of this machine's CPU as Linux names them; on RISC-V the letters and words of its ISA string."""
    path = Path("/proc/cpuinfo")
    if not os.access(path, os.R_OK):
        return frozenset()
    features: set[str] = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
        if key.strip() == "isa":
            letters, *words = re.sub(r"^rv\d+", "", value.strip()).split("_")
            features.update(letters, words)
            break
    return frozenset(features)
