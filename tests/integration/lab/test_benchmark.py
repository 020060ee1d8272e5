"""From a model to verified, anchored evidence, as a user sees it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.artifacts import DIGITS, DIGITS_TEST
from tests.integration.lab.conftest import TARGETS, LabUnderTest
from vlab.records import Evidence, Result


def test_every_target_ends_in_evidence(benchmarked: dict[str, Any]) -> None:
    """One evidence file for each board, and a report that names each target once."""
    boards = benchmarked["report"]["boards"]

    assert sorted(TARGETS) == sorted(board["board"]["target"] for board in boards)
    assert [""] * len(boards) == [board["trouble"] for board in boards]
    assert all(Path(path).is_file() for path in benchmarked["evidence_files"].values())


def test_accuracy_on_the_boards_is_that_of_the_reference_runtime(benchmarked: dict[str, Any]) -> None:
    """The same binary that was timed classifies the whole test set as ONNX Runtime does."""
    data = np.load(DIGITS_TEST)
    session = onnxruntime.InferenceSession(DIGITS)
    name = session.get_inputs()[0].name
    predicted = [int(np.argmax(session.run(None, {name: x[None]})[0])) for x in data["x"]]
    expected = float(np.mean(np.array(predicted) == data["y"]))

    assert [pytest.approx(expected)] * len(TARGETS) == [row["accuracy"] for row in benchmarked["results"]]


def test_instructions_are_counted_on_emulated_boards_only(benchmarked: dict[str, Any]) -> None:
    """An exact count from the emulator; null on hardware; vector code needs fewer instructions than scalar code."""
    counts = {row["target"]: row["instructions_per_inference"] for row in benchmarked["results"]}

    assert {"host/x86_64"} == {target for target, count in counts.items() if count is None or np.isnan(count)}
    assert 0 < counts["riscv/rv64gcv-linux"] < counts["riscv/rv64gc-linux"]


def test_result_carries_raw_samples_and_a_verdict(evidence: Path) -> None:
    """The plan's minimum of samples, a supported p90, an unsupported p99 that is null and says what it needs."""
    result = Result.from_json(Evidence.from_json(evidence.read_bytes()).result)
    latency = result.measurement.latency

    assert len(result.measurement.samples_ns) >= result.plan.samples_min_count
    assert latency.p90_ns.supported
    assert latency.p90_ns.lower <= latency.p90_ns.value <= latency.p90_ns.upper
    assert result.measurement.quality in ("valid", "degraded")
    assert result.measurement.outputs_sha256


def test_every_evidence_file_verifies(lab: LabUnderTest, benchmarked: dict[str, Any]) -> None:
    """Every check of every file passes, and the command says so by its exit code."""
    reports = lab.json("verify", *benchmarked["evidence_files"].values())

    assert [True] * len(TARGETS) == [report["verified"] for report in reports.values()]


def test_second_run_takes_artifacts_from_the_compile_cache(
    lab: LabUnderTest, benchmarked: dict[str, Any], tmp_path: Path
) -> None:
    """The same model, target, data set and toolchain are compiled once, and the user is told."""
    words = ("--dataset", DIGITS_TEST, "--plan", "smoke", "--target", TARGETS[0], "--out", tmp_path)
    done = lab.vlab("benchmark", DIGITS, *words)

    assert "from the compile cache" in done.stderr
    assert 1 == len(list(tmp_path.glob("*.evidence.json")))


def test_sdk_gives_a_data_frame_and_verifies(lab: LabUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's five lines; without a data set accuracy is missing, not guessed."""
    from vlab import Lab

    run = Lab(lab.home / "lab.json").benchmark(str(DIGITS), targets=["riscv/rv64gc-linux"], plan="smoke")
    run.wait(timeout_s=180)
    frame = run.results()

    assert ["riscv/rv64gc-linux"] == list(frame["target"])
    assert frame["accuracy"].isna().all()
    assert all(verification.complete for verification in run.verify().values())


def test_runs_lists_the_request(lab: LabUnderTest, benchmarked: dict[str, Any]) -> None:
    """`vlab runs` knows every request with its state."""
    runs = {run["request_id"]: run for run in lab.json("runs")}

    assert "Completed" == runs[benchmarked["report"]["request_id"]]["state"]


def test_mlflow_has_one_parent_and_one_child_for_each_board(lab: LabUnderTest, benchmarked: dict[str, Any]) -> None:
    """Metrics under their field names, digests as tags, parent and children linked."""
    import mlflow

    client = mlflow.MlflowClient(f"http://127.0.0.1:{lab.port_base + 1}")
    parent = benchmarked["report"]["tracking_run_id"]
    experiment = client.get_run(parent).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")

    assert len(TARGETS) == len(children)
    for child in children:
        assert child.data.metrics["latency_p50_ns"] > 0
        names = {entry.path for entry in client.list_artifacts(child.info.run_id)}
        assert {"result.json", "benchmark.sigstore.json", "evidence.json"} <= names
        assert {"kernel_profile.json", "kernel_profile.csv"} <= names


def test_kernels_are_profiled_beside_the_measurement(benchmarked: dict[str, Any]) -> None:
    """Every node with its work, on each board; emulated boards count as many instructions as the measurement does."""
    measured = {row["board"]: row for row in benchmarked["results"]}
    nodes = {node.name for node in onnx.load(DIGITS).graph.node}

    assert measured.keys() == benchmarked["kernel_profiles"].keys()
    for board, profile in benchmarked["kernel_profiles"].items():
        calls = profile["calls"]
        assert measured[board]["manifest_sha256"] == profile["manifest_sha256"]
        assert {node for call in calls for node in call["call"]["nodes"]} <= nodes
        assert sum(call["call"]["macs"] for call in calls) > 0
        if profile["emulated"]:
            counted = sum(call["instructions"] for call in calls)
            assert pytest.approx(measured[board]["instructions_per_inference"], rel=0.1) == counted
        else:
            assert sum(call["median_ns"] for call in calls) > 0
