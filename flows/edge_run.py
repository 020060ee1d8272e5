"""The edge run: beside a board, on the partner's own worker."""

from prefect import State, flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.concurrency.sync import concurrency
from prefect.states import Completed, Failed

from blocks.board import Board as BoardBlock
from tasks.deliver import deliver
from tasks.deploy import deploy
from tasks.measure import measure
from tasks.profile_kernels import KERNEL_PROFILE, profile_kernels
from tasks.run_on_board import RECORD_KEY
from tasks.sign import sign_benchmark
from vlab.errors import RefusedError, TransientError, VlabError
from vlab.records import Board, Job, JobOutcome
from vlab.settings import Settings


@flow(name="edge_run", flow_run_name="{board}")
def edge_run(board: str, jobs: list[Job]) -> State[None]:
    """Verify, deploy, measure and sign each job on one board; report digests.

    Args:
        board: name of the board's block, such as rv64gc-0.
        jobs: what to do, in order, as the benchmark flow writes it (see the parameters of an earlier run); a job that fails
            does not stop the next one.
    """
    known = BoardBlock.load(board).get_board()
    if known.partner != runtime.deployment.name:  # a worker signs for its own partner's boards alone
        raise RefusedError(f"board {board} belongs to {known.partner}, and this is a run of {runtime.deployment.name}")
    outcomes = [run_job(job, known) for job in jobs]
    create_table_artifact(
        key=RECORD_KEY,
        table=[{"job": o.job_id, "status": o.error or o.pending or "done", "outcome": o.model_dump_json()} for o in outcomes],
        description=f"{len(jobs)} jobs on {board}",
    )
    failed = [o for o in outcomes if o.error or o.pending]
    if failed:
        return Failed(message="; ".join(o.error or f"pending: {o.pending}" for o in failed))
    return Completed(message=f"{len(jobs)} measured and signed")


def run_job(job: Job, board: Board) -> JobOutcome:
    """One job, from wherever it was left: a measurement that is in the spool is not taken again."""
    spool = Settings.from_environment().home / "spool" / job.job_id
    result = spool / "result.json"
    profiled, trouble = spool / KERNEL_PROFILE, ""
    wanted = [result, profiled] if job.kernel_profile else [result]
    try:
        if not all(path.exists() for path in wanted):
            with concurrency(f"board-{board.name}", occupy=1, timeout_seconds=600, lease_duration=60, strict=True):
                if not all(path.exists() for path in wanted):  # another run of this job may have had the board meanwhile
                    artifact = deploy(job, board.target, spool)
                    if not result.exists():
                        measure(job, board, artifact, spool)
                    if job.kernel_profile:
                        trouble = profile_kernels(job, board, artifact, spool)
        bundle = sign_benchmark(spool, board.partner)
        return deliver(job, result, bundle, profiled, trouble)
    except TransientError as error:
        kept = "the measurement is kept on the worker" if result.exists() else "nothing was measured yet"
        get_run_logger().warning("%s: %s", kept, error)
        return JobOutcome(job_id=job.job_id, pending=f"{error} ({kept})")
    except VlabError as error:
        get_run_logger().error("%s", error)  # a refusal is an answer; its traceback says nothing
        return JobOutcome(job_id=job.job_id, error=str(error))
