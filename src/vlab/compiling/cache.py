"""Compiled artifacts by key: an entry is complete and undamaged, or it is not there."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vlab.errors import RefusedError
from vlab.records import ArtifactManifest, digest_file

MANIFEST = "manifest.json"
_ARTIFACT = "artifact"
_DIGEST = "manifest.sha256"


@dataclass(frozen=True)
class Entry:
    """An artifact that lies complete in the cache."""

    directory: Path
    manifest: ArtifactManifest
    manifest_sha256: str


class Cache:
    """A directory of entries, each `KEY/artifact/` beside `KEY/manifest.sha256`.

    An entry is written in a directory of its own and renamed at the end, so whatever has its name is whole.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A fresh directory beside the entries; gone afterwards."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".taking-", dir=self.root) as folder:
            yield Path(folder)

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the key's lock, against other threads and processes; the system releases it when its holder ends."""
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / key).open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def find(self, key: str) -> Entry | None:
        """The entry of a key if every byte of it is as it was written, otherwise None."""
        directory = self.root / key / _ARTIFACT
        try:
            text = (directory / MANIFEST).read_bytes()
            digest = sha256(text).hexdigest()
            if (self.root / key / _DIGEST).read_text(encoding="ascii") != digest:
                return None
            manifest = ArtifactManifest.from_json(text)
            files = {file.name: file for file in manifest.files}
            present = {path.name for path in directory.iterdir()} - {MANIFEST}
            if present != set(files) or any(digest_file(directory / name) != files[name].sha256 for name in files):
                return None
        except (OSError, UnicodeDecodeError, RefusedError):
            return None
        return Entry(directory, manifest, digest)

    @contextmanager
    def building(self, key: str) -> Iterator[Path]:
        """A fresh directory to build a key's entry in; gone afterwards, whatever happens. Hold the key's lock.

        What builders that were killed left of the same key is removed first.
        """
        for left in self.root.glob(f".{key}-*"):
            shutil.rmtree(left, ignore_errors=True)
        directory = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.root))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def store(self, key: str, manifest: ArtifactManifest, artifact: Path) -> Entry:
        """Move a finished directory in under a key, in place of a damaged entry. Hold the key's lock.

        Args:
            key: name of the entry.
            manifest: what the directory holds; written into it here.
            artifact: the directory, within one given by `building`.
        """
        text = manifest.to_json()
        digest = sha256(text).hexdigest()
        (artifact / MANIFEST).write_bytes(text)
        staged = artifact.parent / "entry"
        staged.mkdir()
        artifact.rename(staged / _ARTIFACT)
        (staged / _DIGEST).write_text(digest, encoding="ascii")
        entry = self.root / key
        if entry.exists():
            entry.rename(artifact.parent / "damaged")
        os.rename(staged, entry)  # noqa: PTH104 - Path.rename is the same, but the atomic step should be easy to see
        return Entry(entry / _ARTIFACT, manifest, digest)
