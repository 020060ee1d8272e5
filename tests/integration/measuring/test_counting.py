"""Instructions counted by the plugin and by the execution log, on the same programs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.boards import ready
from tests.integration.measuring.conftest import QUICK, Toy, rows
from vlab import measuring, processes
from vlab.measuring import counting
from vlab.measuring.counting import NoPluginError, build_plugin, count
from vlab.measuring.execution_log import OPTIONS, ExecutionLog, UnreadableLogError
from vlab.measuring.running import Program
from vlab.records import Quality
from vlab.targets import Emulator, Target

EMULATED = ["riscv/rv64gc-linux", "riscv/rv64gcv-linux", "arm/aarch64-linux"]

Build = Callable[..., Toy]

# Rewrites its own code, across a page boundary, and then is interrupted by a timer again and again.
RESTLESS = r"""
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>
static volatile long alarms, sink;
static void ring(int number) { alarms += number == SIGALRM; }
int main(void) {
  char *code = mmap(0, 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 300; i++) {
    uint32_t *at = (uint32_t *)(code + 4096 - 4 * (i % 40)), *end = at + i % 60;
    for (uint32_t *word = at; word < end; word++) *word = ADD;
    *end++ = RETURN;
    __builtin___clear_cache((char *)at, (char *)end);
    for (int j = 0; j < 3; j++) sink += ((long (*)(long))at)(i);
  }
  struct itimerval often = {{0, 500}, {0, 500}};
  signal(SIGALRM, ring);
  setitimer(ITIMER_REAL, &often, 0);
  while (alarms < 50) sink++;
  return 0;
}
"""
WORDS = {  # add 1 to the first argument; return
    "riscv64": ["-DADD=0x00150513", "-DRETURN=0x00008067"],
    "aarch64": ["-DADD=0x91000400", "-DRETURN=0xd65f03c0"],
}
THREADS = r"""
#include <pthread.h>
static void *nothing(void *unused) { return unused; }
int main(void) {
  pthread_t thread;
  return pthread_create(&thread, 0, nothing, 0) || pthread_join(thread, 0);
}
"""


def plugin_for(target: Target, cache: Path) -> Path:
    """The built plugin, or a skip where the emulator loads none."""
    try:
        return build_plugin(emulator_of(target), cache)
    except NoPluginError as error:
        pytest.skip(f"{error}; a dynamically linked QEMU loads plugins, such as the qemu-user of Debian 12")


def emulator_of(target: Target) -> Emulator:
    """The emulator, or a skip on such a board itself."""
    if not target.emulated or target.emulator is None:
        pytest.skip("this machine is such a board")
    return target.emulator


def compile_for(target: Target, source: str, directory: Path, *options: str) -> Path:
    """A static program out of a C source."""
    (directory / "program.c").write_text(source)
    argv = [target.compiler.find(), "-O1", "-static", "-pthread", *options, "-o", "program", "program.c"]
    done = processes.run_limited(argv, timeout_s=60, cwd=directory)
    assert 0 == done.returncode, done.stderr
    return directory / "program"


@pytest.fixture
def hide_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Emulator], None]:
    """Makes an emulator look like a static build, which has no option for plugins."""

    def hide(emulator: Emulator) -> None:
        real = emulator.find()
        static = tmp_path / "static" / emulator.program
        static.parent.mkdir()
        static.write_text(f'#!/bin/sh\n[ "$1" = --help ] && {{ {real} --help | grep -v plugin; exit 0; }}\nexec {real} "$@"\n')
        static.chmod(0o755)
        monkeypatch.setenv("PATH", str(static.parent), prepend=os.pathsep)

    return hide


@pytest.mark.parametrize("name", EMULATED)
def test_log_and_plugin_give_the_same_number(
    build: Build, tmp_path: Path, hide_plugins: Callable[[Emulator], None], name: str
) -> None:
    """The number of instructions does not depend on the way it is counted, and the result says which way that was."""
    toy = build(name, "SPIN=1000")
    emulator = emulator_of(toy.target)
    plugin_for(toy.target, tmp_path)
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    program = Program(toy.executable, toy.target, toy.directory)
    by_plugin = count(program, "in.bin", emulator, tmp_path, log_limit_s=60)
    hide_plugins(emulator)
    by_log = count(program, "in.bin", emulator, tmp_path, log_limit_s=60)

    assert by_plugin.per_inference is not None
    assert by_plugin.per_inference > 3000
    assert by_plugin.per_inference == by_log.per_inference
    assert "plugin" == by_plugin.how
    assert f"execution log, because this {emulator.program} loads no plugins" == by_log.how
    assert ("", "") == (by_plugin.trouble, by_log.trouble)


@pytest.mark.parametrize("name", EMULATED)
def test_log_and_plugin_agree_on_one_run_of_a_restless_program(tmp_path: Path, name: str) -> None:
    """Counted both ways in one and the same run: nothing is lost when code is rewritten and when signals stop blocks."""
    target = ready(name)
    plugin = plugin_for(target, tmp_path)
    program = compile_for(target, RESTLESS, tmp_path, *WORDS[target.machine])
    log, pieces = ExecutionLog(), []

    def consume(piece: bytes) -> None:
        pieces.append(piece)
        log.feed(piece)

    argv = target.command(program, [], options=["-plugin", f"file={plugin},out=count.txt", *OPTIONS])
    done = processes.run_limited(argv, timeout_s=60, cwd=tmp_path, consume=consume)

    assert 0 == done.returncode, done.stderr
    assert b"\nStopped execution of TB chain before" in b"".join(pieces)
    assert int((tmp_path / "count.txt").read_text()) == log.total()


def test_threads_are_not_counted_by_the_log(tmp_path: Path) -> None:
    """With a second thread the order of the lines says nothing any more."""
    target = ready("riscv/rv64gc-linux")
    emulator_of(target)
    program = compile_for(target, THREADS, tmp_path)
    with pytest.raises(UnreadableLogError, match="Trace 1"):
        processes.run_limited(target.command(program, [], options=OPTIONS), timeout_s=60, consume=ExecutionLog().feed)


def test_a_static_emulator_measures_completely(build: Build, tmp_path: Path, hide_plugins: Callable[[Emulator], None]) -> None:
    """Without plugins the whole measurement is as valid as with them."""
    toy = build("riscv/rv64gc-linux", "SPIN=1000")
    hide_plugins(emulator_of(toy.target))
    found, _ = measuring.measure(
        toy.directory,
        toy.manifest,
        toy.target,
        QUICK,
        rows(3),
        None,
        None,
        emulated=toy.target.emulated,
        work=tmp_path / "w",
        plugin_cache=tmp_path / "p",
    )

    assert (Quality.valid, ()) == (found.quality, found.quality_reasons)
    assert found.instructions_per_inference is not None
    assert found.instructions_reason.startswith("execution log")
    assert not (tmp_path / "p").exists()


def test_counting_that_takes_too_long_is_given_up(
    build: Build, tmp_path: Path, hide_plugins: Callable[[Emulator], None]
) -> None:
    """A long inference leaves the count null within the limit, with the reason, and does not fail the measurement."""
    toy = build("riscv/rv64gc-linux", "SPIN=100000000")
    emulator = emulator_of(toy.target)
    hide_plugins(emulator)
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    counted = count(Program(toy.executable, toy.target, toy.directory), "in.bin", emulator, tmp_path, log_limit_s=0.5)

    assert counted.per_inference is None
    assert "instructions_uncounted" == counted.trouble
    assert counted.how.endswith("loads no plugins; not done within 0.5 s")


def test_the_plan_limits_the_log(build: Build, tmp_path: Path, hide_plugins: Callable[[Emulator], None]) -> None:
    """Counting may take as long as the plan lets timing take; then the verdict is degraded."""
    toy = build("riscv/rv64gc-linux", "SPIN=3000000")
    hide_plugins(emulator_of(toy.target))
    hasty = QUICK.model_copy(update={"warmup_max_ns": 200_000_000, "samples_min_count": 1, "samples_max_ns": 300_000_000})
    found, _ = measuring.measure(
        toy.directory,
        toy.manifest,
        toy.target,
        hasty,
        rows(1),
        None,
        None,
        emulated=toy.target.emulated,
        work=tmp_path / "w",
        plugin_cache=tmp_path / "p",
    )

    assert found.instructions_per_inference is None
    assert (Quality.degraded, ("instructions_uncounted",)) == (found.quality, found.quality_reasons)
    assert found.instructions_reason.endswith("not done within 0.5 s")


@pytest.mark.parametrize(
    ("source", "compiler", "reason"),
    [
        (Path("plugin") / "absent.c", "cc", "the plugin's source targets/plugin/absent.c is not installed"),
        (counting.SOURCE, "", "there is no C compiler to build the plugin"),
        (counting.SOURCE, "exit 1", "the C compiler could not build the plugin"),
    ],
)
def test_what_the_plugin_lacks_is_said_and_the_log_used(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Path, compiler: str, reason: str
) -> None:
    """Without the plugin source or a compiler the number is the same, and the result says what is missing."""
    toy = build("riscv/rv64gc-linux")
    emulator = emulator_of(toy.target)
    plugin_for(toy.target, tmp_path / "plugins")
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    program = Program(toy.executable, toy.target, toy.directory)
    expected = count(program, "in.bin", emulator, tmp_path / "plugins", log_limit_s=60)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / emulator.program).symlink_to(emulator.find())
    if compiler:
        (tools / "cc").write_text(f"#!/bin/sh\n{compiler}\n")
        (tools / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(counting, "SOURCE", source)
    counted = count(program, "in.bin", emulator, tmp_path / "empty", log_limit_s=60)

    assert expected.per_inference == counted.per_inference
    assert counted.how.startswith(f"execution log, because {reason}")


def test_the_plugin_is_built_once(tmp_path: Path) -> None:
    """The plugin comes out of the cache the second time, and nothing else is left there."""
    target = ready("riscv/rv64gc-linux")
    first = plugin_for(target, tmp_path / "plugins")
    stamp = first.stat().st_mtime_ns

    assert first == plugin_for(target, tmp_path / "plugins")
    assert stamp == first.stat().st_mtime_ns
    assert [first] == list((tmp_path / "plugins").iterdir())


def test_a_comma_in_the_path_of_the_plugin_does_no_harm(build: Build, tmp_path: Path) -> None:
    """QEMU splits options at commas, so they are escaped."""
    toy = build("riscv/rv64gc-linux")
    plugin_for(toy.target, tmp_path / "with,comma")
    (toy.directory / "in.bin").write_bytes(rows(1).tobytes())
    program = Program(toy.executable, toy.target, toy.directory)
    counted = count(program, "in.bin", emulator_of(toy.target), tmp_path / "with,comma", log_limit_s=60)

    assert "plugin" == counted.how
    assert counted.per_inference
