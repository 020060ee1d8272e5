"""A directory of files that are either whole or not there: what a request or a job already has, so that it can resume."""

import os
import tempfile
from pathlib import Path

from vlab.errors import TransientError


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a crash at any instant leaves the old file or the new one, never a part.

    Raises:
        TransientError: the disk refused, for example because it is full; nothing of the old file is lost.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TransientError(
            f"{path} cannot be written ({error.strerror}); free space or check permissions, then resume"
        ) from error


class Journal:
    """The files of one request or one job, by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        """Where an entry is or would be."""
        return self.directory / name

    def read(self, name: str) -> bytes | None:
        """An entry's bytes, or None where there is none yet."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> Path:
        """Keep an entry; returns its path."""
        write_whole(self.path(name), data)
        return self.path(name)
