"""Objects, C and weights → one static executable or firmware image, with no trace of where it was linked."""

from dataclasses import dataclass
from pathlib import Path

from vlab import processes
from vlab.compiling import exchange, memory
from vlab.compiling.exchange import Product
from vlab.compiling.toolchain import LINKER_SCRIPT, THREADS, Harness
from vlab.errors import CompileError
from vlab.records import Calls, MemoryRegion
from vlab.targets import Compiler, Firmware, Target

EXECUTABLE = "model"


@dataclass(frozen=True)
class Linked:
    """An executable or image, in the directory it was linked in."""

    executable: Path
    memory: tuple[MemoryRegion, ...]
    """Of a microcontroller; empty with Linux."""


def link(directory: Path, target: Target, harness: Harness, product: Product, *, timeout_s: float) -> Linked:
    """Link what the worker wrote into a directory with the harness.

    Raises:
        CompileError: the board's memory is too small, or the compiler refused; with its last words.
        MissingToolError: the compiler is not installed.
    """
    firmware = target.firmware
    if firmware is None:
        pool = ("-pthread", str(harness.directory / THREADS)) if product.threads > 1 else ()
        return Linked(_run(directory, target.compiler, harness, pool, timeout_s), ())
    calls = Calls.from_json((directory / Calls.FILE).read_bytes()).calls
    layers = memory.layers(calls, product.kernels)
    memory.expect_room(firmware, product, layers)
    executable = _run(directory, target.compiler, harness, _image_options(firmware, harness, product, len(calls)), timeout_s)
    return Linked(executable, memory.measure(executable.read_bytes(), firmware, layers))


def _run(directory: Path, compiler: Compiler, harness: Harness, options: tuple[str, ...], timeout_s: float) -> Path:
    argv = [
        compiler.find(),
        *compiler.flags,
        f"-ffile-prefix-map={harness.directory}=harness",
        f"-ffile-prefix-map={directory}=.",
        "-Wl,--build-id=none",
        "-s",
        f"-I{harness.directory}",
        *options,
        *(str(harness.directory / name) for name in harness.sources),
        exchange.SOURCE,
        exchange.ASSEMBLY,
        exchange.KERNELS,
        "-lm",
        "-o",
        EXECUTABLE,
    ]
    done = processes.run_limited(argv, timeout_s=timeout_s, cwd=directory, env={"LC_ALL": "C", "TMPDIR": str(directory)})
    if done.returncode:
        raise CompileError(f"{compiler.program} could not link the executable: {done.last_words}")
    return directory / EXECUTABLE


def _image_options(firmware: Firmware, harness: Harness, product: Product, calls: int) -> tuple[str, ...]:
    """For an image that starts by itself, with a section of its own for everything whose size is reported."""
    defined = {
        "TIMER_HZ": firmware.timer_hz,
        "INPUT_COUNT": len(product.inputs),
        "OUTPUT_COUNT": len(product.outputs),
        "CALL_COUNT": calls,
        "INPUTS_BYTES": memory.inputs_bytes(product),
        **({"TIMER_ADDRESS": firmware.timer_address} if firmware.timer_address is not None else {}),
    }
    symbols = {
        "flash_origin": firmware.flash_origin,
        "ram_origin": firmware.ram_origin,
        "stack_bytes": firmware.stack_bytes,
    }
    return (
        "-nostartfiles",
        "-ffunction-sections",
        "-fdata-sections",
        "-fno-asynchronous-unwind-tables",
        f"-T{harness.directory / LINKER_SCRIPT}",
        "-Wl,--gc-sections",
        "-Wl,--no-check-sections",  # what does not fit is told by section, and not by the linker
        *(f"-D{name}={value}" for name, value in defined.items()),
        *(f"-Wl,--defsym={name}={value}" for name, value in symbols.items()),
    )
