"""The notebook's door: hand in a model, wait, read the figures, verify the evidence. The only module that imports Prefect."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

from vlab import targets as kinds
from vlab import tracking, verifying
from vlab.errors import EvidenceError, RefusedError, ServiceDownError, TransientError
from vlab.records import MOST_THREADS, CompileOptions, Evidence, KernelProfile, Plan, Report, Result, request_id_of
from vlab.settings import Settings, no_proxy

if TYPE_CHECKING:
    import pandas as pd
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_log = logging.getLogger(__name__)

DEPLOYMENT = "benchmark/lab"
STEPS_EACH_BOARD = ("compile ", "sign compile ", "run on ", "log ", "attach evidence ")
STEPS_ONCE = ("find boards", "open request", "anchor", "close request")
DEADLINE_S = 30.0
"""Longest wait for one answer of the Prefect server."""


@dataclass(frozen=True)
class Step:
    """One finished step of a run."""

    name: str
    """Task and what it worked on, such as `compile riscv/rv64gc-linux`."""
    state: str
    """Completed, Cached, Failed, Crashed or Cancelled."""
    seconds: float
    """How long it took, waiting excluded."""
    total: int
    """How many steps the run has, as far as its boards are known."""


@dataclass(frozen=True)
class RunSummary:
    """One line of `vlab runs`."""

    request_id: str
    state: str
    message: str
    targets: tuple[str, ...]
    started_on: str
    """RFC 3339 in UTC; empty while the run waits for a worker."""


class Lab:
    """A lab, by the profile it publishes.

    Args:
        profile: the lab's profile; default: the local lab's, as `vlab up` wrote it.
    """

    def __init__(self, profile: Path | None = None) -> None:
        self.profile_path = profile or Settings.from_environment().profile
        self.profile = verifying.read_profile(self.profile_path)
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = no_proxy(os.environ)

    def benchmark(
        self,
        model: str | Path,
        targets: Sequence[str],
        *,
        dataset: str | Path | None = None,
        plan: Literal["smoke", "standard"] = "standard",
        shapes: dict[str, tuple[int, ...]] | None = None,
        threads: int = 1,
        kernel_profile: bool = False,
    ) -> Run:
        """Hand in a model and start a run; returns at once.

        Args:
            model: an ONNX or TFLite file.
            targets: kinds of board, such as `riscv/rv64gc-linux`; see `vlab targets`.
            dataset: npz file with inputs `x` [N, ...] and labels `y` [N]; without it inputs are random and accuracy is null.
            plan: `smoke` supports the 90th percentile, `standard` the 99th.
            shapes: shapes of inputs whose dimensions the model leaves free.
            threads: that share the loops of large kernels, on boards with Linux.
            kernel_profile: whether boards profile the kernels too, in runs of their own after the measurement.

        Raises:
            RefusedError: the model, the data set, a target or the plan is not usable; nothing was started.
            TransientError: the lab does not answer.
        """
        if not targets:
            raise RefusedError("no target was named, expected at least one; `vlab targets` lists them")
        for name in targets:
            kinds.load(name)
        if not 1 <= threads <= MOST_THREADS:
            raise RefusedError(f"got {threads} threads, expected 1 to {MOST_THREADS}")
        Plan.named(plan)
        request_id = f"r-{uuid4().hex[:12]}"
        parameters: dict[str, Any] = {
            "model": self._hand_in(model, "model"),
            "targets": list(dict.fromkeys(targets)),
            "dataset": self._hand_in(dataset, "data set") if dataset else "",
            "plan": plan,
            "options": CompileOptions(shapes=shapes or {}, threads=threads).model_dump(mode="json"),
            "request_id": request_id,
            "kernel_profile": kernel_profile,
        }
        return self._start(request_id, parameters)

    def run(self, request_id: str) -> Run:
        """An earlier run, in its latest attempt.

        Raises:
            RefusedError: this lab knows no such request.
        """
        return Run(self, request_id, self._latest(request_id).id)

    def resume(self, request_id: str) -> Run:
        """Finish what is pending of an earlier run; what was measured is not measured again.

        A run that is complete, or still on its way, is taken as it is.

        Raises:
            RefusedError: this lab knows no such request.
        """
        latest = self._latest(request_id)
        if latest.state is not None and (latest.state.is_completed() or not latest.state.is_final()):
            return Run(self, request_id, latest.id)
        return self._start(request_id, {**latest.parameters, "request_id": request_id})

    def runs(self, limit: int = 20) -> list[RunSummary]:
        """The latest runs, newest first, one entry for each request."""
        with self._prefect() as client:
            found = _attempts(client)
        latest: dict[str, FlowRun] = {}
        for run in found:
            latest.setdefault(_request_of(run), run)
        return [
            RunSummary(
                request_id=name,
                state=run.state.name or "" if run.state else "",
                message=run.state.message or "" if run.state else "",
                targets=tuple(run.parameters.get("targets", ())),
                started_on=run.start_time.strftime("%Y-%m-%dT%H:%M:%SZ") if run.start_time else "",
            )
            for name, run in list(latest.items())[:limit]
        ]

    def _latest(self, request_id: str) -> FlowRun:
        """The latest attempt at a request."""
        with self._prefect() as client:
            found = next((run for run in _attempts(client) if _request_of(run) == request_id), None)
        if found is None:
            raise RefusedError(f"this lab knows no run {request_id!r}; `vlab runs` lists them")
        return found

    def _hand_in(self, path: str | Path, what: str) -> str:
        """Check a file here, where its owner sees the error, and put it into the store; returns its reference as JSON."""
        file = Path(path).expanduser()
        if not file.is_file():
            raise RefusedError(
                f"there is no {what} at {path}; got {'a directory' if file.is_dir() else 'nothing'}, expected a file"
            )
        with tempfile.TemporaryDirectory() as folder:
            if what == "model":
                from vlab import compiling

                gathered = compiling.gather(file, Path(folder))
                file = gathered.path
                if gathered.notice:
                    _log.warning("%s: %s", file.name, gathered.notice)
            else:
                from vlab import measuring

                measuring.load_dataset(file)
            return tracking.store_put(file, file.name, url=self.profile.tracking_url).model_dump_json()

    def _start(self, request_id: str, parameters: dict[str, Any]) -> Run:
        with self._prefect() as client:
            deployment = client.read_deployment_by_name(DEPLOYMENT)
            run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters, tags=[request_id])
        return Run(self, request_id, run.id)

    @contextlib.contextmanager
    def _prefect(self) -> Iterator[SyncPrefectClient]:
        """A client of this lab's server, whatever profile the user's own Prefect has."""
        os.environ.setdefault("DO_NOT_TRACK", "1")  # read when prefect is imported: runs are nobody else's business
        import httpx
        from prefect.client.orchestration import SyncPrefectClient
        from prefect.exceptions import ObjectNotFound

        url = self.profile.prefect_api_url
        try:
            with SyncPrefectClient(url, httpx_settings={"timeout": httpx.Timeout(DEADLINE_S)}) as client:
                yield client
        except httpx.HTTPStatusError as error:
            raise TransientError(
                f"Prefect at {url} answered {error.response.status_code}: {error.response.text[:200]}"
            ) from error
        except httpx.HTTPError as error:
            raise ServiceDownError("Prefect", url, error or type(error).__name__) from error
        except ObjectNotFound as error:
            raise RefusedError(f"Prefect at {url} has no deployment {DEPLOYMENT}; `vlab up` creates it") from error


@dataclass
class Run:
    """One request on its way, or at its end."""

    lab: Lab
    request_id: str
    flow_run_id: UUID
    _report: Report | None = field(default=None, repr=False)

    def wait(self, *, timeout_s: float | None = None, on_step: Callable[[Step], None] | None = None) -> Report:
        """Wait for the end; returns what came of each board, also where a part of it failed.

        Args:
            timeout_s: give up waiting after this long; the run goes on.
            on_step: called for each finished step.

        Raises:
            RefusedError: the run ended before any board was asked, with the reason.
            TransientError: the lab does not answer, or the run takes longer than `timeout_s`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        told: set[UUID] = set()
        while True:
            with self.lab._prefect() as client:  # noqa: SLF001
                run = client.read_flow_run(self.flow_run_id)
                if on_step:
                    for step_id, step in _finished_steps(client, self.flow_run_id):
                        if step_id not in told:
                            told.add(step_id)
                            on_step(step)
            if run.state is not None and run.state.is_final():
                return self._read_report(run)
            if deadline is not None and time.monotonic() > deadline:
                raise TransientError(
                    f"run {self.request_id} is not finished after {timeout_s:g} s; it goes on, see `vlab runs`"
                )
            time.sleep(0.5)

    def report(self) -> Report:
        """What came of each board; the run must have ended."""
        if self._report is None:
            return self.wait()
        return self._report

    def evidence(self) -> dict[str, bytes]:
        """The evidence file of each board that has one, by board name.

        Raises:
            EvidenceError: the lab handed over evidence of something else than this request on that board.
        """
        url = self.lab.profile.tracking_url
        found: dict[str, bytes] = {}
        for outcome in self.report().boards:
            if outcome.evidence is not None:
                data = tracking.store_read(outcome.evidence, url=url, max_bytes=verifying.MAX_EVIDENCE_BYTES)
                result = Result.from_json(Evidence.from_json(data).result)
                if (result.request_id, result.board) != (self.request_id, outcome.board):
                    raise EvidenceError(
                        f"the lab handed over evidence of request {result.request_id} on {result.board.name}, expected "
                        f"{self.request_id} on {outcome.board.name}; do not use it, and ask the lab"
                    )
                found[outcome.board.name] = data
        return found

    def kernel_profiles(self) -> dict[str, KernelProfile]:
        """Where an inference spends its time on each board that was asked for it, by board name; unsigned."""
        url = self.lab.profile.tracking_url
        return {
            outcome.board.name: KernelProfile.from_json(
                tracking.store_read(outcome.kernel_profile, url=url, max_bytes=verifying.MAX_EVIDENCE_BYTES)
            )
            for outcome in self.report().boards
            if outcome.kernel_profile is not None
        }

    def measured(self) -> dict[str, Result]:
        """The result of each board that has evidence, by board name; unverified, see `verify`."""
        return {board: Result.from_json(Evidence.from_json(data).result) for board, data in self.evidence().items()}

    def results(self) -> pd.DataFrame:
        """One row a board, columns named as in the record; unverified, see `verify`."""
        import pandas as pd

        return pd.DataFrame([_row(result) for result in self.measured().values()])

    def verify(self) -> dict[str, verifying.Verification]:
        """Verify each board's evidence against the pinned profile."""
        return {board: verifying.verify_evidence(data, self.lab.profile_path) for board, data in self.evidence().items()}

    def _read_report(self, run: FlowRun) -> Report:
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

        with self.lab._prefect() as client:  # noqa: SLF001
            found = client.read_artifacts(
                artifact_filter=ArtifactFilter(
                    flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=["benchmark-record"])
                )
            )
        if not found:
            state = run.state
            why = "unknown" if state is None else (state.message or state.name or "unknown")
            why = re.sub(r"^Flow run encountered an exception: (\w+Error: )?", "", why)
            raise RefusedError(f"run {self.request_id} ended before any board was asked: {why}")
        self._report = Report.from_json(json.loads(str(found[0].data))[0]["report"])
        return self._report


