"""The client on its way to a lab."""

import os
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.samples import PROFILE
from vlab.client import Lab
from vlab.errors import ServiceDownError


def test_a_lab_that_is_down_is_named_and_nobody_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the address to look at; the client library reports no use of it to its maker."""
    monkeypatch.setenv("DO_NOT_TRACK", "")
    monkeypatch.delenv("DO_NOT_TRACK")
    address = f"http://127.0.0.1:{free_port()}/api"
    profile = PROFILE.model_copy(update={"prefect_api_url": address})
    (tmp_path / "lab.json").write_bytes(profile.to_json())

    with pytest.raises(ServiceDownError, match=address):
        Lab(tmp_path / "lab.json").runs()

    assert "1" == os.environ["DO_NOT_TRACK"]
