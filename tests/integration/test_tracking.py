"""The artifact store and the runs, against a real MLflow server and against its directory without one."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ports import free_port
from tests.samples import RESULT
from vlab.errors import DigestMismatchError, RefusedError, ServiceDownError
from vlab.records import AssetRef, FileRef, Result
from vlab.tracking import attach, finish_request, log_result, search, start_request, store_get, store_put, store_read
from vlab.tracking.figures import metrics_of

ZERO = "0" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL and directory of an MLflow server set up as a local lab's."""
    home = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"]
    command += [
        "--artifacts-destination",
        str(home / "artifacts"),
        "--workers",
        "1",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=home, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("MLflow did not start:\n" + (home / "log").read_text()[-2000:])
                time.sleep(0.2)
        yield url, home
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module", params=["server", "directory"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Each form of tracking URL in turn."""
    if request.param == "directory":
        return str(tmp_path_factory.mktemp("store"))
    return str(request.getfixturevalue("server")[0])


def a_result(request_id: str = "req-1", *, samples: tuple[int, ...] = RESULT.measurement.samples_ns) -> Result:
    """A valid result of this request, with these samples."""
    measurement = RESULT.measurement.model_copy(update={"samples_ns": samples})
    return RESULT.model_copy(update={"request_id": request_id, "measurement": measurement})


def test_what_is_stored_comes_back(url: str, tmp_path: Path) -> None:
    """The bytes fetched are the bytes stored, under a reference that depends on nothing but them and their name."""
    data = os.urandom(3_000_000)
    asset = store_put(data, "model.onnx", url=url)

    assert f"mlflow-artifacts:/assets/{sha256(data).hexdigest()}/model.onnx" == asset.uri
    assert data == store_get(asset, tmp_path, url=url).read_bytes()
    assert data == store_read(asset, url=url)


def test_storing_and_fetching_again_changes_nothing(url: str, tmp_path: Path) -> None:
    """Both calls can be repeated, from bytes or from a file."""
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    first = store_put(source, "w.bin", url=url)
    again = store_put(b"weights", "w.bin", url=url)

    assert first == again
    assert store_get(first, tmp_path / "in", url=url) == store_get(first, tmp_path / "in", url=url)


@given(data=st.binary(max_size=300), name=st.sampled_from(["a", "model.onnx", "my model (1).onnx", "größe.bin", "x" * 120]))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_survive(tmp_path: Path, data: bytes, name: str) -> None:
    """Law: store_read(store_put(data)) == data, the empty file included."""
    assert data == store_read(store_put(data, name, url=str(tmp_path)), url=str(tmp_path))


@pytest.mark.parametrize("name", ["my model (1).onnx", "größe.bin", "a+b&c=d@e.bin", "x" * 120])
def test_any_file_name_survives_a_server(server: tuple[str, Path], name: str) -> None:
    """People's file names are kept, and an empty file is a file."""
    asset = store_put(b"", name, url=server[0])

    assert name == asset.file.name
    assert b"" == store_read(asset, url=server[0])


def test_tampered_asset_is_refused_and_repaired(server: tuple[str, Path], tmp_path: Path) -> None:
    """Changed bytes of the same length never appear under the name; storing again repairs the copy."""
    url, home = server
    asset = store_put(b"honest bytes", "a.bin", url=url)
    stored = home / "artifacts" / "assets" / asset.file.sha256 / "a.bin"
    stored.write_bytes(b"forged bytes")
    with pytest.raises(DigestMismatchError):
        store_get(asset, tmp_path, url=url)

    assert [] == list(tmp_path.iterdir())
    store_put(b"honest bytes", "a.bin", url=url)
    assert b"honest bytes" == store_read(asset, url=url)


def test_longer_file_than_named_is_cut_off(server: tuple[str, Path], tmp_path: Path) -> None:
    """A store that sends more than was named cannot fill the disk."""
    url, home = server
    asset = store_put(b"short", "b.bin", url=url)
    (home / "artifacts" / "assets" / asset.file.sha256 / "b.bin").write_bytes(b"short" + bytes(1 << 20))
    with pytest.raises(DigestMismatchError):
        store_get(asset, tmp_path, url=url)


def test_limits_and_names_are_checked_before_any_byte_moves(url: str, tmp_path: Path) -> None:
    """An asset over the limit, a path as a name and a reference that does not fit its file are refused."""
    asset = store_put(b"12345", "c.bin", url=url)
    with pytest.raises(RefusedError, match="at most 4"):
        store_get(asset, tmp_path, url=url, max_bytes=4)
    for name in ("../x", "a/b", "", ".hidden", "..", "a%2fb", "a\\b", "a\x00b", "x" * 121):
        with pytest.raises(RefusedError, match="asset name"):
            store_put(b"x", name, url=url)
    for uri in ("file:///etc/passwd", asset.uri + "/../x", asset.uri.replace(asset.file.sha256, ZERO)):
        with pytest.raises(RefusedError, match="asset reference"):
            store_get(AssetRef(uri=uri, file=asset.file), tmp_path, url=url)
    outside = FileRef(name="../../x", sha256=asset.file.sha256, size_bytes=5)
    with pytest.raises(RefusedError, match="asset reference"):
        store_get(AssetRef(uri=f"mlflow-artifacts:/assets/{asset.file.sha256}/../../x", file=outside), tmp_path, url=url)


def test_missing_asset_is_named(url: str, tmp_path: Path) -> None:
    """What the store does not have is refused with its digest, not retried."""
    digest = sha256(b"never stored").hexdigest()
    file = FileRef(name="n.bin", sha256=digest, size_bytes=12)
    with pytest.raises(RefusedError, match=digest):
        store_get(AssetRef(uri=f"mlflow-artifacts:/assets/{digest}/n.bin", file=file), tmp_path, url=url)


def test_dead_server_is_found_quickly(tmp_path: Path) -> None:
    """Every call to a server that is not there says so at once, as something to try again."""
    url = f"http://127.0.0.1:{free_port()}"
    start = time.monotonic()
    with pytest.raises(ServiceDownError, match="vlab up"):
        store_put(b"x", "x", url=url)
    with pytest.raises(ServiceDownError):
        start_request("r", url=url)
    with pytest.raises(ServiceDownError):
        search(url=url)

    assert time.monotonic() - start < 5


def test_every_figure_has_its_field_name() -> None:
    """Metrics carry units; figures that are null are absent rather than zero."""
    metrics = metrics_of(a_result())

    assert 1_050_000.0 == metrics["latency_p50_ns"]
    assert 1_000_000.0 == metrics["latency_p50_lower_ns"]
    assert 12_345_678.0 == metrics["instructions_per_inference"]
    assert 310_000.0 == metrics["weights_bytes"]
    assert "latency_p99_ns" not in metrics
    assert "ram_peak_bytes" not in metrics


def begin(request_id: str, url: str) -> str:
    """Open a request."""
    return start_request(request_id, url=url, params={"model": "digits"}, tags={"vlab.model_sha256": ZERO})


def test_a_result_is_one_child_run_however_often_it_is_logged(url: str) -> None:
    """A retry finds the run of the first attempt; another result of the same board is another run."""
    parent = begin("req-1", url)
    first = log_result(parent, a_result(), url=url, tags={"vlab.bundle_sha256": ZERO})
    again = log_result(parent, a_result(), url=url)
    other = log_result(parent, a_result(samples=(5, 6, 7)), url=url)
    finish_request(parent, url=url)

    assert parent == begin("req-1", url)
    assert first == again != other
    runs = search(url=url, tags={"vlab.kind": "board", "vlab.request_id": "req-1"})
    assert {first, other} == {run.run_id for run in runs}
    assert {parent} == {run.parent_run_id for run in runs}
    logged = next(run for run in runs if run.run_id == first)
    assert "FINISHED" == logged.status
    assert metrics_of(a_result()).items() <= logged.metrics.items()
    assert a_result().digest() == logged.tags["vlab.result_sha256"]
    assert ZERO == logged.tags["vlab.bundle_sha256"]


def test_a_half_logged_result_is_completed(server: tuple[str, Path], tmp_path: Path) -> None:
    """An attempt that failed after its run was made leaves no second run, and no point is there twice."""
    url, _ = server
    parent = begin("req-3", url)
    with pytest.raises(FileNotFoundError):
        log_result(parent, a_result("req-3"), url=url, files={"evidence.json": tmp_path / "missing"})
    log_result(parent, a_result("req-3"), url=url)

    runs = search(url=url, tags={"vlab.kind": "board", "vlab.request_id": "req-3"})
    assert ["FINISHED"] == [run.status for run in runs]
    from mlflow.tracking import MlflowClient

    history = MlflowClient(url).get_metric_history(runs[0].run_id, "latency_ns")
    assert [1_000_000, 1_050_000, 1_100_000] == sorted(point.value for point in history)


def test_evidence_can_be_attached_later(server: tuple[str, Path], tmp_path: Path) -> None:
    """Files and tags are added to a finished run, and the exact bytes are kept."""
    url, home = server
    evidence = tmp_path / "board.json"
    evidence.write_bytes(b'{"a": 1}')
    run = log_result(begin("req-2", url), a_result("req-2"), url=url)
    attach(run, url=url, files={"evidence.json": evidence}, tags={"vlab.anchored": "true"})

    kept = {path.name: path.read_bytes() for path in (home / "artifacts").rglob(f"*{run}*/artifacts/*")}
    assert b'{"a": 1}' == kept["evidence.json"]
    assert a_result("req-2").to_json() == kept["result.json"]
    assert b"latency_ns\n1000000\n1100000\n1050000\n" == kept["latency_ns.csv"]
    assert "true" == search(url=url, tags={"vlab.request_id": "req-2", "vlab.kind": "board"})[0].tags["vlab.anchored"]


def test_quotes_cannot_reach_the_filter_language(url: str) -> None:
    """A tag value that would end the quoted text is refused."""
    with pytest.raises(RefusedError, match="quotes"):
        search(url=url, tags={"vlab.request_id": "x' or tags.a = 'b"})
