"""Measure a deployed artifact on its board, and keep the result before anything else can fail."""

from hashlib import sha256
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import measuring, targets, tracking
from vlab.journal import Journal
from vlab.records import ArtifactManifest, Board, Job, Result, utc_now
from vlab.settings import Settings


@task(task_run_name="measure on {board.name}", retries=1, retry_delay_seconds=2, retry_condition_fn=transient)
def measure(job: Job, board: Board, artifact: Path, spool: Path) -> Path:
    """Run every pass of the plan; returns the spooled result.json."""
    log = get_run_logger()
    store = Tracking.load("lab").url
    manifest = ArtifactManifest.from_json((artifact / "manifest.json").read_bytes())
    inputs, labels = measuring.load_dataset(tracking.store_get(job.dataset, spool / "inputs", url=store))
    reference = measuring.load_reference(tracking.store_get(job.reference, spool / "inputs", url=store))
    bar = cast("UUID", create_progress_artifact(progress=0.0, key="measuring", description=f"measuring on {board.name}"))

    def progress(stage: str, fraction: float) -> None:
        log.info("%s: %s %d %%", board.name, stage, round(100 * fraction))
        update_progress_artifact(artifact_id=bar, progress=100 * fraction)

    started = utc_now()
    measurement, environment = measuring.measure(
        artifact,
        manifest,
        targets.load(board.target),
        job.plan,
        inputs,
        labels,
        reference,
        emulated=board.info.emulated,
        work=spool / "work",
        plugin_cache=Settings.from_environment().home / "cache" / "plugin",
        progress=progress,
    )
    result = Result(
        request_id=job.request_id,
        nonce=job.nonce,
        board=board.info,
        environment=environment,
        model=job.model,
        manifest=manifest,
        manifest_sha256=sha256((artifact / "manifest.json").read_bytes()).hexdigest(),
        compile_bundle_sha256=job.compile_bundle.file.sha256,
        dataset=job.dataset.file,
        plan=job.plan,
        plan_sha256=job.plan.digest(),
        measurement=measurement,
        started_on=started,
        finished_on=utc_now(),
    )
    log.info("%s: %s %s", board.name, measurement.quality, ", ".join(measurement.quality_reasons))
    return Journal(spool).write("result.json", result.to_json())
