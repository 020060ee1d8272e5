"""Exact instructions per inference: from a plugin that counts inside QEMU, or else from QEMU's execution log."""

import itertools
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vlab import processes, settings
from vlab.errors import MeasureError
from vlab.measuring import execution_log
from vlab.measuring.running import PASS_LIMIT_S, PassLimitError, Program
from vlab.targets import Emulator

SOURCE = Path("plugin") / "insn.c"
"""Under the folder of the targets; only in a checkout, because its licence is not that of the package."""
SCOREBOARD_SINCE = 9
"""First major version of QEMU whose plugins keep a scoreboard; before it they add to a plain variable."""

UNCOUNTED = "instructions_uncounted"
"""Counting took too long, or the emulator's log is unknown."""
CHANGED = "instructions_changed"
"""Inferences of the same sample took different numbers of instructions."""

_COUNT_FILE, _READINGS_FILE = "instructions.txt", "readings.bin"
_BUILD_LIMIT_S = 60.0
_MOMENT_S = 0.01

_log = logging.getLogger(__name__)


class NoPluginError(MeasureError):
    """There is no plugin for this emulator here; the message is the reason, as it stands in the result."""


@dataclass(frozen=True)
class Counted:
    """Instructions of one inference, or why there is no such number."""

    per_inference: int | None
    how: str
    """How they were counted, or why they were not."""
    trouble: str = ""
    """Reason for the verdict; empty with a number."""


def uncountable(threads: int) -> str:
    """Why instructions of a program with so many threads are not counted."""
    return f"{threads} threads execute no fixed number of instructions, for those that wait spin"


def count(program: Program, inputs: str, emulator: Emulator, cache: Path, *, log_limit_s: float) -> Counted:
    """Guest instructions of one inference of the first sample, start-up excluded.

    Runs 1, 2 and 3 inferences: both differences must be equal, and are the result. Both ways give the same number; the log
    is the slower one, at about a microsecond for each executed block.

    Args:
        program: the artifact's program on an emulated board.
        inputs: file with at least one sample, in the program's directory.
        emulator: the target's.
        cache: directory for built plugins.
        log_limit_s: seconds that counting by the log may take; then there is no number.

    Raises:
        MeasureError: the program failed, or the plugin could not be loaded.
    """
    try:
        plugin = build_plugin(emulator, cache)
    except NoPluginError as error:
        how = f"execution log, because {error}"
        return _difference(how, log_limit_s, lambda inferences, left_s: _by_log(program, inputs, inferences, left_s))
    return _difference(
        "plugin", PASS_LIMIT_S, lambda inferences, left_s: _by_plugin(program, inputs, inferences, left_s, plugin)
    )


@dataclass(frozen=True)
class CountedCalls:
    """Instructions of every kernel call, or why there are no such numbers."""

    of_calls: tuple[int, ...] | None
    how: str
    """How they were counted, or why they were not."""


def count_calls(program: Program, inputs: str, calls: int, emulator: Emulator, cache: Path) -> CountedCalls:
    """Guest instructions of every kernel call in one inference of the first sample.

    What marking itself takes is taken off; what remains beside the kernel is the call with its arguments.

    Args:
        program: the artifact's program on an emulated board.
        inputs: file with at least one sample, in the program's directory.
        calls: kernel calls of an inference.
        emulator: the target's.
        cache: directory for built plugins.

    Raises:
        MeasureError: the program failed, or the plugin could not be loaded.
    """
    mark = program.profile(inputs, _READINGS_FILE, 0, "ns").mark
    try:
        plugin = build_plugin(emulator, cache)
    except NoPluginError as error:
        how = f"execution log, because {error}"
        log = execution_log.ExecutionLog(mark)
        program.mark(inputs, _READINGS_FILE, execution_log.OPTIONS, PASS_LIMIT_S, consume=log.feed)
        log.total()
        marks = log.marks
    else:
        how = "plugin"
        (program.work / _COUNT_FILE).unlink(missing_ok=True)
        program.mark(inputs, _READINGS_FILE, _plugin_options(plugin, mark=mark), PASS_LIMIT_S)
        marks = _counts(program, plugin)[:-1]
    if len(marks) != calls + 2:
        return CountedCalls(None, f"{how}; saw {len(marks)} marks, expected {calls + 2}")
    empty, *between = (after - before for before, after in itertools.pairwise(marks))
    return CountedCalls(tuple(count - empty for count in between), how)


