"""Runs: one parent for each request, one child for each result. The only module that imports MLflow, and only when called."""

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlab.errors import RefusedError, ServiceDownError
from vlab.records import KernelProfile, Result
from vlab.tracking.figures import kernel_profile_csv, metrics_of, params_of, tags_of
from vlab.tracking.store import STALL_TIMEOUT_S, is_server, local_root

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "vlab"
"""The MLflow experiment all runs are in."""

MAX_STEPPED_SAMPLES = 1000
"""Most samples drawn as a metric; more stay in the attached file (MLflow takes 1000 metrics a request)."""

_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class LoggedRun:
    """One run as the tracking server knows it."""

    run_id: str
    parent_run_id: str | None
    name: str
    status: str
    """RUNNING, FINISHED or FAILED."""
    started_ms: int
    """Start in milliseconds since 1970."""
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    """Without MLflow's own."""


def start_request(
    request_id: str, *, url: str, params: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None
) -> str:
    """The parent run of a request; made the first time, found afterwards.

    Args:
        request_id: the request; also the run's name.
        url: the tracking URL.
        params: what was asked for, such as model and plan.
        tags: digests to find the run by.

    Returns:
        The run's id.

    Raises:
        ServiceDownError: the server does not answer.
    """
    own = {"vlab.kind": "request", "vlab.request_id": request_id}
    with _client(url) as client:
        found = _find(client, url, own)
        run_id = found.run_id if found else _create(client, url, request_id, {**own, **(tags or {})})
        client.log_batch(run_id, params=_params(params or {}))
        return run_id


def finish_request(run_id: str, *, url: str, failed: bool = False) -> None:
    """Close a request's run.

    Raises:
        ServiceDownError: the server does not answer.
    """
    with _client(url) as client:
        client.set_terminated(run_id, status="FAILED" if failed else "FINISHED")


def log_result(
    parent_run_id: str,
    result: Result,
    *,
    url: str,
    files: Mapping[str, Path] | None = None,
    tags: Mapping[str, str] | None = None,
    kernel_profile: KernelProfile | None = None,
) -> str:
    """One child run with everything about one result; logging the same result again completes it, never doubles it.

    Args:
        parent_run_id: from `start_request`.
        result: what the board reported.
        url: the tracking URL.
        files: what to attach, by file name: bundles, evidence. `result.json` and `latency_ns.csv`, the raw samples, are added.
        tags: further tags, such as digests of the bundles.
        kernel_profile: where an inference spends its time; `kernel_profile.json` and, as a table, `kernel_profile.csv`.

    Returns:
        The run's id.

    Raises:
        ServiceDownError: the server does not answer.
    """
    from mlflow.entities import Metric

    samples = result.measurement.samples_ns
    own = tags_of(result)
    identity = {key: own[key] for key in ("vlab.kind", "vlab.request_id", "vlab.board", "vlab.result_sha256")}
    # The result's own time, not the clock's: MLflow drops a point it already has, so a repeated call adds nothing.
    when = int(datetime.fromisoformat(result.finished_on).timestamp() * 1000)
    with _client(url) as client:
        found = _find(client, url, identity)
        if found and found.status == "FINISHED":
            return found.run_id
        everything = {**own, "mlflow.parentRunId": parent_run_id, **(tags or {})}
        run_id = found.run_id if found else _create(client, url, f"{result.request_id}-{result.board.name}", everything)
        points = [Metric(name, value, when, 0) for name, value in metrics_of(result).items()]
        client.log_batch(run_id, metrics=points, params=_params(params_of(result)))
        if len(samples) <= MAX_STEPPED_SAMPLES:
            client.log_batch(run_id, metrics=[Metric("latency_ns", ns, when, step) for step, ns in enumerate(samples)])
        texts = {"result.json": result.to_json().decode(), "latency_ns.csv": "\n".join(["latency_ns", *map(str, samples), ""])}
        if kernel_profile is not None:
            texts |= {
                "kernel_profile.json": kernel_profile.to_json().decode(),
                "kernel_profile.csv": kernel_profile_csv(kernel_profile),
            }
        for name, text in texts.items():
            client.log_text(run_id, text, name)
        _attach(client, run_id, files or {})
        client.set_terminated(run_id)
        return run_id


