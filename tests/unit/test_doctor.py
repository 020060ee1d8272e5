"""What `vlab doctor` says."""

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
    assert missing["cc"].remedy
