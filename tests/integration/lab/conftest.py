"""One real local lab for all tests of this folder: real Prefect, MLflow, Sigstore instance, chain, workers and QEMU."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import DIGITS, DIGITS_TEST

REPO = Path(__file__).parents[3]
TARGETS = ("host/x86_64", "riscv/rv64gc-linux", "riscv/rv64gcv-linux", "arm/aarch64-linux")
TOOLS = ("riscv64-linux-gnu-gcc", "aarch64-linux-gnu-gcc", "qemu-riscv64", "qemu-aarch64")


@dataclass(frozen=True)
class LabUnderTest:
    """A lab in a directory of its own, on ports of its own, and the command line beside it."""

    home: Path
    port_base: int
    anvil: bool = False
    """Whether it may find anvil; without, the chain is the built-in one wherever the tests run."""

    @property
    def env(self) -> dict[str, str]:
        """What the command line needs to find this lab."""
        folders = os.environ["PATH"].split(os.pathsep)
        path = os.pathsep.join(folder for folder in folders if self.anvil or not (Path(folder) / "anvil").exists())
        return os.environ | {
            "VLAB_HOME": str(self.home),
            "VLAB_PORT_BASE": str(self.port_base),
            "COLUMNS": "80",
            "PATH": path,
        }

    def vlab(self, *args: str | Path, check: bool = True, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the command line; with `check`, anything but exit code 0 fails the test with what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "vlab", *map(str, args)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"vlab {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def spools(self, partner: str) -> set[Path]:
        """The jobs that a partner's worker has seen."""
        return set((self.home / "partners" / partner / "spool").glob("*"))

    def wait_until_measuring(self, partner: str, known: set[Path], timeout_s: float = 180) -> Path:
        """The spool of a job that is being measured: everything is fetched, nothing is signed yet."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for spool in self.spools(partner) - known:
                if (spool / "work").is_dir():
                    return spool
            time.sleep(0.02)
        pytest.fail("no measurement started in time")

    def json(self, *args: str | Path, check: bool = True) -> Any:
        """Run the command line with --json and parse what it prints."""
        return json.loads(self.vlab(*args, "--json", check=check).stdout)


def free_ports(count: int) -> int:
    """The first of `count` consecutive free ports on the loopback interface."""
    for base in range(21000, 60000, 50):
        taken = False
        for port in range(base, base + count):
            with socket.socket() as probe:
                taken = taken or probe.connect_ex(("127.0.0.1", port)) == 0
        if not taken:
            return base
    raise RuntimeError("no free ports")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    """A running lab; stopped and left for inspection in pytest's temporary directory."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing; install with: make setup (or see `vlab doctor`)")
    running = LabUnderTest(tmp_path_factory.mktemp("lab"), free_ports(4))
    running.vlab("up")
    yield running
    running.vlab("down", check=False)


@pytest.fixture(scope="session")
def benchmarked(lab: LabUnderTest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The shipped model measured and profiled on every target, as the command line reports it."""
    out = tmp_path_factory.mktemp("evidence")
    targets = [word for target in TARGETS for word in ("--target", target)]
    options = ("--dataset", DIGITS_TEST, "--plan", "smoke", "--kernel-profile", "--out", out)
    report: dict[str, Any] = lab.json("benchmark", DIGITS, *options, *targets)
    return report


@pytest.fixture
def evidence(benchmarked: dict[str, Any]) -> Path:
    """The evidence file of an emulated RISC-V board."""
    return Path(benchmarked["evidence_files"]["rv64gc-0"])
