"""The two variables that vlab reads."""

from pathlib import Path

import pytest

from vlab.errors import RefusedError
from vlab.settings import Settings, data_dir


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """VLAB_HOME first, then XDG_STATE_HOME."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("VLAB_HOME", raising=False)
    by_state = Settings.from_environment().home
    monkeypatch.setenv("VLAB_HOME", str(tmp_path / "own"))

    assert (tmp_path / "vlab", tmp_path / "own") == (by_state, Settings.from_environment().home)


@pytest.mark.parametrize("value", ["zero", "80", "70000", "-1"])
def test_a_wrong_port_is_refused_with_what_is_expected(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Ports below 1024 need root, and above 65535 there are none."""
    monkeypatch.setenv("VLAB_PORT_BASE", value)

    with pytest.raises(RefusedError, match="1024"):
        Settings.from_environment()


@pytest.mark.parametrize("name", ["targets", "chain"])
def test_shipped_data_is_found(name: str) -> None:
    """In the checkout as in the wheel."""
    assert any(data_dir(name).iterdir())
