"""Start an edge run through a partner's work pool, wait for it, and bring its results into the request's journal."""

import json
from pathlib import Path
from typing import cast

from prefect import State, get_run_logger, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import Completed

from blocks.tracking import Tracking
from tasks.compile import Compiled
from tasks.profile_kernels import KERNEL_PROFILE
from vlab import signing, tracking, verifying
from vlab.errors import DeployError, TransientError
from vlab.journal import Journal
from vlab.records import AssetRef, Board, BoardInfo, Job, JobOutcome, Request
from vlab.settings import Settings

RECORD_KEY = "edge-record"
"""Key of the Prefect artifact in which an edge run reports; a row in the server, so it crosses machines."""


@task(task_run_name="run on {board.name}")
def run_on_board(
    request: Request, board: Board, compiled: Compiled, compile_bundle: AssetRef, timeout_s: float = 1800
) -> JobOutcome | State[JobOutcome]:
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
        kernel_profile=request.kernel_profile,
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
    if not outcome.pending:
        settings = Settings.from_environment()
        journal = Journal(settings.runs / request.request_id / "boards" / board.name)
        bring_home(outcome, job, board.info, journal, store=Tracking.load("lab").url, profile=settings.profile)
    get_run_logger().info("%s: %s", board.name, outcome.pending or "measured, signed, and what was asked for")
    return Completed(name="Undelivered", data=outcome) if outcome.pending else outcome


def bring_home(outcome: JobOutcome, job: Job, board: BoardInfo, journal: Journal, *, store: str, profile: Path) -> None:
    """Fetch a result and its bundle, and keep them only if they answer this job: a worker may hand back anything.

    Args:
        outcome: what the edge run reported.
        job: what it was asked for.
        board: the board it was asked of.
        journal: where both are kept, under the lab's own names.
        store: the tracking URL.
        profile: the lab's profile.

    Raises:
        DeployError: there is neither a result nor a reason.
        EvidenceError: what was handed back is something else than what was asked for; nothing is kept.
    """
    if outcome.result is None or outcome.benchmark_bundle is None:
        raise DeployError(f"the edge run on {board.name} reports neither a result nor why there is none; look at it in Prefect")
    result = tracking.store_read(outcome.result, url=store, max_bytes=verifying.MAX_EVIDENCE_BYTES)
    bundle = tracking.store_read(outcome.benchmark_bundle, url=store, max_bytes=signing.MAX_BUNDLE_BYTES)
    verifying.check_delivery(result, bundle, job, board, profile)
    if outcome.kernel_profile is not None:
        profile_of_kernels = tracking.store_read(outcome.kernel_profile, url=store, max_bytes=verifying.MAX_EVIDENCE_BYTES)
        verifying.check_kernel_profile(profile_of_kernels, job, board)
        journal.write(KERNEL_PROFILE, profile_of_kernels)
    journal.write("result.json", result)
    journal.write("benchmark.sigstore.json", bundle)


def _read_outcomes(run: FlowRun) -> list[JobOutcome]:
    """What the edge run wrote into its record artifact; nothing where it wrote none."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[RECORD_KEY])
            )
        )
    return [JobOutcome.from_json(row["outcome"]) for row in (json.loads(str(found[0].data)) if found else [])]