def _request_of(run: FlowRun) -> str:
    """The request that a run works at, also where it was started from the UI."""
    return str(run.parameters.get("request_id") or request_id_of(run.id))


def _attempts(client: SyncPrefectClient) -> list[FlowRun]:
    """The latest runs of the benchmark deployment, newest first."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    deployment = client.read_deployment_by_name(DEPLOYMENT)
    return client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=200,
    )


def _finished_steps(client: SyncPrefectClient, flow_run_id: UUID) -> list[tuple[UUID, Step]]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    runs = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])), sort=TaskRunSort.END_TIME_DESC, limit=200
    )
    boards = sum(run.name.startswith(STEPS_EACH_BOARD[0]) for run in runs)
    total = boards * len(STEPS_EACH_BOARD) + len(STEPS_ONCE)
    finished = [run for run in runs if run.state is not None and run.state.is_final()]
    return [
        (run.id, Step(run.name, run.state.name or "", run.total_run_time.total_seconds(), total))
        for run in sorted(finished, key=lambda run: str(run.end_time))
        if run.state is not None and run.name.startswith((*STEPS_EACH_BOARD, *STEPS_ONCE))
    ]


def _row(result: Result) -> dict[str, object]:
    m = result.measurement
    row: dict[str, object] = {
        "target": result.board.target,
        "board": result.board.name,
        "partner": result.board.partner,
        "emulated": result.board.emulated,
        "accuracy": m.accuracy,
    }
    for name in ("p50_ns", "p90_ns", "p99_ns"):
        figure = getattr(m.latency, name)
        row |= {f"latency_{name}": figure.value, f"latency_{name}_lower": figure.lower, f"latency_{name}_upper": figure.upper}
    return row | {
        "samples": m.latency.n,
        "instructions_per_inference": m.instructions_per_inference,
        "artifact_bytes": result.manifest.artifact_bytes,
        "ram_peak_bytes": m.ram_peak_bytes,
        "quality": str(m.quality),
        "quality_reasons": ", ".join(m.quality_reasons),
        "model_sha256": result.model.sha256,
        "manifest_sha256": result.manifest_sha256,
    }