def build_plugin(emulator: Emulator, cache: Path) -> Path:
    """The plugin for this emulator, out of the cache or compiled into it.

    Args:
        emulator: a QEMU user-mode emulator.
        cache: directory for built plugins, made where it is missing; a plugin is named by source and plugin interface.

    Raises:
        NoPluginError: the emulator loads none, or source or compiler are missing or do not work.
        MissingToolError: the emulator is not installed.
        MeasureError: the version of QEMU is not told.
    """
    if "-plugin" not in _answer(emulator, "--help"):
        raise NoPluginError(f"this {emulator.program} loads no plugins")
    source = settings.data_dir("targets") / SOURCE
    if not source.is_file():
        raise NoPluginError(f"the plugin's source targets/{SOURCE} is not installed; it comes with the project's checkout")
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
        raise NoPluginError("there is no C compiler to build the plugin; install it with: apt-get install gcc libc6-dev")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        fresh = Path(scratch) / "insn.so"
        flags = ["-O2", "-fPIC", "-shared", "-fvisibility=hidden", f"-DQEMU_PLUGIN_API={api}"]
        done = processes.run_limited([compiler, *flags, "-o", fresh, source], timeout_s=_BUILD_LIMIT_S)
        if done.returncode:
            _log.warning("%s could not build the counting plugin: %s", compiler, done.last_words)
            raise NoPluginError("the C compiler could not build the plugin; try: apt-get install gcc libc6-dev")
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


def _difference(how: str, limit_s: float, executed: Callable[[int, float], int]) -> Counted:
    """What one inference adds, from `executed(inferences, seconds left)`."""
    deadline = time.monotonic() + limit_s
    try:
        one, two, three = (executed(inferences, max(_MOMENT_S, deadline - time.monotonic())) for inferences in (1, 2, 3))
    except PassLimitError:
        return Counted(None, f"{how}; not done within {limit_s:g} s", UNCOUNTED)
    except execution_log.UnreadableLogError as error:
        return Counted(None, f"{how}; {error}", UNCOUNTED)
    if two - one != three - two:
        return Counted(None, f"{how}; {two - one} and {three - two} for the same sample", CHANGED)
    return Counted(two - one, how)


def _by_plugin(program: Program, inputs: str, inferences: int, timeout_s: float, plugin: Path) -> int:
    (program.work / _COUNT_FILE).unlink(missing_ok=True)
    program.count(inputs, inferences, _plugin_options(plugin), timeout_s)
    return _counts(program, plugin)[-1]


def _plugin_options(plugin: Path, **arguments: int) -> list[str]:
    escaped = str(plugin).replace(",", ",,")  # a comma would start the plugin's own arguments
    given = "".join(f",{name}={value}" for name, value in arguments.items())
    return ["-plugin", f"file={escaped},out={_COUNT_FILE}{given}"]


def _counts(program: Program, plugin: Path) -> list[int]:
    """What the plugin wrote: the count at each mark and at the end."""
    try:
        return [int(line) for line in (program.work / _COUNT_FILE).read_text().split()]
    except (OSError, ValueError) as error:
        raise MeasureError(f"the counting plugin wrote no number ({error}); is {plugin} built for this emulator?") from error


def _by_log(program: Program, inputs: str, inferences: int, timeout_s: float) -> int:
    log = execution_log.ExecutionLog()
    program.count(inputs, inferences, execution_log.OPTIONS, timeout_s, consume=log.feed)
    return log.total()
