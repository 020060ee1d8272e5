"""Compile a request's model for one target."""

from pathlib import Path

from prefect import State, get_run_logger, task
from prefect.states import Completed

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import compiling, targets, tracking
from vlab.errors import RefusedError
from vlab.journal import Journal
from vlab.records import AssetRef, Record, Request, Sha256, UtcTime, utc_now
from vlab.settings import Settings


class Compiled(Record):
    """An artifact in the store; its manifest is beside this record in the request's journal."""

    target: str
    manifest_sha256: Sha256
    artifact: AssetRef
    started_on: UtcTime
    finished_on: UtcTime


def journal_of(request: Request, target: str) -> Journal:
    """What a request has of one target: `compiled.json`, `manifest.json`, `compile.sigstore.json`."""
    return Journal(Settings.from_environment().runs / request.request_id / "compile" / target.replace("/", "-"))


@task(task_run_name="compile {target}", tags=["compile"], retries=1, retry_delay_seconds=2, retry_condition_fn=transient)
def compile_model(request: Request, target: str) -> Compiled | State[Compiled]:
    """Compile, or take the artifact out of the compile cache; put it into the store, once for a request and target."""
    journal = journal_of(request, target)
    if known := journal.read("compiled.json"):
        return Completed(name="Cached", data=Compiled.from_json(known))
    settings = Settings.from_environment()
    started = utc_now()
    done = compiling.compile_model(
        _only_file(settings.runs / request.request_id / "model"),
        targets.load(target),
        cache=settings.compile_cache,
        options=request.options,
        probe_inputs=_only_file(settings.runs / request.request_id / "dataset"),
    )
    for notice in done.notices:
        get_run_logger().warning("%s: %s", request.model.name, notice)
    archive = compiling.pack(done.directory)
    compiled = Compiled(
        target=target,
        manifest_sha256=done.manifest_sha256,
        artifact=tracking.store_put(archive, f"{target.replace('/', '-')}.tar", url=Tracking.load("lab").url),
        started_on=started,
        finished_on=utc_now(),
    )
    journal.write("manifest.json", (done.directory / "manifest.json").read_bytes())
    journal.write("compiled.json", compiled.to_json())
    cached = " from the compile cache" if done.cached else ""
    get_run_logger().info("%s: artifact %s%s, %.1f s", target, done.manifest_sha256[:12], cached, done.duration_ns / 1e9)
    return Completed(name="Cached", data=compiled) if done.cached else compiled


def _only_file(folder: Path) -> Path:
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    if len(files) != 1:
        raise RefusedError(f"{folder} holds {len(files)} files, expected one; start a new request")
    return files[0]
