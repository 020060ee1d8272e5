"""What every record is made of: canonical, frozen, strictly parsed."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Self
from uuid import UUID

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from vlab import errors
from vlab.errors import EvidenceError, VlabError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Lowercase hex SHA-256."""


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name that is safe in paths, Prefect keys and identities."""


TargetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+/[a-z0-9_-]+$")]
"""Family and kind of board, as under `targets/`: `riscv/rv64gc-linux`."""


UtcTime = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
"""RFC 3339 in UTC, to the second."""


def utc_now() -> str:
    """The current time as `UtcTime`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def digest_file(path: Path) -> str:
    """Lowercase hex SHA-256 of a file's bytes."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def request_id_of(flow_run_id: UUID | str) -> str:
    """The request that a flow run opens when nobody named one."""
    return f"r-{UUID(str(flow_run_id)).hex[:12]}"


class Record(BaseModel):
    """A frozen value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785). Law: `from_json(r.to_json()) == r`.

        Raises:
            EvidenceError: a number that canonical JSON does not know: not finite, or a whole one beyond 2**53.
        """
        try:
            return rfc8785.dumps(self.model_dump(mode="json"))
        except rfc8785.CanonicalizationError as error:
            raise EvidenceError(f"a {type(self).__name__} record holds what canonical JSON does not know: {error}") from error

    def digest(self) -> str:
        """SHA-256 of the canonical bytes."""
        return sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Parse strictly.

        Raises:
            EvidenceError: the text is not JSON or not such a record; names the first wrong field.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise EvidenceError(f"this is no {cls.__name__} record: {where}: {first['msg']}") from error

    @classmethod
    def from_canonical(cls, text: bytes | str) -> Self:
        """Parse what must be canonical: no byte of it is free, and every reader sees the same values.

        Raises:
            EvidenceError: not such a record, or in another form than `to_json` gives.
        """
        record = cls.from_json(text)
        if record.to_json() != (text.encode() if isinstance(text, str) else text):
            raise EvidenceError(f"a {cls.__name__} record is not in canonical form, so some byte of it is not what was written")
        return record


class FileRef(Record):
    """One file by content."""

    name: str = Field(description="relative POSIX path, no `..`")
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class Failure(Record):
    """What vlab raised on purpose in one process, for another to raise again."""

    kind: str = Field(description="class in vlab.errors")
    message: str

    @classmethod
    def of(cls, error: VlabError) -> Self:
        """What was raised, as the nearest class that every process knows."""
        return cls(
            kind=next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__)), message=str(error)
        )

    @property
    def error(self) -> VlabError:
        """What to raise."""
        raised: VlabError = getattr(errors, self.kind)(self.message)
        return raised


class AssetRef(Record):
    """Bytes in the artifact store."""

    uri: str = Field(description="where the store keeps them")
    file: FileRef
