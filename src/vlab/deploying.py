"""Let an artifact onto the machine that drives a board: only whole, only the one that was named.

Nothing is executed here, and nothing is written before every byte has been compared with the manifest.
"""

import re
import tarfile
import tempfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath

from vlab.errors import DeployError, DigestMismatchError
from vlab.records import ArtifactManifest, ModelRef
from vlab.targets import Target

MANIFEST = "manifest.json"
MAX_ARCHIVE_BYTES = 1 << 30
"""More than any model a board of this lab could load; the archive is held in memory."""
MAX_FILES = 64
"""An artifact is a handful of files; thousands would be an attempt to fill the disk with inodes."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}")


def unpack(archive: bytes, manifest_sha256: str, into: Path) -> ArtifactManifest:
    """Unpack an artifact, all or nothing.

    Law: afterwards `into` holds manifest.json with digest `manifest_sha256` and exactly the files it lists, byte for byte; or,
    after an exception, what it held before. An earlier `into` is replaced as a whole.

    Args:
        archive: an uncompressed tar of regular files, as `compiling.pack` makes it.
        manifest_sha256: digest of the manifest that was signed.
        into: directory to make; its parent is made where it is missing.

    Raises:
        DeployError: the archive holds anything but the regular files of the manifest.
        DigestMismatchError: manifest or file is not the one that was named.
        EvidenceError: the manifest is not such a record.
    """
    files = _read(archive)
    if MANIFEST not in files:
        raise DeployError(f"the archive holds {sorted(files)[:5]} but no {MANIFEST}; pack the artifact's directory again")
    _expect_digest(MANIFEST, files[MANIFEST], manifest_sha256)
    manifest = ArtifactManifest.from_json(files[MANIFEST])
    listed = {file.name: file for file in manifest.files}
    _expect_listed(set(files) - {MANIFEST}, set(listed))
    if len(listed) != len(manifest.files) or manifest.executable not in listed:
        raise DeployError(f"the manifest lists a file twice or not its executable {manifest.executable!r}; compile again")
    for name, file in listed.items():
        if len(files[name]) != file.size_bytes:
            raise DeployError(f"{name} has {len(files[name])} bytes, the manifest says {file.size_bytes}; fetch it again")
        _expect_digest(name, files[name], file.sha256)
    _write(files, manifest.executable, into)
    return manifest


def expect_fit(manifest: ArtifactManifest, model: ModelRef, target: Target) -> None:
    """Check that an artifact is of this model and for this board, whose worker knows the target as the lab does.

    Raises:
        DeployError: it is not; nothing may be executed.
    """
    if manifest.target != target.name:
        raise DeployError(f"the artifact is for {manifest.target}, this board is a {target.name}; nothing was executed")
    if manifest.target_sha256 != target.digest():
        raise DeployError(
            f"the artifact was compiled for another version of targets/{target.name}.toml than this worker has; "
            "bring the lab and the worker to the same version of vlab"
        )
    if manifest.model != model:
        raise DeployError(f"the artifact was compiled from model {manifest.model.sha256}, the job names {model.sha256}")


def _read(archive: bytes) -> dict[str, bytes]:
    """Content of every member by name."""
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise DeployError(f"the archive has {len(archive)} bytes, expected at most {MAX_ARCHIVE_BYTES}")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=BytesIO(archive), mode="r:") as tar:
            while (member := tar.next()) is not None:
                if len(files) >= MAX_FILES:
                    raise DeployError(f"the archive holds more than {MAX_FILES} files; pack the artifact's directory again")
                name, content = _name(member), tar.extractfile(member)
                if name.casefold() in {known.casefold() for known in files}:
                    raise DeployError(f"the archive holds {name!r} twice, perhaps in other capitals; pack it again")
                files[name] = content.read() if content else b""
                if len(files[name]) != member.size:
                    raise DeployError(f"the archive ends inside {name!r}; fetch it again")
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
        raise DeployError(f"the archive is not a plain tar file ({error}); fetch it again") from error
    return files


def _name(member: tarfile.TarInfo) -> str:
    """The member's name, once it is known to be a regular file inside the directory."""
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.sparse is not None:
        kind = "a link" if member.issym() or member.islnk() else "not a regular file"
        raise DeployError(f"the archive holds {member.name!r}, which is {kind}; only regular files are let onto a board")
    parts = PurePosixPath(member.name).parts
    if "/".join(parts) != member.name or not all(_PART.fullmatch(part) for part in parts):
        raise DeployError(f"the archive names {member.name!r}; expected a plain relative path inside the artifact")
    return member.name


def _expect_listed(got: set[str], listed: set[str]) -> None:
    if extra := sorted(got - listed):
        raise DeployError(f"the archive holds {extra[:5]}, which its manifest does not list; nothing was unpacked")
    if missing := sorted(listed - got):
        raise DeployError(f"the archive lacks {missing[:5]}, which its manifest lists; pack the artifact's directory again")


def _expect_digest(what: str, content: bytes, expected: str) -> None:
    got = sha256(content).hexdigest()
    if got != expected:
        raise DigestMismatchError(what, expected=expected, got=got)


def _write(files: dict[str, bytes], executable: str, into: Path) -> None:
    """Write beside `into` and rename, so that nobody sees half an artifact."""
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=into.parent) as scratch:
            fresh = Path(scratch) / "new"
            for name, content in files.items():
                path = fresh / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(0o755 if name == executable else 0o644)
            old = into.rename(Path(scratch) / "old") if into.is_dir() and not into.is_symlink() else None
            try:
                fresh.rename(into)
            except OSError:
                if old:
                    old.rename(into)
                raise
    except OSError as error:
        raise DeployError(f"cannot write the artifact to {into}: {error}; check the space and rights there") from error
