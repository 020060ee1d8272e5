"""One compile from end to end: cache, worker process, link, reference check, manifest."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlab import processes
from vlab.compiling import exchange, linking, memory, toolchain
from vlab.compiling.cache import Cache
from vlab.compiling.exchange import Order, Product, Response
from vlab.compiling.reading.gathering import gather
from vlab.compiling.reading.models import inspect_model
from vlab.compiling.toolchain import Harness, Sources
from vlab.errors import CompileError, DifferenceError, EvidenceError
from vlab.records import (
    ArtifactManifest,
    Calls,
    CompileOptions,
    FileRef,
    MemoryRegion,
    ModelRef,
    Numerics,
    Record,
    Sha256,
    Toolchain,
    digest_file,
)
from vlab.reference import runtime_name
from vlab.targets import Target

_KEPT = (linking.EXECUTABLE, exchange.SOURCE, Calls.FILE)
"""Files of an artifact; the source is for readers, with its header, the calls are for its profile."""


Work = Callable[[Order, Path, float, int], Product]
"""Carries out an order in a directory within seconds and bytes; raises what the compile is refused with."""


@dataclass(frozen=True)
class Compiled:
    """An artifact on this machine."""

    directory: Path
    """Holds manifest.json and the files it names; belongs to the cache, so do not write there."""
    manifest: ArtifactManifest
    manifest_sha256: str
    """Digest of manifest.json: the artifact's digest."""
    cached: bool
    """Whether it was there already."""
    notices: tuple[str, ...]
    """What the requester should know about how the model was taken."""
    duration_ns: int
    """What this call took."""


class _Key(Record):
    """What an artifact depends on; its digest names the cache's entry."""

    model: ModelRef
    target_sha256: Sha256
    options: CompileOptions
    sources: Sources
    reference: str
    probe_sha256: Sha256 | None


def compile_model(
    model: Path,
    target: Target,
    *,
    cache: Path,
    options: CompileOptions | None = None,
    probe_inputs: Path | None = None,
    timeout_s: float = 600,
    memory_bytes: int = 8 * 2**30,
    work: Work | None = None,
    debug: Path | None = None,
) -> Compiled:
    """Compile a model for a target, or take the artifact from the cache.

    An artifact exists only if its outputs agreed with the reference runtime's. Compiling the same again gives the same bytes.

    Args:
        model: ONNX or TFLite file; weights in other files are put into it first.
        target: what to compile for.
        cache: directory of compiled artifacts, made if need be; may be shared by processes.
        options: what the requester chose.
        probe_inputs: data set with real inputs for the reference check, of which the first 32 are used; random inputs without
            it.
        timeout_s: limit for the compile; waiting for another process that compiles the same does not count.
        memory_bytes: limit on the compiler process's address space.
        work: carries out the order in place of a new process, such as `work_here`.
        debug: folder that is given what the compile worked with and what compiler and TVM said, with their stack traces, also
            where it fails; the cache is not asked then.

    Raises:
        ModelError: the model cannot be read or compiled.
        CompileError: compiling failed or passed a limit, or the outputs differ from the reference.
        MissingToolError: compiler, emulator or reference runtime is not installed.
        TargetError: this machine cannot run the target's executables for the check.
    """
    started = time.monotonic_ns()
    options = options or CompileOptions()
    if options.threads > 1 and target.firmware:
        raise CompileError(f"{target.name} is a microcontroller of one core; got {options.threads} threads, expected 1")
    harness = Harness.of(target)
    sources = toolchain.sources(target, harness)
    store = Cache(cache.absolute())

    with store.temporary() as folder:
        gathered = gather(model, folder)
        taken = inspect_model(gathered.path)
        key = _Key(
            model=taken,
            target_sha256=target.digest(),
            options=options,
            sources=sources,
            reference=runtime_name(taken.format),
            probe_sha256=digest_file(probe_inputs) if probe_inputs else None,
        ).digest()
        with store.locked(key):
            entry = None if debug else store.find(key)
            cached = entry is not None
            if entry is None:
                target.command(Path(linking.EXECUTABLE), [])  # refuses now rather than after the compile
                order = Order(
                    path=str(gathered.path.absolute()),
                    model=taken,
                    target=target,
                    options=options,
                    probe_inputs=str(probe_inputs.absolute()) if probe_inputs else None,
                )
                deadline = time.monotonic() + timeout_s
                with store.building(key) as scratch, _kept(scratch, debug):
                    artifact, manifest = _build(scratch, order, sources, harness, deadline, memory_bytes, work or work_apart)
                    entry = store.store(key, manifest, artifact)
    notices = (*filter(None, [gathered.notice]), *entry.manifest.notices)
    return Compiled(entry.directory, entry.manifest, entry.manifest_sha256, cached, notices, time.monotonic_ns() - started)


@contextmanager
def _kept(scratch: Path, debug: Path | None) -> Iterator[None]:
    """Copy what is in the directory at the end, whatever the end is."""
    try:
        yield
    finally:
        if debug is not None:
            shutil.copytree(scratch, debug, dirs_exist_ok=True)


