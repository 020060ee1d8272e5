"""py-evm's key-value store in one SQLite file with one owner process."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eth.db.backends.base import BaseDB

from vlab.errors import RefusedError


class SqliteStore(BaseDB):  # type: ignore[misc]  # the base class is untyped
    """Keys and values; what happens inside `transaction` is on disk completely when it ends, or not at all."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and keep it locked.

        Raises:
            RefusedError: another process owns the file, or it is damaged.
        """
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        try:
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.execute("CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID")
            with self.transaction():  # takes the lock now rather than at the first block
                pass
        except sqlite3.OperationalError as error:
            raise RefusedError(f"{path} is in use by another process ({error}); stop the other development chain") from error
        except sqlite3.DatabaseError as error:
            raise RefusedError(f"{path} is damaged ({error}); move its directory away to begin a new chain") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything at the end, or nothing if an exception passes."""
        self._connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def __getitem__(self, key: bytes) -> bytes:
        row = self._connection.execute("SELECT v FROM kv WHERE k = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return bytes(row[0])

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO kv VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v", (key, bytes(value))
        )

    def __delitem__(self, key: bytes) -> None:
        if self._connection.execute("DELETE FROM kv WHERE k = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def _exists(self, key: bytes) -> bool:
        return self._connection.execute("SELECT 1 FROM kv WHERE k = ?", (key,)).fetchone() is not None
