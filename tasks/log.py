"""Log a board's result to MLflow."""

from prefect import get_run_logger, task

from blocks.tracking import Tracking
from tasks.profile_kernels import KERNEL_PROFILE
from tasks.retrying import transient
from vlab import tracking
from vlab.journal import Journal
from vlab.records import Anchor, AssetRef, KernelProfile, Request, Result
from vlab.settings import Settings


@task(task_run_name="log {board}", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def log_result(request: Request, board: str) -> str:
    """One child run for one board, however often it is tried; returns the MLflow run id."""
    journal = Journal(Settings.from_environment().runs / request.request_id / "boards" / board)
    result = Result.from_json(journal.path("result.json").read_bytes())
    bundle = journal.path("benchmark.sigstore.json")
    url = Tracking.load("lab").url
    profiled = journal.read(KERNEL_PROFILE)
    run_id = tracking.log_result(
        request.tracking_run_id,
        result,
        url=url,
        files={bundle.name: bundle},
        kernel_profile=KernelProfile.from_json(profiled) if profiled else None,
    )
    get_run_logger().info("%s: logged to MLflow run %s", board, run_id)
    return run_id


@task(task_run_name="attach evidence {board}", retries=2, retry_delay_seconds=2, retry_condition_fn=transient)
def attach_evidence(request: Request, board: str, run_id: str, anchored: Anchor) -> AssetRef:
    """Put a board's evidence file into the store and beside its metrics, with the anchor as tags."""
    path = Settings.from_environment().runs / request.request_id / "boards" / board / "evidence.json"
    url = Tracking.load("lab").url
    tags = {"vlab.anchor_tx": anchored.tx_hash, "vlab.anchor_block": str(anchored.block_number)}
    tracking.attach(run_id, url=url, files={path.name: path}, tags=tags)
    return tracking.store_put(path, f"{board}.evidence.json", url=url)


@task(task_run_name="close request")
def close_request(request: Request, *, complete: bool) -> None:
    """Say in MLflow how the request ended; what follows does not depend on it."""
    tracking.finish_request(request.tracking_run_id, url=Tracking.load("lab").url, failed=not complete)
