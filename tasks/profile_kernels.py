"""Profile an artifact's kernels on its board, once it is measured: in runs of their own, so the measurement has none of it."""

from pathlib import Path

from prefect import get_run_logger, task

from blocks.tracking import Tracking
from tasks.retrying import transient
from vlab import measuring, targets, tracking
from vlab.errors import TransientError, VlabError
from vlab.journal import Journal
from vlab.records import ArtifactManifest, Board, Job
from vlab.settings import Settings

KERNEL_PROFILE = "kernel_profile.json"


@task(task_run_name="profile kernels on {board.name}", retries=1, retry_delay_seconds=2, retry_condition_fn=transient)
def profile_kernels(job: Job, board: Board, artifact: Path, spool: Path) -> str:
    """Time or count every kernel call, into the spool; returns why that failed, or nothing: the result stands either way."""
    try:
        inputs, _ = measuring.load_dataset(tracking.store_get(job.dataset, spool / "inputs", url=Tracking.load("lab").url))
        found = measuring.profile(
            artifact,
            ArtifactManifest.from_json((artifact / "manifest.json").read_bytes()),
            targets.load(board.target),
            inputs,
            work=spool / "profiling",
            plugin_cache=Settings.from_environment().home / "cache" / "plugin",
        )
    except TransientError:
        raise
    except VlabError as error:
        get_run_logger().warning("%s: no kernel profile: %s", board.name, error)
        return str(error)
    get_run_logger().info("%s: %d kernel calls profiled", board.name, len(found.calls))
    Journal(spool).write(KERNEL_PROFILE, found.to_json())
    return ""
