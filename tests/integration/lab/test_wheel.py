"""The wheel alone: what an auditor installs, without checkout, Prefect, MLflow or TVM."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.lab.conftest import REPO, LabUnderTest

UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def auditor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel and its own dependencies only."""
    if not UV.is_file():
        pytest.skip("uv missing; install with: make setup")
    work = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(work)], cwd=REPO, check=True)
    (wheel,) = work.glob("*.whl")
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, work / "venv"], check=True)
    python = work / "venv" / "bin" / "python"
    pins = REPO / "requirements" / "lab.txt"
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, "--constraints", pins, wheel], check=True)
    return python.parent


def run(auditor: Path, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command of the auditor's environment, away from the checkout."""
    return subprocess.run(
        [auditor / words[0], *words[1:]],
        cwd=cwd,
        env={"PATH": "/usr/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_imports_and_helps(auditor: Path, tmp_path: Path) -> None:
    """Neither the import nor the help needs anything that is not there."""
    assert 0 == run(auditor, "python", "-c", "import vlab, vlab.verifying", cwd=tmp_path).returncode
    assert "benchmark" in run(auditor, "vlab", "--help", cwd=tmp_path).stdout


def test_it_verifies_evidence(lab: LabUnderTest, auditor: Path, evidence: Path, tmp_path: Path) -> None:
    """Profile and evidence in, the whole verdict out."""
    told = run(auditor, "vlab", "verify", evidence, "--profile", lab.home / "lab.json", "--json", cwd=tmp_path)

    assert 0 == told.returncode, told.stderr
    assert json.loads(told.stdout)[str(evidence)]["verified"] is True


def test_it_ships_the_targets_but_no_plugin(auditor: Path, tmp_path: Path) -> None:
    """Targets are data of the package; the counting plugin has another licence and is not."""
    told = run(auditor, "vlab", "targets", "--json", cwd=tmp_path)
    shipped = list((auditor.parent / "lib").rglob("vlab/_data/**/insn.c"))

    assert "riscv/rv64gc-linux" in json.loads(told.stdout)
    assert [] == shipped


def test_a_command_that_needs_more_says_so(auditor: Path, tmp_path: Path) -> None:
    """Without the checkout there is no lab to start; the message names the way."""
    told = run(auditor, "vlab", "up", cwd=tmp_path)

    assert 0 != told.returncode
    assert "Traceback" not in told.stderr
    assert "clone" in told.stderr
