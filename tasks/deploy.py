"""Let an artifact onto a board: only what the lab has signed, and only whole."""

from pathlib import Path

from prefect import get_run_logger, task

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import deploying, provenance, signing, tracking, verifying
from vlab.errors import DeployError
from vlab.records import Job
from vlab.settings import Settings


@task(task_run_name="deploy", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def deploy(job: Job, target: str, into: Path) -> Path:
    """Verify the compile bundle against the pinned lab identity, then unpack the artifact; returns its directory."""
    settings = Settings.from_environment()
    store = Tracking.load("lab").url
    profile = verifying.read_profile(settings.profile)
    bundle = tracking.store_get(job.compile_bundle, into, url=store).read_bytes()
    payload = signing.verify_bundle(bundle, settings.home / profile.trust_config, profile.lab_identity)
    statement = provenance.read_statement(payload, provenance.SLSA_PROVENANCE)
    archive = tracking.store_get(job.artifact, into, url=store)
    manifest = deploying.unpack(archive.read_bytes(), job.manifest_sha256, into / "artifact")
    provenance.check_compile_statement(statement, manifest, job.manifest_sha256)
    if manifest.target != target:
        raise DeployError(f"the artifact is for {manifest.target}, this board is a {target}; nothing was executed")
    if manifest.model != job.model:
        raise DeployError(f"the artifact was compiled from model {manifest.model.sha256}, the job names {job.model.sha256}")
    get_run_logger().info("artifact %s: bundle by %s holds, digests hold", job.manifest_sha256[:12], profile.lab_identity.san)
    return into / "artifact"
