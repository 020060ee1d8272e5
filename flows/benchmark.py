"""The benchmark flow: a model goes in, evidence comes out, one file for each board."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import State, flow, runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from pydantic import Field

from tasks.anchor import anchor
from tasks.compile import compile_model
from tasks.find_boards import find_boards
from tasks.log import attach_evidence, close_request, log_result
from tasks.open_request import open_request
from tasks.profile_kernels import KERNEL_PROFILE
from tasks.run_on_board import run_on_board
from tasks.sign import sign_compile
from vlab import targets as kinds
from vlab.errors import TransientError, VlabError
from vlab.records import (
    PENDING,
    Anchor,
    AssetRef,
    Board,
    BoardOutcome,
    CompileOptions,
    JobOutcome,
    KernelProfile,
    Report,
    Request,
    Result,
    request_id_of,
)
from vlab.reporting import as_markdown
from vlab.settings import Settings

RECORD_KEY = "benchmark-record"
"""Key of the Prefect artifact from which the client reads the report of a run."""

TargetChoice = Annotated[str, Field(json_schema_extra={"enum": sorted(kinds.known())})]

EarlierRequest = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9._-]{0,62})?$")]
"""Names a directory, so it is never a path; empty for a new request."""


RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=8)


def _run_name() -> str:
    run = runtime.flow_run
    return f"benchmark {run.parameters.get('request_id') or request_id_of(run.id)}"


@flow(name="benchmark", flow_run_name=_run_name, task_runner=RUNNER)
def benchmark(
    model: str,
    targets: list[TargetChoice] = ["riscv/rv64gc-linux", "arm/aarch64-linux"],  # noqa: B006  # never changed; shown in the form
    dataset: str = "",
    plan: Literal["smoke", "standard"] = "smoke",
    options: CompileOptions = CompileOptions(),  # noqa: B008  # frozen
    request_id: EarlierRequest = "",
    kernel_profile: bool = False,
) -> State[None]:
    """Compile a model for each target, measure it on partners' boards, sign, log and anchor what comes back.

    Args:
        model: ONNX or TFLite file on the lab's machine (or an asset that the client handed in).
        targets: kinds of board to measure on.
        dataset: npz file with inputs `x` and labels `y` on the lab's machine; empty for random inputs, without accuracy.
        plan: `smoke` supports the 90th percentile, `standard` the 99th.
        options: what to ask of the compiler.
        request_id: leave empty; names an earlier request to resume it.
        kernel_profile: whether boards profile the kernels too, in runs of their own after the measurement.
    """
    boards = find_boards(list(targets))
    request_id = request_id or request_id_of(runtime.flow_run.id)
    request = open_request(model, dataset, boards, plan, options, request_id, kernel_profile=kernel_profile)
    chains = {board.name: _start(request, board) for board in boards}
    troubles = {name: _trouble(chain) for name, chain in chains.items()}
    logged, anchored = _record(request, [name for name, trouble in troubles.items() if not trouble], troubles)
    outcomes = {name: _outcome(chain) for name, chain in chains.items()}
    report = Report(
        request_id=request.request_id,
        tracking_run_id=request.tracking_run_id,
        boards=tuple(
            BoardOutcome(
                board=board.info,
                compile_cached=chains[board.name][0].state.name == "Cached",
                evidence=logged.get(board.name),
                anchor=anchored if board.name in logged else None,
                kernel_profile=outcomes[board.name].kernel_profile,
                kernel_profile_trouble=outcomes[board.name].kernel_profile_trouble,
                trouble=troubles[board.name],
            )
            for board in boards
        ),
    )
    create_markdown_artifact(
        key="benchmark-report",
        markdown=as_markdown(report, _results(request, logged), _kernel_profiles(request, outcomes)),
        description="what came of each board",
    )
    close_request(request, complete=report.complete, return_state=True)
    create_table_artifact(key=RECORD_KEY, table=[{"report": report.to_json().decode()}], description="the same, for programs")
    if report.complete:
        return Completed(message=f"{len(boards)} boards measured, signed and anchored")
    words = "; ".join(f"{b.board.name}: {b.trouble}" for b in report.boards if b.trouble)
    if any(trouble.startswith(PENDING) for trouble in troubles.values()):
        words += f". What was measured is kept; finish with: vlab resume {request.request_id}"
    return Failed(message=words)


def _start(request: Request, board: Board) -> list[PrefectFuture[Any]]:
    """Compile, sign and run on the board; each waits for the one before, boards run side by side."""
    compiled: Any = compile_model.submit(request, board.target)
    bundle: Any = sign_compile.submit(request, compiled)
    return [compiled, bundle, run_on_board.submit(request, board, compiled, bundle)]


def _trouble(chain: list[PrefectFuture[Any]]) -> str:
    """Why a board has no delivered result; empty where it has one."""
    for future in chain:
        future.wait()
        if not future.state.is_completed():
            return _words(future.state)
    outcome = _outcome(chain)
    return f"{PENDING}{outcome.pending}" if outcome.pending else ""


def _outcome(chain: list[PrefectFuture[Any]]) -> JobOutcome:
    """What the edge run reported; nothing where it did not come to that."""
    outcome: JobOutcome = chain[-1].result() if chain[-1].state.is_completed() else JobOutcome(job_id="")
    return outcome


def _record(request: Request, boards: list[str], troubles: dict[str, str]) -> tuple[dict[str, AssetRef], Anchor | None]:
    """Log, anchor and attach what was delivered; a service that is down leaves its step pending and loses nothing."""
    if not boards:
        return {}, None
    logs: dict[str, Any] = {board: log_result.submit(request, board) for board in boards}
    anchored: Any = anchor.submit(request, boards)
    evidence = {board: attach_evidence.submit(request, board, logs[board], anchored) for board in boards}
    for board in boards:
        for step, future in (("log", logs[board]), ("anchor", anchored), ("attach evidence", evidence[board])):
            future.wait()
            if not future.state.is_completed():
                troubles[board] = f"{PENDING}{step}: {_words(future.state).removeprefix(PENDING)}"
                break
    held = {board: future.result() for board, future in evidence.items() if future.state.is_completed()}
    return held, anchored.result() if anchored.state.is_completed() else None


def _results(request: Request, boards: Iterable[str]) -> dict[str, Result]:
    journal = _boards_of(request)
    return {board: Result.from_json((journal / board / "result.json").read_bytes()) for board in boards}


def _kernel_profiles(request: Request, outcomes: dict[str, JobOutcome]) -> dict[str, KernelProfile]:
    journal = _boards_of(request)
    return {
        board: KernelProfile.from_json((journal / board / KERNEL_PROFILE).read_bytes())
        for board, outcome in outcomes.items()
        if outcome.kernel_profile
    }


def _boards_of(request: Request) -> Path:
    return Settings.from_environment().runs / request.request_id / "boards"


def _words(state: State[Any]) -> str:
    """What a failed task says for itself."""
    try:
        state.result()
    except TransientError as error:
        return f"{PENDING}{error}"
    except VlabError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # told to the operator, who finds the traceback in the task's log
        return f"{type(error).__name__}: {error}"
    return state.message or state.name or "unknown"
