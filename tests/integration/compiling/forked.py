"""Compiles in processes that are forked from one which has loaded TVM already: what takes longest is done once."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vlab.compiling import Compiled, compile_model
from vlab.compiling.building import work_here
from vlab.targets import Target

_LOADED = ["onnxruntime", "tvm.relax.frontend.onnx.onnx_frontend", "vlab.compiling.lowering", "vlab.compiling.worker"]


@contextmanager
def compile_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """That many processes for `compile_here`, each compile in a fresh one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    with ProcessPoolExecutor(count, context, max_tasks_per_child=1) as pool:
        yield pool


def compile_here(model: Path, target: Target, cache: Path) -> Compiled:
    """As `compile_model`, with the compiler's part in this process."""
    return compile_model(model, target, cache=cache, work=work_here)
