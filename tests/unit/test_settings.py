"""The two variables that vlab reads."""

from pathlib import Path

import pytest

from vlab.errors import RefusedError
from vlab.settings import Settings, data_dir, no_proxy


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


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"no_proxy": "example.org"}, "example.org,127.0.0.1,localhost"),
        ({"NO_PROXY": "localhost,example.org", "no_proxy": "other"}, "localhost,example.org,127.0.0.1"),
    ],
)
def test_no_proxy_keeps_what_was_said_and_adds_loopback(environment: dict[str, str], expected: str) -> None:
    """The user's own exceptions stay."""
    assert expected == no_proxy(environment)
