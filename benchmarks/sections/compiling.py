"""What a compile costs, and whether it gives the same bytes elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bars import Bar, Row
from benchmarks.sections.bench import Bench, load
from benchmarks.tasks import Figure, Task
from benchmarks.versus.interleaving import undisturbed
from vlab import compiling, processes, settings
from vlab.errors import CompileError

SECTION = "compiling"
_TIME = Bar(limit=15.0)
_MEMORY = Bar(limit=1024.0)
_SAME = Bar(limit=0)
_COMPILED = ("arm/aarch64-linux", "riscv/rv64gc-linux")
_REPRODUCED = ("riscv/rv64gc-linux", "arm/cortex-m4")
_REPORT = """
import resource
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(one.ru_utime + one.ru_stime for one in used), max(one.ru_maxrss for one in used))
"""
_IMPORT = "import tvm.relax.frontend.onnx, tvm.s_tir.schedule, onnx"
_COMPILE = """
import sys
from pathlib import Path
from vlab import compiling, targets
model, target, cache = sys.argv[1:]
print(compiling.compile_model(Path(model), targets.load(target), cache=Path(cache)).manifest_sha256)
"""
_LIMIT_S = 1800.0


@dataclass(frozen=True)
class _Ended:
    printed: str
    seconds: float
    cpu_seconds: float
    """Of the process and its children."""
    peak_mib: float
    """Largest resident set among the process and its children."""


def tasks(bench: Bench) -> Iterator[Task]:
    """MobileNetV2 for this machine and, in a full run, for boards; DS-CNN for the question of sameness."""
    for name in [bench.host.name] if bench.quick else [bench.host.name, *_COMPILED]:
        rows = [
            _row(f"mobilenet-v2 for {name}", "compile time beyond TVM's import, check included", "s", _TIME),
            _row(f"mobilenet-v2 for {name}", "peak of resident memory", "MiB", _MEMORY),
        ]
        yield Task(SECTION, f"cost {name}", rows, partial(_cost, bench, name), 30)
    rows = [_row("ds-cnn", "artifacts that differ between two directories and environments", "", _SAME)]
    yield Task(SECTION, "sameness", rows, partial(_sameness, bench), 60)
    if not bench.quick:
        rows = [_row("mobilenet-v2 for two targets", "time in two processes / one after the other", "", None)]
        yield Task(SECTION, "parallel", rows, partial(_parallel, bench), 60)


def _row(subject: str, quantity: str, unit: str, bar: Bar | None) -> Row:
    return Row(section=SECTION, subject=subject, quantity=quantity, unit=unit, value=None, bar=bar)


def _cost(bench: Bench, name: str) -> list[Figure]:
    model, target = bench.model("mobilenet-v2"), load(name)
    with TemporaryDirectory(dir=bench.scratch) as cache, undisturbed(bench.core):
        imported = _run(_IMPORT)
        whole = _run(_COMPILE, str(model), target.name, cache)
    detail = f"{whole.seconds:.1f} s in all, {imported.seconds:.1f} s for the import; CPU time {whole.cpu_seconds:.1f} s"
    memory = f"{imported.peak_mib:,.0f} MiB after the import"
    return [Figure(round(whole.seconds - imported.seconds, 2), detail), Figure(round(whole.peak_mib, 1), memory)]


def _sameness(bench: Bench) -> list[Figure]:
    """As `vlab compile --check`: from nothing, in another directory and environment."""
    with TemporaryDirectory(dir=bench.scratch) as cache:
        wanted = [load(name) for name in _REPRODUCED]
        outcomes = compiling.compile_all(bench.model("ds-cnn"), wanted, cache=Path(cache), check=True)
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
    different = [outcome.target for outcome in outcomes if outcome.differing]
    told = f"compiled for {', '.join(_REPRODUCED)}, twice each" + (f"; different: {', '.join(different)}" if different else "")
    return [Figure(float(len(different)), told)]


def _parallel(bench: Bench) -> list[Figure]:
    model = str(bench.model("mobilenet-v2"))
    seconds = []
    for workers in (1, len(_COMPILED)):
        with TemporaryDirectory(dir=bench.scratch) as cache, ThreadPoolExecutor(workers) as pool:
            started = time.monotonic()
            list(pool.map(lambda name: _run(_COMPILE, model, name, cache), _COMPILED))
            seconds.append(time.monotonic() - started)
    return [Figure(seconds[1] / seconds[0], f"{seconds[1]:.1f} s against {seconds[0]:.1f} s, {os.cpu_count()} cores")]


def _run(program: str, *arguments: str) -> _Ended:
    """Run a Python program in a process of its own.

    Raises:
        CompileError: it failed; with its last line.
    """
    started = time.monotonic()
    argv = [sys.executable, "-c", program + _REPORT, *arguments]
    done = processes.run_limited(argv, timeout_s=_LIMIT_S, cwd=settings.checkout())
    if done.returncode:
        raise CompileError(f"a compile failed: {done.last_words.splitlines()[-1]}")
    seconds = time.monotonic() - started
    *printed, cpu_seconds, peak_kib = done.stdout.decode().split()
    return _Ended(" ".join(printed), seconds, float(cpu_seconds), int(peak_kib) / 1024)
