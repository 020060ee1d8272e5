"""Whether a service answers, asked with plain HTTP: loading its client library would take longer than the answer."""

import json
import time
import urllib.request
from datetime import datetime
from http.client import HTTPException
from typing import Any

from vlab.errors import ServiceDownError

PROBE_TIMEOUT_S = 5.0
PATIENCE_S = 20.0

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


def ask(url: str, body: Any = None, *, method: str | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> Any:
    """The JSON (or text) that an address answers; a body makes it a POST, unless `method` says otherwise.

    Raises:
        OSError: no answer, or one that says it failed.
        ValueError: the answer is not JSON though it says so.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)  # noqa: S310 - our own addresses
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            text = answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
    except HTTPException as error:
        raise OSError(str(error)) from error
    return json.loads(text) if is_json else text.decode(errors="replace")


def prefect_answers(url: str) -> bool:
    """Prefect's server."""
    return _answers(f"{url}/api/health")


def mlflow_answers(url: str) -> bool:
    """MLflow's server."""
    return _answers(f"{url}/health")


def sigstore_answers(url: str) -> bool:
    """The local Sigstore instance, by its OIDC discovery document."""
    return _answers(f"{url}/.well-known/openid-configuration")


def chain_answers(url: str) -> bool:
    """The development chain."""
    return _answers(url, {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})


def worker_is_online(prefect_url: str, pool: str, since: float) -> bool:
    """Whether the server had a heartbeat of the pool's worker later than `since`, seconds since 1970."""
    try:
        workers = ask(f"{prefect_url}/api/work_pools/{pool}/workers/filter", {"workers": {"status": {"any_": ["ONLINE"]}}})
    except (OSError, ValueError):
        return False
    beats = [datetime.fromisoformat(worker["last_heartbeat_time"]) for worker in workers if worker["name"] == pool]
    return any(beat.timestamp() >= since for beat in beats)


def crash_lost_runs(prefect_url: str, why: str) -> int:
    """Mark the runs whose processes are known to be gone as crashed; returns how many.

    Raises:
        ServiceDownError: the server does not answer.
    """
    gone = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}, "limit": 200}
    runs = _insist(f"{prefect_url}/api/flow_runs/filter", gone)
    for run in runs:
        state = {"state": {"type": "CRASHED", "name": "Crashed", "message": why}, "force": True}
        _insist(f"{prefect_url}/api/flow_runs/{run['id']}/set_state", state)
    return len(runs)


def free_boards(prefect_url: str) -> None:
    """Give back every slot of every limit: for a lab none of whose workers lives, so that nobody can hold one.

    Raises:
        ServiceDownError: the server does not answer.
    """
    for limit in _insist(f"{prefect_url}/api/v2/concurrency_limits/filter", {}):
        if limit["active_slots"]:
            _insist(f"{prefect_url}/api/v2/concurrency_limits/{limit['id']}", {"active_slots": 0}, method="PATCH")


def _insist(url: str, body: Any, *, method: str | None = None) -> Any:
    """Ask until there is an answer: a server that has just come up is busy with itself, and its database locked."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask(url, body, method=method)
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise ServiceDownError("Prefect", url, error) from error
            time.sleep(0.5)


def _answers(url: str, body: Any = None) -> bool:
    try:
        ask(url, body)
    except (OSError, ValueError):
        return False
    return True
