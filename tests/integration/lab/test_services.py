"""The lab as a whole: what `vlab up` made, and what it survives."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.artifacts import DIGITS, DIGITS_TEST
from tests.integration.lab.conftest import LabUnderTest
from vlab import verifying
from vlab.services import parts, probes
from vlab.services.layout import PARTNERS, POOLS, Layout, boards
from vlab.settings import Settings


def layout_of(lab: LabUnderTest) -> Layout:
    """Paths and addresses of the lab."""
    return Layout.of(Settings(lab.home, lab.port_base))


def names(lab: LabUnderTest, what: str) -> set[str]:
    """Names of everything of one kind that Prefect knows."""
    return {found["name"] for found in probes.ask(f"{layout_of(lab).prefect_url}/api/{what}/filter", {})}


def test_everything_runs_and_is_registered(lab: LabUnderTest) -> None:
    """Services answer; Prefect has the pools, a limit for each board, the deployments and the lost-run automation."""
    assert all(service["running"] for service in lab.json("status")["services"])
    assert set(POOLS) <= names(lab, "work_pools")
    assert {"lab", "nightly", *PARTNERS} == names(lab, "deployments")
    assert {f"board-{board.name}" for board in boards(lab.home)} == names(lab, "v2/concurrency_limits")
    assert {"crash-lost-runs"} == names(lab, "automations")


def test_up_again_is_quick_and_changes_nothing(lab: LabUnderTest) -> None:
    """What runs is left alone: the same processes, the same profile."""
    before, profile = lab.json("status"), (lab.home / "lab.json").read_bytes()
    began = time.monotonic()
    lab.vlab("up")

    assert time.monotonic() - began < 15
    assert before == lab.json("status")
    assert profile == (lab.home / "lab.json").read_bytes()


def test_two_ups_at_once_are_safe(lab: LabUnderTest) -> None:
    """Both end well, and there is still one process of each kind."""
    before = lab.json("status")
    both = [subprocess.Popen([sys.executable, "-m", "vlab", "up"], env=lab.env) for _ in range(2)]

    assert [0, 0] == [process.wait(120) for process in both]
    assert before == lab.json("status")


def test_a_partner_has_what_it_needs_and_no_more(lab: LabUnderTest) -> None:
    """A partner's directory holds its own secret, which nobody else can read, and neither key nor secret of the lab."""
    layout = layout_of(lab)
    for partner in PARTNERS:
        home = layout.worker_home(partner)
        assert (lab.home / "lab.json").read_bytes() == (home / "lab.json").read_bytes()
        assert 0o600 == (home / "client.secret").stat().st_mode & 0o777
    secrets = {(layout.worker_home(partner) / "client.secret").read_bytes() for partner in PARTNERS}
    secrets.add((lab.home / "sigstore" / "clients" / "lab.secret").read_bytes())
    assert 3 == len(secrets)


def test_no_block_holds_a_secret(lab: LabUnderTest) -> None:
    """Every worker can read every block, so none contains a key, a password or a client's secret."""
    layout = layout_of(lab)
    answer = probes.ask(f"{layout.prefect_url}/api/block_documents/filter", {"include_secrets": True})
    text = str(answer)
    files = [*(lab.home / "sigstore" / "clients").iterdir(), layout.password_file]

    assert "vlab-signer" in text
    assert [] == [file for file in files if file.read_text().strip() in text]


def test_a_taken_port_is_one_clear_error(lab: LabUnderTest, tmp_path: Path) -> None:
    """Another lab on the ports of this one is refused before anything starts."""
    done = LabUnderTest(tmp_path / "other", lab.port_base).vlab("up", check=False)

    assert 1 == done.returncode
    assert f"port {lab.port_base}" in done.stderr
    assert "VLAB_PORT_BASE" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_dies_is_named_with_its_log(lab: LabUnderTest, tmp_path: Path) -> None:
    """When MLflow's database is no database, the error says so in MLflow's own words; a later up repairs nothing by itself."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        base = min(int(probe.getsockname()[1]), 65000)
    broken = LabUnderTest(tmp_path / "broken", base)
    (broken.home / "mlflow").mkdir(parents=True)
    (broken.home / "mlflow" / "mlflow.db").write_bytes(b"this is no database, it is a sentence. " * 200)
    try:
        done = broken.vlab("up", check=False)

        assert 3 == done.returncode
        assert "mlflow ended while starting" in done.stderr
        assert "file is not a database" in done.stderr
    finally:
        broken.vlab("down")


def test_a_lab_that_was_killed_comes_back(lab: LabUnderTest, tmp_path: Path) -> None:
    """After a power cut in the middle of a measurement: same identity, the run is told apart, and resuming it completes."""
    layout = layout_of(lab)
    services = [*parts.servers(layout), *parts.workers(layout)]
    profile = (lab.home / "lab.json").read_bytes()
    words = [
        "benchmark",
        DIGITS,
        "--dataset",
        DIGITS_TEST,
        "--plan",
        "smoke",
        "--target",
        "riscv/rv64gc-linux",
        "--out",
        tmp_path,
    ]
    known = lab.spools("partner-a")
    client = subprocess.Popen([sys.executable, "-m", "vlab", *map(str, words)], env=lab.env, stderr=subprocess.DEVNULL)
    lab.wait_until_measuring("partner-a", known)
    for pid in [pid for service in services for pid in service.daemon.members()]:
        os.kill(pid, signal.SIGKILL)
    client.kill()
    client.wait()
    assert not any(service["running"] for service in lab.json("status")["services"])
    lab.vlab("up")

    assert profile == (lab.home / "lab.json").read_bytes()
    latest = lab.json("runs", "--limit", "1")[0]
    assert "Crashed" == latest["state"]
    assert "vlab resume" in latest["message"]
    lab.vlab("resume", latest["request_id"], "--out", tmp_path)
    evidence = list(tmp_path.glob("*.evidence.json"))
    assert 1 == len(evidence)
    assert verifying.verify_evidence(evidence[0].read_bytes(), lab.home / "lab.json").complete
