"""One case through the compile path, and all of them, each in a process of its own that may crash or hang."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.operators.cases import Case
from vlab import processes, targets
from vlab.compiling import Compiled, building, compile_model, toolchain
from vlab.compiling.exchange import Order, Product
from vlab.compiling.toolchain import Harness
from vlab.datasets import Array, read_rows, write_rows
from vlab.errors import ModelError, VlabError
from vlab.targets import Target

MOST_CPU_S, DEADLINE_S = 60, 1200
"""For one case, of its own computing and of any clock; the slowest takes a few seconds of an idle machine."""


class Outcome(StrEnum):
    """What may come of a case."""

    passed = "passed"
    caught = "wrong, caught by the reference check"
    uncaught = "wrong, not caught"
    refused_at_import = "refused at import"
    refused_later = "refused later"
    crashed = "crashed"


@dataclass(frozen=True)
class Result:
    """What came of one case, and what the compile said about it."""

    case: str
    operator: str
    outcome: Outcome
    message: str = ""


def run(case: Case, target: Target, directory: Path) -> Result:
    """Compile a case, run the executable on the test's own input and compare with the test's expected outputs."""

    def ended(outcome: Outcome, message: str = "") -> Result:
        return Result(case.name, case.operator, outcome, message)

    worked = False

    def work(order: Order, place: Path, timeout_s: float, memory_bytes: int) -> Product:
        nonlocal worked
        product = building.work_here(order, place, timeout_s, memory_bytes)
        worked = True
        return product

    path = directory / f"{case.name}.onnx"
    path.write_bytes(case.model)
    try:
        compiled = compile_model(path, target, cache=directory, work=work)
    except ModelError as error:
        return ended(Outcome.refused_at_import, str(error))
    except VlabError as error:
        told = str(error)
        return ended(Outcome.caught if worked and "differs from" in told else Outcome.refused_later, told)
    difference = _difference(_infer(compiled, target, case, directory), case)
    return ended(Outcome.uncaught, difference) if difference else ended(Outcome.passed)


def _infer(compiled: Compiled, target: Target, case: Case, directory: Path) -> list[Array]:
    inputs, outputs = directory / "inputs.bin", directory / "outputs.bin"
    write_rows([value[np.newaxis] for value in case.inputs], inputs)
    executable = compiled.directory / compiled.manifest.executable
    done = processes.run_limited(target.command(executable, ["infer", inputs, outputs]), timeout_s=DEADLINE_S)
    if done.returncode:
        raise RuntimeError(done.last_words)
    return [rows[0] for rows in read_rows(outputs, compiled.manifest.outputs, 1)]


def _difference(got: list[Array], case: Case) -> str:
    """In what the outputs are not the expected ones; empty where they are."""
    for place, (ours, theirs) in enumerate(zip(got, case.outputs, strict=True)):
        if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            return f"output {place} is {ours.dtype}{list(ours.shape)}, expected {theirs.dtype}{list(theirs.shape)}"
        if not np.allclose(ours, theirs, rtol=case.rtol, atol=max(case.atol, _rounding(theirs)), equal_nan=True):
            with np.errstate(all="ignore"):
                return f"output {place} differs by up to {np.nanmax(np.abs(ours.astype(float) - theirs.astype(float))):.3g}"
    return ""


def _rounding(expected: Array) -> float:
    """Two units in the last place of the largest value: what is left of large terms that cancel."""
    if expected.dtype.kind != "f" or not expected.size:
        return 0.0
    finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
    return float(2 * np.finfo(expected.dtype).eps * finite.max(initial=0.0))


def run_all(cases: Iterable[Case], jobs: int, told: Callable[[Result], None]) -> list[Result]:
    """Results in the order of the cases; a case that crashes or passes its deadline is one of them.

    TVM and the cases are loaded once, here, and each case's process is forked from this one.

    Args:
        cases: what to run.
        jobs: how many at a time.
        told: is given each result as it comes.
    """
    import onnxruntime  # noqa: F401 - loaded here so that the forked processes need not
    import tvm.relax.frontend.onnx.onnx_frontend  # noqa: F401

    from vlab.compiling import generating, lowering, worker  # noqa: F401
    from vlab.compiling.importing import converting  # noqa: F401

    target = targets.load("host/x86_64")
    unoptimised = tuple("-O0" if flag == "-O2" else flag for flag in target.compiler.flags)  # of the harness, not the kernels
    target = target.model_copy(update={"compiler": target.compiler.model_copy(update={"flags": unoptimised})})
    toolchain.sources(target, Harness.of(target))  # remembers what it asked the C compiler
    waiting = list(cases)
    order = {case.name: place for place, case in enumerate(waiting)}
    waiting.reverse()
    running: list[tuple[Case, BaseProcess, Path, float]] = []
    results: list[Result] = []
    with TemporaryDirectory() as scratch:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(waiting.pop(), target, Path(scratch)))
            time.sleep(0.005)
            for entry in list(running):
                case, process, directory, deadline = entry
                if process.is_alive() and time.monotonic() < deadline:
                    continue
                running.remove(entry)
                results.append(_finish(case, process, directory))
                told(results[-1])
    return sorted(results, key=lambda result: order[result.case])


def _start(case: Case, target: Target, scratch: Path) -> tuple[Case, BaseProcess, Path, float]:
    directory = scratch / case.name
    directory.mkdir()
    process = multiprocessing.get_context("fork").Process(target=_isolated, args=(case, target, directory))
    process.start()
    return case, process, directory, time.monotonic() + DEADLINE_S


def _isolated(case: Case, target: Target, directory: Path) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 5))
    with (directory / "log").open("w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    result = run(case, target, directory)
    (directory / "result.json").write_text(json.dumps([result.outcome, result.message]), encoding="utf-8")


def _finish(case: Case, process: BaseProcess, directory: Path) -> Result:
    late = process.is_alive()
    if late:
        process.kill()
    process.join()
    try:
        outcome, message = json.loads((directory / "result.json").read_text(encoding="utf-8"))
        return Result(case.name, case.operator, Outcome(outcome), message)
    except (OSError, ValueError):
        if process.exitcode == -signal.SIGXCPU:
            return Result(case.name, case.operator, Outcome.refused_later, f"compiling takes more than {MOST_CPU_S} s of a CPU")
        how = f"took more than {DEADLINE_S} s" if late else f"ended with status {process.exitcode}"
        last = (directory / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return Result(case.name, case.operator, Outcome.crashed, f"the process {how}: {' '.join(last)}")