def _build(
    scratch: Path, order: Order, sources: Sources, harness: Harness, deadline: float, memory_bytes: int, work: Work
) -> tuple[Path, ArtifactManifest]:
    """Compile, link and check in a directory; the artifact's own directory within it, and its manifest."""
    from vlab.compiling import checking, localising  # here, so that asking what a model is stays light

    try:
        product = work(order, scratch, _left(deadline), memory_bytes)
        linked = linking.link(scratch, order.target, harness, product, timeout_s=_left(deadline))
        answers = checking.run(linked.executable, order.target, product, timeout_s=_left(deadline))
        numerics = checking.agreed(answers, product)
        stack_used = memory.stack_used(linked.executable, order.target, timeout_s=_left(deadline)) if linked.memory else None
    except DifferenceError as error:
        (scratch / "locating").mkdir()
        where = localising.locate(order, error.outputs, scratch / "locating", timeout_s=_left(deadline))
        raise DifferenceError(f"{error}; {where}. Replace that operator by others, or report it") from error
    except processes.LimitError as error:
        raise CompileError(
            f"compiling for {order.target.name} took too long: {error}; allow more time with timeout_s"
        ) from error
    artifact = scratch / "artifact"
    artifact.mkdir()
    for name in _KEPT:
        (scratch / name).rename(artifact / name)
    shutil.copyfile(harness.directory / toolchain.HEADER, artifact / toolchain.HEADER)
    for path in artifact.iterdir():
        path.chmod(0o755 if path.name == linking.EXECUTABLE else 0o644)
    return artifact, _manifest(order, sources, product, linked.memory, stack_used, numerics, artifact)


def _left(deadline: float) -> float:
    """Seconds until the deadline, at least a moment so that the limit is found out where it is passed."""
    return max(0.01, deadline - time.monotonic())


def work_apart(order: Order, directory: Path, timeout_s: float, memory_bytes: int) -> Product:
    """Have the worker process carry out the order.

    Raises:
        RefusedError: as the worker says, or because it ended without saying anything.
        LimitError: it took too long.
    """
    (directory / exchange.REQUEST).write_bytes(order.to_json())
    done = processes.run_limited(
        [sys.executable, "-m", "vlab.compiling.worker", directory],
        timeout_s=timeout_s,
        cwd=directory,
        memory_bytes=memory_bytes,
        env={"TMPDIR": str(directory)},
    )
    (directory / exchange.LOG).write_text(done.stderr, encoding="utf-8")
    try:
        response = Response.from_json((directory / exchange.RESPONSE).read_bytes())
    except (OSError, EvidenceError) as error:
        raise CompileError(_ending(done, memory_bytes)) from error
    return _taken(response)


def work_here(order: Order, directory: Path, _timeout_s: float, _memory_bytes: int) -> Product:
    """Carry out the order in this process, for who isolates compiles himself: nothing here limits time or memory.

    Raises:
        RefusedError: as the worker says.
    """
    from vlab.compiling import worker  # here, because with it comes the compiler

    (directory / exchange.REQUEST).write_bytes(order.to_json())
    return _taken(worker.carry_out(directory))


def _taken(response: Response) -> Product:
    """What a worker made.

    Raises:
        RefusedError: as the worker says.
    """
    if response.failure is not None:
        raise response.failure.error
    if response.product is None:
        raise CompileError("the compile worker answered nothing")
    return response.product


def _ending(done: processes.Finished, memory_bytes: int) -> str:
    """How the worker ended, and where in its work."""
    stages = [line.removeprefix(exchange.STAGE) for line in done.stderr.splitlines() if line.startswith(exchange.STAGE)]
    where = stages[-1] if stages else "starting"
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"status {done.returncode}"
    return (
        f"the compile process ended with {how} while {where}; its memory limit was {memory_bytes} bytes; "
        "raise it with memory_bytes, or reduce the model to find the operator behind it"
    )


def _manifest(
    order: Order,
    sources: Sources,
    product: Product,
    regions: tuple[MemoryRegion, ...],
    stack_used_bytes: int | None,
    numerics: Numerics,
    artifact: Path,
) -> ArtifactManifest:
    files = [
        FileRef(name=path.name, sha256=digest_file(path), size_bytes=path.stat().st_size) for path in sorted(artifact.iterdir())
    ]
    return ArtifactManifest(
        model=order.model,
        target=order.target.name,
        target_sha256=order.target.digest(),
        options=order.options,
        toolchain=Toolchain(
            tvm=sources.packages["apache-tvm"],
            tvm_ffi=sources.packages["apache-tvm-ffi"],
            llvm=product.llvm,
            cc=sources.cc,
            libc_sha256=sources.libc_sha256,
            compiling_sha256=sources.compiling_sha256,
        ),
        executable=linking.EXECUTABLE,
        files=tuple(files),
        inputs=product.inputs,
        outputs=product.outputs,
        kernels=product.kernels,
        arena_bytes=product.arena_bytes,
        workspace_bytes=product.workspace_bytes,
        weights_bytes=product.weights_bytes,
        artifact_bytes=(artifact / linking.EXECUTABLE).stat().st_size,
        memory=regions,
        stack_used_bytes=stack_used_bytes,
        notices=product.notices,
        numerics=numerics,
    )
