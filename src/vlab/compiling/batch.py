"""A model for several targets at once, each in processes of its own; and whether compiling again gives the same bytes."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from vlab.compiling.building import Compiled, compile_model
from vlab.compiling.cache import MANIFEST
from vlab.errors import RefusedError, VlabError
from vlab.records import ArtifactManifest, CompileOptions
from vlab.targets import Target


@dataclass(frozen=True)
class Outcome:
    """What came of one target."""

    target: str
    seconds: float
    directory: Path | None = None
    """Where the artifact is; None where there is none."""
    manifest: ArtifactManifest | None = None
    cached: bool = False
    """Whether the artifact was in the cache."""
    notices: tuple[str, ...] = ()
    error: VlabError | None = None
    """Why there is no artifact."""
    differing: tuple[str, ...] | None = None
    """Files that another compile gives otherwise; None where that was not asked."""
    debug: Path | None = None
    """Where stack traces and intermediate files are."""

    @property
    def good(self) -> bool:
        """Whether there is an artifact, and it was compiled again to the same bytes if that was asked."""
        return self.error is None and not self.differing


def compile_all(
    model: Path,
    targets: Sequence[Target],
    *,
    cache: Path,
    options: CompileOptions | None = None,
    probe_inputs: Path | None = None,
    out: Path | None = None,
    check: bool = False,
    debug: Path | None = None,
    jobs: int | None = None,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Compile a model for each target; one that fails does not stop the others.

    Args:
        model: ONNX or TFLite file.
        targets: what to compile for.
        cache: directory of compiled artifacts.
        options: what the requester chose.
        probe_inputs: data set for the reference check.
        out: folder that is given a copy of each artifact, `FAMILY-BOARD/`; with `check` a copy that is there already is
            compared and stays as it is.
        check: compile again from nothing, in another directory and environment, and compare every byte.
        debug: folder for what each compile worked with.
        jobs: compiles at the same time; as many as there are CPUs without.
        on_done: called for each target that is done, from any thread, one at a time.

    Returns:
        For each target what came of it, in the order of the targets.
    """

    def one(target: Target) -> Outcome:
        started = time.monotonic()
        kept = debug / _folder(target) if debug else None
        try:
            compiled = compile_model(model, target, cache=cache, options=options, probe_inputs=probe_inputs, debug=kept)
            outcome = Outcome(
                target.name, 0, compiled.directory, compiled.manifest, compiled.cached, compiled.notices, debug=kept
            )
            if check:
                differing = _differing(compiled, model, target, options, probe_inputs, out)
                outcome = replace(outcome, differing=differing)
            if out and outcome.good:
                outcome = replace(outcome, directory=export(compiled.directory, out / _folder(target)))
        except VlabError as error:
            outcome = Outcome(target.name, 0, error=error, debug=kept)
        return replace(outcome, seconds=time.monotonic() - started)

    with ThreadPoolExecutor(max_workers=jobs or os.cpu_count()) as pool:
        running = [pool.submit(one, target) for target in targets]
        for done in as_completed(running):
            if on_done:
                on_done(done.result())
        return [done.result() for done in running]


def export(artifact: Path, place: Path) -> Path:
    """Copy an artifact's directory to a place, whole or not at all; an artifact that is there already is replaced.

    Raises:
        RefusedError: something else is at the place, or it cannot be written.
    """
    if place.exists() and not (place / MANIFEST).is_file():
        raise RefusedError(f"{place} exists and is no artifact; choose another folder with --out, or move it away")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting-", dir=place.parent) as folder:
            copy = Path(shutil.copytree(artifact, Path(folder) / "new"))
            if place.exists():
                place.rename(Path(folder) / "old")
            return copy.rename(place)
    except OSError as error:
        raise RefusedError(f"the artifact cannot be put into {place} ({error}); choose another folder with --out") from error


def _folder(target: Target) -> str:
    return target.name.replace("/", "-")


def _differing(
    compiled: Compiled,
    model: Path,
    target: Target,
    options: CompileOptions | None,
    probe_inputs: Path | None,
    out: Path | None,
) -> tuple[str, ...]:
    """Files that differ between another compile, the cache's artifact and the exported one, if that is there."""
    from vlab.compiling import repeating  # here, because it is also run as a program

    with tempfile.TemporaryDirectory(prefix="vlab-again-") as folder:
        again = repeating.compile_elsewhere(model, target, Path(folder), options=options, probe_inputs=probe_inputs)
        differing = repeating.differing(compiled.directory, again)
        exported = out / _folder(target) if out else None
        if exported and (exported / MANIFEST).is_file():
            differing |= repeating.differing(exported, again)
    return tuple(sorted(differing))
