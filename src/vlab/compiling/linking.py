"""Objects, C and weights → one static executable, with no trace of where it was linked."""

from pathlib import Path

from vlab import processes
from vlab.compiling import exchange
from vlab.compiling.toolchain import Harness
from vlab.errors import CompileError
from vlab.targets import Compiler

EXECUTABLE = "model"


def link(directory: Path, compiler: Compiler, harness: Harness, *, timeout_s: float) -> Path:
    """Link what the worker wrote into a directory with the harness.

    Returns:
        The executable, in the same directory.

    Raises:
        CompileError: the compiler refused; with its last words.
        MissingToolError: the compiler is not installed.
    """
    argv = [
        compiler.find(),
        *compiler.flags,
        f"-ffile-prefix-map={harness.source.parent}=harness",
        f"-ffile-prefix-map={directory}=.",
        "-Wl,--build-id=none",
        "-s",
        "-I.",
        str(harness.source),
        exchange.SOURCE,
        exchange.ASSEMBLY,
        exchange.KERNELS,
        "-lm",
        "-o",
        EXECUTABLE,
    ]
    done = processes.run_limited(argv, timeout_s=timeout_s, cwd=directory, env={"LC_ALL": "C", "TMPDIR": str(directory)})
    if done.returncode:
        if "TVMBackendParallelLaunch" in done.stderr:
            raise CompileError("the model has an operator that TVM compiles to threads, which are not on the board; replace it")
        raise CompileError(f"{compiler.program} could not link the executable: {done.last_words}")
    return directory / EXECUTABLE
