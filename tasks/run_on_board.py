"""Start an edge run through a partner's work pool, wait for it, and bring its results into the request's journal."""

import json
from typing import cast

from prefect import get_run_logger, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from blocks.tracking import Tracking
from tasks.compile import Compiled
from vlab import tracking
from vlab.errors import DeployError, TransientError
from vlab.journal import Journal
from vlab.records import AssetRef, Board, Job, JobOutcome, Request
from vlab.settings import Settings

RECORD_KEY = "edge-record"
"""Key of the Prefect artifact in which an edge run reports; a row in the server, so it crosses machines."""


@task(task_run_name="run on {board.name}")
def run_on_board(
    request: Request, board: Board, compiled: Compiled, compile_bundle: AssetRef, timeout_s: float = 1800
) -> JobOutcome:
    """One edge run for one board, started once for each attempt of the request."""
    job = Job(
        request_id=request.request_id,
        nonce=request.nonces[board.name],
        model=request.model,
        artifact=compiled.artifact,
        manifest_sha256=compiled.manifest_sha256,
        compile_bundle=compile_bundle,
        dataset=request.dataset,
        reference=request.reference,
        plan=request.plan,
    )
    run = cast(
        "FlowRun",
        run_deployment(
            f"edge_run/{board.partner}",
            parameters={"board": board.name, "jobs": [job.model_dump(mode="json")]},
            idempotency_key=f"{runtime.flow_run.id}:{runtime.flow_run.run_count}:{board.name}",
            tags=[f"board:{board.name}", f"request:{request.request_id}"],
            timeout=timeout_s,
            poll_interval=0.5,
        ),
    )
    outcome = next((o for o in _read_outcomes(run) if o.job_id == job.job_id), None)
    if outcome is None:
        state = run.state
        why = (
            "no worker of the pool took it in time"
            if state is None or not state.is_final()
            else f"{state.name}: {state.message}"
        )
        raise TransientError(
            f"the edge run on {board.name} ended without a record ({why}); look at it in Prefect, then `vlab resume`"
        )
    if outcome.error:
        raise DeployError(outcome.error)
    journal = Journal(Settings.from_environment().runs / request.request_id / "boards" / board.name)
    for asset in (outcome.result, outcome.benchmark_bundle):
        if asset is not None:
            tracking.store_get(asset, journal.directory, url=Tracking.load("lab").url)
    get_run_logger().info("%s: %s", board.name, outcome.pending or "measured and signed")
    return outcome


def _read_outcomes(run: FlowRun) -> list[JobOutcome]:
    """What the edge run wrote into its record artifact; nothing where it wrote none."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[RECORD_KEY])
            )
        )
    return [JobOutcome.model_validate_json(row["outcome"]) for row in (json.loads(str(found[0].data)) if found else [])]
