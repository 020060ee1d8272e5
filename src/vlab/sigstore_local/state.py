"""The state directory: one process at a time, files complete or absent, secrets readable by their owner only."""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field

from vlab.errors import RefusedError
from vlab.records import Record


class Rejected(RefusedError):  # noqa: N818  an answer to a client, not a fault of ours
    """A request that is answered with an HTTP error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Instance(Record):
    """What the first start fixes for good."""

    format: Literal["vlab-sigstore-local/v1"] = "vlab-sigstore-local/v1"
    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    port: int = Field(ge=1, le=65535)

    @property
    def base_url(self) -> str:
        """Address of the instance and name of its OIDC issuer."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def origin(self) -> str:
        """Name of the transparency log; also the path below which it is served."""
        return f"vlab.local/log-{self.id}"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one, the new one, or none; only its owner can read it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def lock(state: Path) -> int:
    """Create the state directory if needed and take it for this process; the lock lives as long as the process.

    Returns:
        The descriptor that holds the lock.

    Raises:
        RefusedError: another process has it.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    (state / "clients").mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RefusedError(f"another instance runs on {state}; stop it first, or name another --state") from error
    return descriptor


def recorded_instance(state: Path) -> Instance | None:
    """The instance this directory belongs to; None before its first start."""
    path = state / "instance.json"
    return Instance.from_json(path.read_bytes()) if path.is_file() else None


def record_instance(state: Path, port: int) -> Instance:
    """Fix a new instance id and the port."""
    instance = Instance(id=secrets.token_hex(8), port=port)
    write_atomically(state / "instance.json", instance.to_json())
    return instance
