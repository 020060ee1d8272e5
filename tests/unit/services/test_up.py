"""Starting a lab."""

import socket
from pathlib import Path

import pytest

from tests.ports import free_port
from vlab import services
from vlab.errors import RefusedError
from vlab.settings import Settings


def test_a_new_lab_is_not_tied_to_ports_it_cannot_have(tmp_path: Path) -> None:
    """The advice of the error, other ports, is open to a lab that never started."""
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()

        with pytest.raises(RefusedError, match=f"port {port}"):
            services.up(Settings(home=tmp_path, port_base=port))

    assert not (tmp_path / "instance.json").exists()
