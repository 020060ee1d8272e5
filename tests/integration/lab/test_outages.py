"""A service dies while a run is at work: what was measured is kept, the user is told, and `vlab resume` finishes it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.artifacts import DIGITS
from tests.integration.lab.conftest import LabUnderTest
from vlab.services import parts
from vlab.services.layout import Layout
from vlab.services.parts import Service
from vlab.settings import Settings

# A background job of a shell ignores the interrupt, and so would what it starts.
COMMAND = "import signal, vlab.cli; signal.signal(signal.SIGINT, signal.default_int_handler); vlab.cli.main()"
TARGET, PARTNER, BOARD = "host/x86_64", "partner-b", "x86-0"


def service(lab: LabUnderTest, part: Callable[[Layout], Service]) -> Service:
    """A service of the lab under test."""
    return part(Layout.of(Settings(lab.home, lab.port_base)))


def start_benchmark(lab: LabUnderTest, out: Path) -> subprocess.Popen[str]:
    """A benchmark on one board, on its way."""
    words = ["benchmark", str(DIGITS), "--target", TARGET, "--plan", "smoke", "--out", str(out)]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], env=lab.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(lab: LabUnderTest, request_id: str, out: Path) -> Path:
    """Bring the lab back, resume, and verify what comes out."""
    lab.vlab("up")
    lab.vlab("resume", request_id, "--out", out)
    evidence = out / f"{request_id}.{BOARD}.evidence.json"
    assert "VERIFIED" in lab.vlab("verify", evidence).stdout
    return evidence


def request_of(said: str) -> str:
    """The request id that the command printed first."""
    return said.split("run ", 1)[1].split(maxsplit=1)[0]


@pytest.fixture(autouse=True)
def _lab_is_whole_again(lab: LabUnderTest) -> Iterator[None]:
    """Whatever a test stopped runs again for the next one."""
    yield
    lab.vlab("up")


@pytest.mark.parametrize("part", [parts.tracking_server, parts.sigstore_instance], ids=["mlflow", "sigstore"])
def test_dead_service_leaves_the_measurement_in_the_spool(
    lab: LabUnderTest, tmp_path: Path, part: Callable[[Layout], Service]
) -> None:
    """The run ends as unfinished and names the dead service; resuming signs and delivers the very same measurement."""
    known = lab.spools(PARTNER)
    running = start_benchmark(lab, tmp_path)
    spool = lab.wait_until_measuring(PARTNER, known)
    service(lab, part).daemon.stop(5)
    _, said = running.communicate(timeout=240)
    measured = (spool / "result.json").read_bytes()

    assert 5 == running.returncode, said
    assert "pending" in said
    assert service(lab, part).address.removeprefix("http://") in said
    assert "vlab resume" in said
    finish(lab, request_of(said), tmp_path)
    assert measured == (spool / "result.json").read_bytes()


def test_dead_chain_leaves_the_anchor_pending(lab: LabUnderTest, tmp_path: Path) -> None:
    """Everything but the anchor is done, and resuming anchors without measuring again."""
    known = lab.spools(PARTNER)
    service(lab, parts.chain).daemon.stop(5)
    running = start_benchmark(lab, tmp_path)
    spool = lab.wait_until_measuring(PARTNER, known)
    _, said = running.communicate(timeout=240)
    measured = (spool / "result.json").read_bytes()

    assert 5 == running.returncode, said
    assert "pending: anchor" in said
    finish(lab, request_of(said), tmp_path)
    assert measured == (spool / "result.json").read_bytes()


def test_interrupted_command_leaves_the_run_going(lab: LabUnderTest, tmp_path: Path) -> None:
    """Ctrl-C stops the command, not the run, and says how to take its evidence."""
    known = lab.spools(PARTNER)
    running = start_benchmark(lab, tmp_path)
    lab.wait_until_measuring(PARTNER, known)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)

    assert 130 == running.returncode
    assert "vlab resume" in said
    finish(lab, request_of(said), tmp_path)
