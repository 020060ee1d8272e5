"""Detached processes that outlive the command that started them, and are recognised again by the next one.

A process is named by its pid, its start time and the boot it belongs to: after a reboot, or when the pid was given to something
else, the record is stale and the process counts as stopped. What it started itself, in whatever session, is known by a mark in
the environment. Linux only (`/proc`).
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import RefusedError
from vlab.journal import write_whole

MARK = "VLAB_DAEMON"
"""Environment variable that everything a daemon starts inherits. It names the daemon's record."""

MAX_LOG_BYTES = 8 << 20
"""A log that is longer when its process starts is moved to `<name>.log.1` first."""


@dataclass(frozen=True)
class Daemon:
    """One process of the lab."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    """All of its environment; nothing is inherited."""
    directory: Path
    """Where it runs."""
    log: Path
    record: Path
    """File that says which process it is."""

    def pid(self) -> int | None:
        """Its process id while it runs."""
        try:
            pid, started, boot = self.record.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if pid.isdigit() and boot == _boot() and started == _start_time(int(pid)) else None

    def start(self) -> None:
        """Start it in a session of its own, its output going to the log; what an earlier one left behind is ended first."""
        self.stop(grace_s=2)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_name(self.log.name + ".1"))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.argv,
                cwd=self.directory,
                env={**self.environment, MARK: str(self.record)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        write_whole(self.record, f"{process.pid} {_start_time(process.pid) or 'gone'} {_boot()}\n".encode())

    def stop(self, grace_s: float) -> None:
        """Ask it and everything it started to end, and end what is left after `grace_s` seconds."""
        _signal(self.members(), signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while (left := self.members()) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal(left, signal.SIGKILL)
        self.record.unlink(missing_ok=True)

    def members(self) -> list[int]:
        """The process and its descendants, those included that moved to another session or lost their parent."""
        mark = f"{MARK}={self.record}".encode()
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _environment(path)]

    def last_words(self, lines: int = 12) -> str:
        """The end of its log, for an error message."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
                text = log.read().decode(errors="replace").strip()
        except FileNotFoundError:
            text = ""
        return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:]) or "  | (its log is empty)"


PORT_GRACE_S = 1.0
"""A process that ends is gone from the list of processes a moment before its port is free."""


def refuse_taken_port(port: int, service: str) -> None:
    """Check that nobody else listens on a loopback port.

    Raises:
        RefusedError: somebody does; names the port, the service and what to set.
    """
    deadline = time.monotonic() + PORT_GRACE_S
    while (taken := _bind_error(port)) and time.monotonic() < deadline:
        time.sleep(0.05)
    if taken:
        raise RefusedError(
            f"port {port}, which {service} needs, is used by another program; stop it, or set up this lab on "
            "other ports: VLAB_PORT_BASE=5200 vlab up (a lab that already has its ports needs a new VLAB_HOME as well)"
        ) from taken


def _bind_error(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error
    return None


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot (proc(5), field 22); None when it is gone or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _environment(path: Path) -> list[bytes]:
    """The environment a process was started with; empty for a zombie and for what belongs to somebody else."""
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
