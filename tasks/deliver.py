"""Hand a finished measurement over to the lab."""

from pathlib import Path

from prefect import get_run_logger, task

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import tracking
from vlab.records import Job, JobOutcome


@task(task_run_name="deliver", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def deliver(job: Job, result: Path, bundle: Path, kernel_profile: Path, kernel_profile_trouble: str) -> JobOutcome:
    """Put result, bundle, and the kernel profile if there is one, into the artifact store; returns where they are."""
    store = Tracking.load("lab").url
    outcome = JobOutcome(
        job_id=job.job_id,
        result=tracking.store_put(result, result.name, url=store),
        benchmark_bundle=tracking.store_put(bundle, bundle.name, url=store),
        kernel_profile=tracking.store_put(kernel_profile, kernel_profile.name, url=store) if kernel_profile.exists() else None,
        kernel_profile_trouble=kernel_profile_trouble,
    )
    get_run_logger().info("delivered %s", outcome.result.file.sha256[:12] if outcome.result else "nothing")
    return outcome