def attach(run_id: str, *, url: str, files: Mapping[str, Path] | None = None, tags: Mapping[str, str] | None = None) -> None:
    """Add files, by name, and tags to a run, such as the evidence once it is anchored.

    Raises:
        ServiceDownError: the server does not answer.
    """
    from mlflow.entities import RunTag

    with _client(url) as client:
        _attach(client, run_id, files or {})
        if tags:
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def search(*, url: str, tags: Mapping[str, str] | None = None, limit: int = 100) -> list[LoggedRun]:
    """Runs that have all the given tags, newest first.

    Args:
        url: the tracking URL.
        tags: such as `{"vlab.kind": "board", "vlab.request_id": …}`; none for all runs.
        limit: at most this many.

    Raises:
        ServiceDownError: the server does not answer.
    """
    with _client(url) as client:
        return _search(client, url, tags or {}, limit)


@contextmanager
def _client(url: str) -> Iterator["MlflowClient"]:
    """An MLflow client with deadlines; its errors come out as ours.

    A dead server is found by one plain request first: the library takes seconds to import and hides the address in its error.
    """
    if is_server(url):
        try:
            urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_CONNECT_TIMEOUT_S).close()  # noqa: S310
        except (OSError, HTTPException) as error:
            raise ServiceDownError("MLflow", url, getattr(error, "reason", error)) from error
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(int(STALL_TIMEOUT_S)))
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    if not is_server(url):
        local_root(url).mkdir(parents=True, exist_ok=True)
    try:
        yield MlflowClient(tracking_uri=url if is_server(url) else f"sqlite:///{local_root(url) / 'mlflow.db'}")
    except MlflowException as error:
        if error.get_http_status_code() < 500:
            raise RefusedError(f"MLflow at {url} refused: {error.message}") from error
        raise ServiceDownError("MLflow", url, error.message) from error


def _experiment(client: "MlflowClient", url: str) -> str:
    """The id of our experiment, made on first use."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        place = None if is_server(url) else (local_root(url) / "artifacts").as_uri()
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=place))
        except MlflowException:  # somebody else made it in between
            found = client.get_experiment_by_name(EXPERIMENT)
    if found is None or found.lifecycle_stage == "deleted":
        raise RefusedError(f"the experiment {EXPERIMENT} was deleted in MLflow at {url}; restore it there")
    return str(found.experiment_id)


def _create(client: "MlflowClient", url: str, name: str, tags: Mapping[str, str]) -> str:
    return str(client.create_run(_experiment(client, url), run_name=name, tags=dict(tags)).info.run_id)


def _search(client: "MlflowClient", url: str, tags: Mapping[str, str], limit: int) -> list[LoggedRun]:
    for value in tags.values():
        if "'" in value or "\\" in value:  # the filter language has no escapes
            raise RefusedError(f"tag value {value!r}: quotes and backslashes cannot be searched for")
    terms = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    found = client.search_runs([_experiment(client, url)], terms, max_results=limit)
    return [_logged(run) for run in found]


def _find(client: "MlflowClient", url: str, tags: Mapping[str, str]) -> LoggedRun | None:
    return next(iter(_search(client, url, tags, 1)), None)


def _logged(run: Any) -> LoggedRun:
    return LoggedRun(
        run_id=run.info.run_id,
        parent_run_id=run.data.tags.get("mlflow.parentRunId"),
        name=run.info.run_name,
        status=run.info.status,
        started_ms=run.info.start_time,
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
        tags={key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")},
    )


def _params(params: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, value) for key, value in params.items()]


def _attach(client: "MlflowClient", run_id: str, files: Mapping[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name, path in files.items():
            if Path(name).name != name:
                raise RefusedError(f"attachment {name!r}: expected a plain file name")
            client.log_artifact(run_id, shutil.copy(path, Path(directory) / name))
