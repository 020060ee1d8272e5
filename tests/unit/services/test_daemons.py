"""Detached processes: recognised again, never confused with others, ended with everything they started."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from vlab.errors import RefusedError
from vlab.services.daemons import Daemon, refuse_taken_port
from vlab.services.parts import Service

MakeDaemon = Callable[[str], Daemon]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons that run a piece of Python, and ends them."""
    made: list[Daemon] = []

    def make(code: str) -> Daemon:
        name = f"d{len(made)}"
        made.append(
            Daemon(
                name=name,
                argv=(sys.executable, "-u", "-c", code),
                environment={"PATH": os.environ["PATH"]},
                directory=tmp_path,
                log=tmp_path / "logs" / f"{name}.log",
                record=tmp_path / "pids" / name,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.stop(0)


def wait_for(condition: Callable[[], object]) -> None:
    """Fail where something does not become true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def parent_of(child: str) -> str:
    """A program that starts another one in a session of its own."""
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    return f"import subprocess, sys, time; {start}; time.sleep(60)"


def test_a_daemon_is_recognised_by_another_object(daemon: MakeDaemon) -> None:
    """What one command starts, the next one finds by the record alone; stopping leaves nothing."""
    one = daemon("import time; print('hello'); time.sleep(60)")
    assert one.pid() is None
    one.start()
    wait_for(lambda: "hello" in one.last_words())
    again = Daemon(one.name, one.argv, one.environment, one.directory, one.log, one.record)

    assert one.pid() == again.pid() is not None
    again.stop(5)
    assert one.pid() is None
    assert [] == one.members()


@pytest.mark.parametrize("change", ["start time", "boot", "pid", "garbage", "empty"])
def test_a_stale_record_counts_as_stopped(daemon: MakeDaemon, change: str) -> None:
    """A record from before a reboot, of a pid that was given away, or cut short by a crash is not believed."""
    one = daemon("import time; time.sleep(60)")
    one.start()
    pid, started, boot = one.record.read_text().split()
    one.record.write_text(
        {
            "start time": f"{pid} {int(started) - 1} {boot}",
            "boot": f"{pid} {started} 00000000-0000-0000-0000-000000000000",
            "pid": f"4194304 {started} {boot}",
            "garbage": "what is this",
            "empty": "",
        }[change]
    )

    assert one.pid() is None


def test_a_dead_process_is_not_alive_as_a_zombie(daemon: MakeDaemon) -> None:
    """A process that ended is stopped even while its parent, this test, has not asked for its status."""
    one = daemon("raise SystemExit('no such luck')")
    one.start()
    wait_for(lambda: one.pid() is None)

    assert "no such luck" in one.last_words()


def test_stopping_ends_what_moved_to_another_session(daemon: MakeDaemon, tmp_path: Path) -> None:
    """A child that left the session and lost its parent is ended all the same, even if it ignores the request."""
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w'); time.sleep(60)"
    one = daemon(parent_of(child))
    one.start()
    wait_for((tmp_path / "ready").exists)
    assert 2 == len(one.members())
    one.stop(0.3)

    wait_for(lambda: one.members() == [])


def test_starting_ends_what_an_earlier_start_left(daemon: MakeDaemon, tmp_path: Path) -> None:
    """When only the parent was killed, its orphan does not go on beside the new one."""
    child = "import time; open('ready', 'w'); time.sleep(60)"
    one = daemon(parent_of(child))
    one.start()
    wait_for((tmp_path / "ready").exists)
    pid = one.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: one.pid() is None)
    orphans = one.members()
    assert len(orphans) == 1
    one.start()

    wait_for(lambda: orphans[0] not in one.members())


def test_a_taken_port_is_named() -> None:
    """The error names port, service and the variable; a free port passes."""
    port = free_port()
    refuse_taken_port(port, "prefect")
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(RefusedError, match=rf"port {port}, which prefect needs.*VLAB_PORT_BASE"):
            refuse_taken_port(port, "prefect")


def test_a_port_that_a_killed_service_still_holds_is_its_own(daemon: MakeDaemon, tmp_path: Path) -> None:
    """When only the parent was killed, its child is ended and the service starts again; a stranger's port is refused."""
    port = free_port()
    listen = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); open('ready', 'w'); time.sleep(60)"
    service = Service("mlflow", f"http://127.0.0.1:{port}", daemon(parent_of(listen)), lambda: True, deadline_s=10)
    service.start()
    wait_for((tmp_path / "ready").exists)
    pid = service.daemon.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: service.daemon.pid() is None)
    service.check_port()
    (tmp_path / "ready").unlink()

    assert service.start()
    wait_for((tmp_path / "ready").exists)
    stranger = Service("mlflow", service.address, daemon("pass"), lambda: True, deadline_s=10)
    with pytest.raises(RefusedError, match=f"port {port}"):
        stranger.start()
