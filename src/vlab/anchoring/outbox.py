"""Signed transactions on disk before they are sent, so that a restart sends the same bytes and never a second transaction."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlab.errors import RefusedError, TransientError

BUSY_TIMEOUT_S = 30

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
    chain_id INTEGER NOT NULL, account TEXT NOT NULL, nonce INTEGER NOT NULL, attempt INTEGER NOT NULL,
    purpose TEXT NOT NULL, recipient TEXT NOT NULL, data BLOB NOT NULL, gas INTEGER NOT NULL,
    max_fee INTEGER NOT NULL, tip INTEGER NOT NULL, hash TEXT NOT NULL UNIQUE, raw BLOB NOT NULL, signed_at REAL NOT NULL,
    PRIMARY KEY (chain_id, account, nonce, attempt)
)
"""

_INSERT = "INSERT OR IGNORE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Call:
    """A transaction that is wanted, whatever nonce and fees it will have."""

    purpose: str
    """Names the effect; transactions with one purpose stand for each other."""
    recipient: str
    """Contract address; empty to create a contract."""
    data: bytes
    gas: int
    """Gas limit."""


@dataclass(frozen=True)
class Attempt:
    """A signed transaction. Several attempts share a nonce, of which the chain takes one."""

    call: Call
    nonce: int
    number: int
    max_fee: int
    """Wei per gas."""
    tip: int
    """Wei per gas."""
    hash: str
    raw: bytes
    signed_at: float
    """Seconds since 1970."""


class Outbox:
    """The attempts of one account on one chain; one file may serve several processes of a host."""

    def __init__(self, path: Path, chain_id: int, account: str) -> None:
        """Open or create the file (mode 0600)."""
        self._path, self._key = path, (chain_id, account.lower())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with self._file() as file:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute(_SCHEMA)

    def attempts(self, nonce: int) -> list[Attempt]:
        """All attempts for a nonce, the best paid last."""
        return self._select("nonce = ? ORDER BY attempt", nonce)

    def for_purpose(self, purpose: str) -> list[Attempt]:
        """All attempts at an effect, the newest first."""
        return self._select("purpose = ? ORDER BY nonce DESC, attempt DESC", purpose)

    def add(self, attempt: Attempt) -> bool:
        """Store an attempt; False if another process has stored one with this nonce and number meanwhile."""
        call = attempt.call
        row = (
            *self._key, attempt.nonce, attempt.number, call.purpose, call.recipient, call.data, call.gas, attempt.max_fee,
            attempt.tip, attempt.hash, attempt.raw, attempt.signed_at,
        )  # fmt: skip
        with self._file() as file:
            return file.execute(_INSERT, row).rowcount == 1

    def _select(self, condition: str, value: object) -> list[Attempt]:
        columns = "purpose, recipient, data, gas, nonce, attempt, max_fee, tip, hash, raw, signed_at"
        query = f"SELECT {columns} FROM attempts WHERE chain_id = ? AND account = ? AND {condition}"  # noqa: S608  # constants
        with self._file() as file:
            return [Attempt(Call(*row[:4]), *row[4:]) for row in file.execute(query, (*self._key, value))]

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as file:
                file.execute("PRAGMA synchronous = FULL")
                yield file
        except sqlite3.OperationalError as error:
            raise TransientError(f"outbox {self._path} cannot be used now ({error}); try again") from error
        except sqlite3.DatabaseError as error:
            raise RefusedError(
                f"outbox {self._path} is damaged ({error}); move it away once no transaction of its account is pending"
            ) from error
