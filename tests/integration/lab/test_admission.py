"""The edge run lets nothing onto a board that the lab has not signed as it is."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.integration.lab.conftest import LabUnderTest
from vlab import tracking
from vlab.records import AssetRef, Job, Request

BOARD, TARGET, PARTNER = "x86-0", "host-x86_64", "partner-b"


@pytest.fixture
def job(lab: LabUnderTest, benchmarked: dict[str, Any]) -> Job:
    """The job of a finished request under a new nonce, so that it has to run again."""
    run = lab.home / "runs" / benchmarked["report"]["request_id"]
    request = Request.from_json((run / "request.json").read_bytes())
    compiled = json.loads((run / "compile" / TARGET / "compiled.json").read_text())
    bundle = (run / "compile" / TARGET / "compile.sigstore.json").read_bytes()
    return Job(
        request_id=request.request_id,
        nonce="ab" * 32,
        model=request.model,
        artifact=AssetRef.model_validate(compiled["artifact"]),
        manifest_sha256=compiled["manifest_sha256"],
        compile_bundle=stored(lab, bundle, "compile.sigstore.json"),
        dataset=request.dataset,
        reference=request.reference,
        plan=request.plan,
    )


def stored(lab: LabUnderTest, data: bytes, name: str) -> AssetRef:
    """Bytes in the lab's artifact store."""
    return tracking.store_put(data, name, url=f"http://127.0.0.1:{lab.port_base + 1}")


def refusal(lab: LabUnderTest, job: Job) -> str:
    """How an edge run for the job ends; it must end as failed, and nothing may have been executed."""
    with SyncPrefectClient(f"http://127.0.0.1:{lab.port_base}/api") as client:
        deployment = client.read_deployment_by_name(f"edge_run/{PARTNER}")
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters={"board": BOARD, "jobs": [job.model_dump(mode="json")]}
        )
        deadline = time.monotonic() + 120
        while run.state is None or not run.state.is_final():
            assert time.monotonic() < deadline, run.state
            time.sleep(0.3)
            run = client.read_flow_run(run.id)
    spool = lab.home / "partners" / PARTNER / "spool" / job.job_id

    assert run.state.is_failed()
    assert not (spool / "work").exists()
    assert not (spool / "result.json").exists()
    return str(run.state.message)


def test_bundle_of_another_signer_is_refused(lab: LabUnderTest, job: Job, evidence: Path) -> None:
    """A genuine bundle, signed by a partner instead of the lab."""
    foreign = json.loads(evidence.read_text())["benchmark_bundle"].encode()

    said = refusal(lab, job.model_copy(update={"compile_bundle": stored(lab, foreign, "compile.sigstore.json")}))

    assert "spiffe://vlab.local/lab" in said


def test_artifact_of_another_digest_is_refused(lab: LabUnderTest, job: Job) -> None:
    """An artifact with one byte changed in its executable."""
    url = f"http://127.0.0.1:{lab.port_base + 1}"
    archive = bytearray(tracking.store_read(job.artifact, url=url))
    at = archive.index(b"\x7fELF") + 4096
    archive[at] ^= 1

    said = refusal(lab, job.model_copy(update={"artifact": stored(lab, bytes(archive), "host-x86_64.tar")}))

    assert "sha256" in said


def test_artifact_for_another_target_is_refused(lab: LabUnderTest, job: Job, benchmarked: dict[str, Any]) -> None:
    """A well-signed artifact for RISC-V does not get onto an x86 board."""
    run = lab.home / "runs" / benchmarked["report"]["request_id"] / "compile" / "riscv-rv64gc-linux"
    compiled = json.loads((run / "compiled.json").read_text())
    bundle = stored(lab, (run / "compile.sigstore.json").read_bytes(), "compile.sigstore.json")

    said = refusal(
        lab,
        job.model_copy(
            update={
                "artifact": AssetRef.model_validate(compiled["artifact"]),
                "manifest_sha256": compiled["manifest_sha256"],
                "compile_bundle": bundle,
            }
        ),
    )

    assert "riscv/rv64gc-linux" in said
