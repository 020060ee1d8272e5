"""What `vlab doctor` says."""

import socket
from pathlib import Path

import pytest

from vlab import doctor, targets


def test_every_tool_of_every_possible_target_is_looked_for() -> None:
    """Each compiler and emulator has a finding with the command that installs it."""
    found = {finding.name: finding for finding in doctor.examine()}

    for target in targets.known().values():
        for tool in target.tools if target.native or target.emulated else ():
            assert tool.install_command in found[tool.program].remedy


def test_a_machine_without_tools_gets_findings_not_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With an empty PATH every compiler is missing, required, and has a remedy."""
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = {finding.name: finding for finding in doctor.examine() if not finding.ok}

    assert missing["riscv64-linux-gnu-gcc"].required
    assert "gcc-riscv64-linux-gnu" in missing["riscv64-linux-gnu-gcc"].remedy
    assert not missing["arm-none-eabi-gcc"].required
    assert missing["cc"].remedy


def test_a_port_of_the_lab_itself_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another program holds is in the way; what the lab holds is not."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("VLAB_PORT_BASE", str(port))
        name = f"port {port}"

        stranger = next(finding for finding in doctor.examine() if finding.name == name)
        own = next(finding for finding in doctor.examine(frozenset({port})) if finding.name == name)

    assert (False, True) == (stranger.ok, own.ok)
    assert "Prefect of this lab" == own.detail
