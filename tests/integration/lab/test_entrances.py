"""What whoever can start a run may ask for: nothing outside the lab's own directories, and never the same job twice."""

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from tests.artifacts import DIGITS
from tests.integration.lab.conftest import LabUnderTest
from vlab import tracking
from vlab.errors import RefusedError
from vlab.records import AssetRef, FileRef, Job, JobOutcome, Request

DEADLINE_S = 180


@pytest.fixture
def prefect(lab: LabUnderTest) -> Iterator[SyncPrefectClient]:
    """The lab's Prefect server, as anybody who reaches it sees it."""
    with SyncPrefectClient(f"http://127.0.0.1:{lab.port_base}/api") as client:
        yield client


def ended(prefect: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """The run, once it has ended."""
    deadline = time.monotonic() + DEADLINE_S
    while run.state is None or not run.state.is_final():
        assert time.monotonic() < deadline, run.state
        time.sleep(0.3)
        run = prefect.read_flow_run(run.id)
    return run


def refusal(prefect: SyncPrefectClient, **parameters: Any) -> str:
    """How a benchmark started with these parameters fails, on the server or in the flow."""
    deployment = prefect.read_deployment_by_name("benchmark/lab")
    try:
        run = prefect.create_flow_run_from_deployment(
            deployment.id, parameters={"model": str(DIGITS), "targets": ["host/x86_64"], **parameters}
        )
    except PrefectHTTPStatusError as error:
        return error.response.text
    run = ended(prefect, run)

    assert run.state is not None
    assert run.state.is_failed()
    return str(run.state.message)


def test_request_stays_in_its_own_directory(lab: LabUnderTest, prefect: SyncPrefectClient, tmp_path: Path) -> None:
    """A request's name is a name, not a path."""
    for request_id in ("../escaped", "r-1/../../escaped", f"{tmp_path}/escaped"):
        refusal(prefect, request_id=request_id)

    assert [] == [path for path in (lab.home / "escaped", tmp_path / "escaped") if path.exists()]


@pytest.mark.parametrize("parameter", ["model", "dataset"])
def test_only_models_and_data_sets_leave_the_labs_machine(
    lab: LabUnderTest, prefect: SyncPrefectClient, parameter: str
) -> None:
    """A run may name files of the lab's machine, but what is no model or data set does not get into the artifact store."""
    secret = lab.home / "keys" / "chain.password"
    data = secret.read_bytes()
    digest = sha256(data).hexdigest()
    said = refusal(prefect, **{parameter: str(secret)})
    asset = AssetRef(
        uri=f"mlflow-artifacts:/assets/{digest}/{secret.name}",
        file=FileRef(name=secret.name, sha256=digest, size_bytes=len(data)),
    )

    assert data.decode().strip() not in said
    with pytest.raises(RefusedError, match="has no asset"):
        tracking.store_read(asset, url=f"http://127.0.0.1:{lab.port_base + 1}")


def test_a_job_that_is_asked_for_twice_at_once_is_measured_once(
    lab: LabUnderTest, prefect: SyncPrefectClient, benchmarked: dict[str, Any]
) -> None:
    """The second edge run waits for the board, finds the measurement of the first, and hands over the same bytes."""
    journal = lab.home / "runs" / benchmarked["report"]["request_id"]
    request = Request.from_json((journal / "request.json").read_bytes())
    compiled = json.loads((journal / "compile" / "host-x86_64" / "compiled.json").read_text())
    bundle = (journal / "compile" / "host-x86_64" / "compile.sigstore.json").read_bytes()
    job = Job(
        request_id=request.request_id,
        nonce="cd" * 32,
        model=request.model,
        artifact=AssetRef.model_validate(compiled["artifact"]),
        manifest_sha256=compiled["manifest_sha256"],
        compile_bundle=tracking.store_put(bundle, "compile.sigstore.json", url=f"http://127.0.0.1:{lab.port_base + 1}"),
        dataset=request.dataset,
        reference=request.reference,
        plan=request.plan,
    )
    deployment = prefect.read_deployment_by_name("edge_run/partner-b")
    parameters = {"board": "x86-0", "jobs": [job.model_dump(mode="json")]}
    runs = [prefect.create_flow_run_from_deployment(deployment.id, parameters=parameters) for _ in range(2)]
    outcomes = [outcome_of(prefect, ended(prefect, run)) for run in runs]

    assert outcomes[0].result is not None
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(("origin", "allowed"), [("http://evil.example", False), (None, True)], ids=["foreign", "own"])
def test_web_pages_of_others_do_not_reach_prefect(lab: LabUnderTest, origin: str | None, allowed: bool) -> None:
    """A page that is open in a browser on the lab's machine can neither read from the server nor start a run."""
    own = f"http://127.0.0.1:{lab.port_base}"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    answer = httpx.options(f"{own}/api/flow_runs/filter", headers={"Origin": origin or own, **asked}, timeout=30)

    assert (own if allowed else None) == answer.headers.get("access-control-allow-origin")


def test_a_proxy_for_the_world_is_not_asked_for_this_machine(lab: LabUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a proxy the lab's own addresses are still reached directly."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    assert isinstance(lab.json("runs"), list)


def outcome_of(prefect: SyncPrefectClient, run: FlowRun) -> JobOutcome:
    """What an edge run reports of its one job."""
    [found] = prefect.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=["edge-record"])
        )
    )
    return JobOutcome.model_validate_json(json.loads(str(found.data))[0]["outcome"])
