"""Let an artifact onto a board: only what the lab has signed, and only whole."""

from pathlib import Path

from prefect import get_run_logger, task

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import deploying, provenance, signing, targets, tracking, verifying
from vlab.errors import DeployError
from vlab.records import Job
from vlab.settings import Settings


@task(task_run_name="deploy", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def deploy(job: Job, target: str, spool: Path) -> Path:
    """Verify the compile bundle against the pinned lab identity, then unpack the artifact; returns its directory."""
    settings = Settings.from_environment()
    store = Tracking.load("lab").url
    profile = verifying.read_profile(settings.profile)
    bundle = tracking.store_read(job.compile_bundle, url=store, max_bytes=signing.MAX_BUNDLE_BYTES)
    payload = signing.verify_bundle(bundle, settings.home / profile.trust_config, profile.lab_identity)
    statement = provenance.read_statement(payload, provenance.SLSA_PROVENANCE)
    if (signed := statement.subject(provenance.MANIFEST_NAME)) != job.manifest_sha256:
        raise DeployError(f"the lab signed artifact {signed}, the job names {job.manifest_sha256}; nothing was unpacked")
    archive = tracking.store_read(job.artifact, url=store, max_bytes=deploying.MAX_ARCHIVE_BYTES)
    manifest = deploying.unpack(archive, job.manifest_sha256, spool / "artifact")
    provenance.check_compile_statement(statement, manifest, job.manifest_sha256)
    deploying.expect_fit(manifest, job.model, targets.load(target))
    get_run_logger().info("artifact %s: bundle by %s holds, digests hold", job.manifest_sha256[:12], profile.lab_identity.san)
    return spool / "artifact"
