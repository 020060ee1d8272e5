"""Checks on a result that need neither signatures nor a chain."""

from pathlib import Path

import pytest

from tests.samples import PROFILE, RESULT
from vlab import verifying
from vlab.errors import EvidenceError
from vlab.records import Result


def result(*, emulated: bool, emulator: str) -> Result:
    """A result of a board declared like this, from a machine that says so."""
    board = RESULT.board.model_copy(update={"emulated": emulated})
    return RESULT.model_copy(
        update={"board": board, "environment": RESULT.environment.model_copy(update={"emulator": emulator})}
    )


@pytest.mark.parametrize(("emulated", "emulator"), [(True, "qemu-riscv64 version 7.2"), (False, "")])
def test_an_emulator_is_named_where_the_board_is_emulated(emulated: bool, emulator: str) -> None:
    """What the board is declared to be and what the machine says agree."""
    verifying.check_emulation(result(emulated=emulated, emulator=emulator))


@pytest.mark.parametrize(
    ("emulated", "emulator", "reason"),
    [
        (False, "qemu-riscv64 version 7.2", "declared as hardware, and the emulator it ran under is qemu-riscv64 version 7.2"),
        (True, "", "declared as emulated, and the emulator it ran under is none"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(emulated: bool, emulator: str, reason: str) -> None:
    """An emulated figure stated as hardware, and the other way round."""
    with pytest.raises(EvidenceError, match=reason):
        verifying.check_emulation(result(emulated=emulated, emulator=emulator))


def test_a_missing_trust_configuration_is_not_taken_for_wrong_evidence(tmp_path: Path) -> None:
    """The verifier's own set-up is at fault, and the message says which file to fetch."""
    (tmp_path / "lab.json").write_bytes(PROFILE.to_json())

    with pytest.raises(EvidenceError, match=r"lab\.json needs its trust configuration trust\.json"):
        verifying.verify_evidence(b"{}", tmp_path / "lab.json")


def test_a_wrong_profile_is_named(tmp_path: Path) -> None:
    """The profile's path stands in the message, not the evidence's."""
    (tmp_path / "lab.json").write_text("{}")

    with pytest.raises(EvidenceError, match=r"lab\.json: .*LabProfile"):
        verifying.verify_evidence(b"{}", tmp_path / "lab.json")
