"""Where a lab keeps what: settled by its first start, and the same ever after."""

import itertools
from pathlib import Path

import pytest

from vlab import targets
from vlab.errors import RefusedError, TransientError
from vlab.services import down, lab, parts, status
from vlab.services.layout import PARTNERS, Layout, boards
from vlab.settings import Settings


def test_a_lab_keeps_its_ports_and_its_id(tmp_path: Path) -> None:
    """What the first start settled holds without the variable, and another value of it is refused."""
    first = Layout.of(Settings(tmp_path, 5200), create=True)

    assert first == Layout.of(Settings(tmp_path, 5200)) == Layout.of(Settings(tmp_path, 4200))
    with pytest.raises(RefusedError, match="from 5200, and VLAB_PORT_BASE says 6200"):
        Layout.of(Settings(tmp_path, 6200))


def test_two_labs_have_two_ledgers(tmp_path: Path) -> None:
    """The ledger's origin is random, so that heads of two labs cannot be confused on a shared chain."""
    one, other = (Layout.of(Settings(tmp_path / name, 5200), create=True) for name in "ab")

    assert one.ledger_origin != other.ledger_origin


def test_looking_at_a_lab_that_never_was_leaves_no_trace(tmp_path: Path) -> None:
    """Status of an empty home says stopped and settles nothing."""
    found = status(Settings(tmp_path / "none", 5200))

    assert not any(service.running for service in found.services)
    assert not (tmp_path / "none").exists()


def test_stopping_a_lab_that_never_was_is_fine(tmp_path: Path) -> None:
    """Down is idempotent from the start."""
    assert not down(Settings(tmp_path / "none", 5200)).running


def test_every_board_is_of_a_known_target_and_partner(tmp_path: Path) -> None:
    """The boards of the local lab fit the target files, there is one for each, and an emulated one says so."""
    found = boards(tmp_path)

    usable = {name for name, target in targets.known().items() if target.native or target.emulated}
    assert usable == {board.target for board in found}
    assert {board.info.partner for board in found} == set(PARTNERS)
    for board in found:
        assert board.info.emulated == targets.load(board.target).emulated


def test_a_labs_own_boards_come_beside_those_that_ship(tmp_path: Path) -> None:
    """`boards.toml` in the lab's home adds boards; one that is wrong is refused by file and entry."""
    file = tmp_path / "boards.toml"
    file.write_text('[partner-b.bench-3]\ntarget = "arm/cortex-m4"\n')
    own = boards(tmp_path)[-1]
    assert ("bench-3", "partner-b", "arm/cortex-m4", "qemu-system") == (own.name, own.partner, own.target, own.transport)

    for text, told in (
        ('[partner-b.cortex-m4-0]\ntarget = "arm/cortex-m4"\n', "cortex-m4-0 is declared twice"),
        ('[nobody.b]\ntarget = "arm/cortex-m4"\n', "'nobody' is no partner"),
        ('[partner-a]\nb = "arm/cortex-m4"\n', "partner-a.b is 'arm/cortex-m4'"),
        ("[partner-a", "expected tables"),
    ):
        file.write_text(text)
        with pytest.raises(RefusedError, match=told):
            boards(tmp_path)


def test_a_worker_knows_only_its_partners_directory(tmp_path: Path) -> None:
    """Nothing in a partner's environment names the lab's own state, and foreign settings do not reach it."""
    layout = Layout(tmp_path, 5200, "0" * 16, anvil=False)
    environment = parts.worker(layout, "partner-a").daemon.environment

    assert str(tmp_path / "partners" / "partner-a") == environment["VLAB_HOME"]
    own = {"VLAB_HOME", "PREFECT_HOME"}
    assert [] == [key for key, value in environment.items() if str(tmp_path) in value and key not in own]
    assert environment["PREFECT_HOME"].startswith(environment["VLAB_HOME"])


def test_the_users_own_settings_do_not_reach_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Prefect profile, an MLflow address or a Python path of the user would redirect the lab's processes."""
    for key in ("PREFECT_PROFILE", "PREFECT_API_KEY", "MLFLOW_TRACKING_URI", "PYTHONPATH"):
        monkeypatch.setenv(key, "elsewhere")
    monkeypatch.setenv("NO_PROXY", "example.org")
    environment = parts.environment({})

    assert "elsewhere" not in environment.values()
    assert "example.org,127.0.0.1,localhost" == environment["NO_PROXY"]


def test_everything_listens_on_loopback(tmp_path: Path) -> None:
    """No server of a local lab is told to listen anywhere else."""
    for server in parts.servers(Layout(tmp_path, 5200, "0" * 16, anvil=False)):
        assert server.address.startswith("http://127.0.0.1:")
        hosts = [word for before, word in itertools.pairwise(server.daemon.argv) if before == "--host"]
        assert hosts in (["127.0.0.1"], [])


def test_only_one_command_changes_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second command waits, says so, and gives up with a clear message."""
    monkeypatch.setattr(lab, "LOCK_DEADLINE_S", 0.1)
    told: list[str] = []
    with (
        lab._locked(tmp_path, told.append),
        pytest.raises(TransientError, match="still changing"),
        lab._locked(tmp_path, told.append),
    ):
        pass

    assert ["another command is changing this lab; waiting for it"] == told
