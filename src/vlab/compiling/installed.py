"""What of this machine an artifact's bytes or its check depend on, by content: the compiler, what it links in, the emulator.

A version says little: distributions mend a library or an assembler and keep its name. So files are hashed, each once for as
long as it is the same file of the same time and size; a process that lives long notices when one is replaced.
"""

import os
import re
import shutil
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from vlab import processes
from vlab.errors import MissingToolError
from vlab.records import Sha256, digest_file
from vlab.targets import Compiler, Target

_PROGRAMS = ("cc1", "as", "collect2", "ld")
"""That GCC's driver runs; Clang does without the first."""
_LIMIT_S = 30.0


def tools_sha256(compiler: Compiler, sources: Iterable[Path]) -> Sha256:
    """Digest of what turns C and objects into an executable: driver, compiler proper, assembler, linker, headers.

    Args:
        compiler: of the target.
        sources: C files, for the headers that they include.

    Raises:
        MissingToolError: the compiler is not installed; names the command that installs it.
    """
    cc = compiler.find()
    state = _state([Path(cc)])
    programs = _programs(cc, compiler.flags, state)
    headers = _headers(cc, compiler.flags, tuple(map(str, sources)), state)
    return _digest([*programs, *_libraries(programs, _state(programs)), *headers])


def linked_sha256(compiler: Compiler, start_files: bool) -> Sha256:
    """Digest of the libraries and start files that are linked in, as the linker names them.

    Args:
        compiler: of the target.
        start_files: whether the C library starts the program, rather than the harness.

    Raises:
        MissingToolError: there is no compiler or no static C library; names the command that installs it.
    """
    cc = compiler.find()
    opened = _opened(cc, compiler.flags, start_files, _state([Path(cc)]))
    if not any(path.suffix == ".a" for path in opened):
        raise MissingToolError(f"{cc} has no static C library; install it with: {compiler.install_command}")
    return _digest(opened)


def emulator_sha256(target: Target) -> Sha256 | None:
    """Digest of the emulator that the target's executables are checked in; None where they run by themselves.

    Raises:
        MissingToolError: it is not installed; names the command that installs it.
    """
    return _digest([Path(target.emulator.find())]) if target.emulated and target.emulator else None


State = tuple[tuple[str, int, int], ...]
"""Path, time and size of files: what is remembered of them holds as long as these do."""


def _state(paths: Iterable[Path]) -> State:
    found = ((path, path.stat()) for path in paths)
    return tuple((str(path), status.st_mtime_ns, status.st_size) for path, status in found)


@cache
def _content(path: str, _mtime_ns: int, _size: int) -> Sha256:
    return digest_file(Path(path))


def _digest(paths: Iterable[Path]) -> Sha256:
    """Of the contents and not of the places, in this order."""
    return sha256("".join(_content(*one) for one in _state(paths)).encode()).hexdigest()


@cache
def _programs(cc: str, flags: tuple[str, ...], _known: State) -> tuple[Path, ...]:
    """The driver, what it runs, and the files that tell it how."""
    asked = [f"-print-prog-name={name}" for name in _PROGRAMS]
    specs = [f"-print-file-name={flag.partition('=')[2]}" for flag in flags if flag.startswith(("--specs=", "-specs="))]
    said = (_ask([cc, *flags, question]).strip() for question in [*asked, *specs])
    found = (shutil.which(word) or word for word in [cc, *said])
    return tuple(path for path in map(Path, found) if path.is_absolute() and path.is_file())


@cache
def _libraries(programs: tuple[Path, ...], _known: State) -> tuple[Path, ...]:
    """Shared libraries of programs: much of an assembler is in one."""
    said = _ask(["ldd", *map(str, programs)])
    return tuple(Path(path) for path in dict.fromkeys(re.findall(r"=> (/\S+) \(", said)))


@cache
def _headers(cc: str, flags: tuple[str, ...], sources: tuple[str, ...], _known: State) -> tuple[Path, ...]:
    rule = _ask([cc, *flags, "-M", "-MG", *sources]).replace("\\\n", " ")
    words = (word.replace("\\ ", " ") for word in re.split(r"(?<!\\)\s+", rule))
    return tuple(path for path in map(Path, dict.fromkeys(words)) if path.is_absolute() and path.is_file())


@cache
def _opened(cc: str, flags: tuple[str, ...], start_files: bool, _known: State) -> tuple[Path, ...]:
    """What the linker opens for an empty program."""
    program = ["-Wl,--defsym=main=0"] if start_files else ["-nostartfiles"]
    with TemporaryDirectory() as scratch:
        ask = [cc, *flags, *program, "-x", "c", os.devnull, "-lm", "-o", os.devnull, "-Wl,--verbose"]
        said = _ask(ask, TMPDIR=scratch)
        paths = re.findall(r"^attempt to open (/.+) succeeded$", said, re.MULTILINE)
        return tuple(Path(path) for path in dict.fromkeys(paths) if not Path(path).is_relative_to(scratch))


def _ask(argv: list[str], **environment: str) -> str:
    """What a program prints, or nothing where there is no such program."""
    try:
        done = processes.run_limited(argv, timeout_s=_LIMIT_S, env={"LC_ALL": "C", **environment})
    except MissingToolError:
        return ""
    return done.stdout.decode(errors="replace")
