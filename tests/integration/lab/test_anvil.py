"""A lab that was born where anvil is on PATH."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.artifacts import DIGITS
from tests.integration.lab.conftest import LabUnderTest, free_ports
from vlab.devchain.anvil import INSTALL
from vlab.services import parts
from vlab.services.layout import Layout
from vlab.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("anvil") is None, reason=f"no anvil on PATH; {INSTALL}")


def test_what_is_anchored_on_anvil_survives_its_kill(tmp_path: Path) -> None:
    """The lab uses anvil, waits for its finality, and nothing it called anchored is lost when anvil is killed at once."""
    lab = LabUnderTest(tmp_path / "lab", free_ports(4), anvil=True)
    try:
        lab.vlab("up")
        lab.vlab("benchmark", DIGITS, "--target", "host/x86_64", "--plan", "smoke", "--out", tmp_path)
        chain = parts.chain(Layout.of(Settings(lab.home, lab.port_base)))
        for pid in chain.daemon.members():
            os.kill(pid, signal.SIGKILL)
        lab.vlab("up")
        (evidence,) = tmp_path.glob("*.evidence.json")

        assert json.loads((lab.home / "instance.json").read_text())["anvil"] is True
        assert (lab.home / "chain" / "anvil.json").exists()
        assert "VERIFIED" in lab.vlab("verify", evidence).stdout
    finally:
        lab.vlab("down", check=False)
