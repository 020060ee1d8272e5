"""Exact instructions per inference, from a plugin that counts inside QEMU."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vlab import processes, settings
from vlab.errors import MeasureError, MissingToolError
from vlab.measuring.running import Program
from vlab.targets import Emulator

SOURCE = Path("plugin") / "insn.c"
"""Under the folder of the targets."""
SCOREBOARD_SINCE = 9
"""First major version of QEMU whose plugins keep a scoreboard; before it they add to a plain variable."""

UNCOUNTED = "instructions_uncounted"
"""The emulator cannot load plugins."""
CHANGED = "instructions_changed"
"""Inferences of the same sample took different numbers of instructions."""

_COUNT_FILE = "instructions.txt"
_BUILD_LIMIT_S = 60.0


@dataclass(frozen=True)
class Counted:
    """Instructions of one inference, or why there is no such number."""

    per_inference: int | None
    trouble: str = ""
    """Reason for the verdict; empty with a number."""


def count(program: Program, inputs: str, emulator: Emulator, cache: Path) -> Counted:
    """Guest instructions of one inference of the first sample, start-up excluded.

    Runs 1, 2 and 3 inferences: both differences must be equal, and are the result. The static emulators that some
    distributions package cannot load plugins.

    Args:
        program: the artifact's program on an emulated board.
        inputs: file with at least one sample, in the program's directory.
        emulator: the target's.
        cache: directory for built plugins.

    Raises:
        MeasureError: the program failed, or the plugin could not be built or loaded.
        MissingToolError: no C compiler to build the plugin.
    """
    if "-plugin" not in _answer(emulator, "--help"):
        return Counted(None, UNCOUNTED)
    plugin = build_plugin(emulator, cache)
    one, two, three = (_count(program, inputs, inferences, plugin) for inferences in (1, 2, 3))
    return Counted(two - one) if two - one == three - two else Counted(None, CHANGED)


def build_plugin(emulator: Emulator, cache: Path) -> Path:
    """The plugin for this emulator, out of the cache or compiled into it.

    Args:
        emulator: a QEMU user-mode emulator.
        cache: directory for built plugins, made where it is missing; a plugin is named by source and plugin interface.

    Raises:
        MissingToolError: no C compiler.
        MeasureError: the version of QEMU is not told, or the compiler refused.
    """
    source = settings.data_dir("targets") / SOURCE
    version = emulator_version(emulator)
    found = re.search(r"version (\d+)\.", version)
    if not found:
        raise MeasureError(
            f"{emulator.program} says {version!r}, expected a version of QEMU; install it: {emulator.install_command}"
        )
    api = 2 if int(found[1]) >= SCOREBOARD_SINCE else 1
    plugin = cache / f"insn-{sha256(source.read_bytes()).hexdigest()[:16]}-api{api}.so"
    if plugin.is_file():
        return plugin
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise MissingToolError(
            "there is no C compiler to build the counting plugin; install it with: apt-get install gcc libc6-dev"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fresh = Path(scratch) / "insn.so"
        flags = ["-O2", "-fPIC", "-shared", "-fvisibility=hidden", f"-DQEMU_PLUGIN_API={api}"]
        done = processes.run_limited([compiler, *flags, "-o", fresh, source], timeout_s=_BUILD_LIMIT_S)
        if done.returncode:
            raise MeasureError(f"{compiler} could not build the counting plugin: {done.last_words}")
        fresh.replace(plugin)
    return plugin


def emulator_version(emulator: Emulator) -> str:
    """First line of the emulator's `--version`.

    Raises:
        MissingToolError: it is not installed.
        MeasureError: it does not start.
    """
    return _answer(emulator, "--version").partition("\n")[0]


def _answer(emulator: Emulator, option: str) -> str:
    done = processes.run_limited([emulator.find(), option], timeout_s=_BUILD_LIMIT_S)
    if done.returncode:
        raise MeasureError(f"{emulator.program} {option} failed: {done.last_words}; install it: {emulator.install_command}")
    return done.stdout.decode(errors="replace")


def _count(program: Program, inputs: str, inferences: int, plugin: Path) -> int:
    written = program.work / _COUNT_FILE
    written.unlink(missing_ok=True)
    escaped = str(plugin).replace(",", ",,")  # a comma would start the plugin's own arguments
    program.count(inputs, inferences, f"{escaped},out={_COUNT_FILE}")
    try:
        return int(written.read_text())
    except (OSError, ValueError) as error:
        raise MeasureError(f"the counting plugin wrote no number ({error}); is {plugin} built for this emulator?") from error
