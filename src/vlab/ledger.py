"""The lab's append-only log: an RFC 9162 tree over bundle digests, stored in SQLite.

A leaf entry is the 32-byte SHA-256 of the stored bytes of a bundle, in order of arrival; the same bytes are entered once. The
hash of every complete subtree is stored when it is completed, so appending and proving cost O(log n) rows. What is stored
never changes: triggers refuse it, whoever opens the file.

    ledger = Ledger("ledger.sqlite", origin="lab.example/ledger")
    [index] = ledger.append([digest])
    head = ledger.head()
    proof = ledger.inclusion(digest, head.size)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from vlab import merkle
from vlab.errors import RefusedError, TransientError
from vlab.records import Inclusion, LogHead

FORMAT = "vlab-ledger/v1"

BUSY_TIMEOUT_S = 30
"""How long a writer waits for the writers before it."""

_ROWS_PER_QUERY = 500

_schema = sa.MetaData()

_about = sa.Table(
    "about",
    _schema,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("format", sa.String, nullable=False),
    sa.Column("origin", sa.String, nullable=False),
)

_leaves = sa.Table(
    "leaves",
    _schema,
    sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary(32), sa.CheckConstraint("length(digest) = 32"), nullable=False, unique=True),
)

_subtrees = sa.Table(
    "subtrees",
    _schema,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary(32), sa.CheckConstraint("length(hash) = 32"), nullable=False),
    comment="the complete subtree over the leaves from `start` to before `end` has the number `start + end - 1`",
)

_REFUSED_INSERTS = {  # INSERT OR REPLACE deletes without firing delete triggers
    "about": "EXISTS (SELECT 1 FROM about)",
    "leaves": "NEW.position <> (SELECT coalesce(max(position) + 1, 0) FROM leaves)"
    " OR EXISTS (SELECT 1 FROM leaves WHERE digest = NEW.digest)",
    "subtrees": "EXISTS (SELECT 1 FROM subtrees WHERE number = NEW.number)",
}


class LedgerError(RefusedError):
    """The ledger is damaged, is another one, or does not hold what was asked for."""


class Ledger:
    """An append-only log of digests; safe for several threads and processes, and against a kill at any moment."""

    def __init__(self, url_or_path: str | Path, origin: str | None = None) -> None:
        """Open the ledger, creating it when there is none.

        Args:
            url_or_path: path of a SQLite file, or a `sqlite:///` URL.
            origin: name of the log, stored at creation and required for it; an existing ledger must carry the same one.

        Raises:
            LedgerError: the file is damaged, is no ledger, or is one with another origin.
            TransientError: other writers held it for longer than `BUSY_TIMEOUT_S`.
        """
        text = str(url_or_path)
        url = sa.make_url(text) if "://" in text else sa.URL.create("sqlite", database=text)
        if url.get_backend_name() != "sqlite" or not url.database:
            raise LedgerError(f"ledger at {url.render_as_string()}: expected the path or sqlite:/// URL of a file")
        self._path = Path(url.database)
        if origin is None and not self._path.exists():
            raise LedgerError(f"no ledger at {self._path}; create one by giving its origin, for a local lab with: vlab up")
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(self._engine, "connect", _prepare)
        sa.event.listen(self._engine, "begin", _begin)
        self.origin = self._open(origin)

    def append(self, digests: Sequence[str]) -> list[int]:
        """Enter digests in one transaction; when this returns they are on disk.

        Args:
            digests: lowercase hex SHA-256 of bundles. One that is already in keeps its place.

        Returns:
            The leaf index of each digest, in the order given.

        Raises:
            LedgerError: a digest is malformed, or the file is damaged; nothing was entered.
            TransientError: other writers held the ledger for too long; nothing was entered.
        """
        entries = [_digest_bytes(digest) for digest in digests]
        with self._transaction(write=True) as rows:
            known = rows.positions(entries)
            size = rows.size()
            fresh = [entry for entry in dict.fromkeys(entries) if entry not in known]
            if fresh:
                known.update((entry, size + offset) for offset, entry in enumerate(fresh))
                rows.insert(fresh, size)
        return [known[entry] for entry in entries]

    def size(self) -> int:
        """Number of leaves."""
        with self._transaction() as rows:
            return rows.size()

    def head(self, size: int | None = None) -> LogHead:
        """Size and root, now or at an earlier size.

        Raises:
            LedgerError: the ledger is empty, or smaller than `size`.
        """
        with self._transaction() as rows:
            at = rows.checked_size(size)
            [root] = rows.hashes([(0, at)])
        return LogHead(origin=self.origin, size=at, root=root.hex())

    def inclusion(self, leaf: str | int, size: int) -> Inclusion:
        """Proof that a leaf is in the tree of the first `size` leaves (RFC 9162 section 2.1.3.1).

        Args:
            leaf: the digest that was entered, or its index.
            size: size of the tree, at least 1 and at most the ledger's.

        Raises:
            LedgerError: the digest is not among the first `size` leaves, or the ledger is smaller than `size`.
        """
        with self._transaction() as rows:
            at = rows.checked_size(size)
            index = leaf if isinstance(leaf, int) else rows.positions([_digest_bytes(leaf)]).get(bytes.fromhex(leaf), -1)
            if not 0 <= index < at:
                raise LedgerError(f"{leaf} is not among the first {at} leaves of {self.origin}; append it first")
            proof = rows.hashes(merkle.inclusion_ranges(index, at))
        return Inclusion(index=index, hashes=tuple(part.hex() for part in proof))

    def consistency(self, old_size: int, size: int) -> list[str]:
        """Proof, as hex hashes, that the tree of `size` leaves extends that of `old_size` (RFC 9162 section 2.1.4.1).

        Raises:
            LedgerError: not 0 < old_size <= size <= the ledger's size.
        """
        with self._transaction() as rows:
            at = rows.checked_size(size)
            if not 0 < old_size <= at:
                raise LedgerError(f"consistency of {self.origin} from size {old_size} to {at}, expected 0 < old size <= size")
            return [part.hex() for part in rows.hashes(merkle.consistency_ranges(old_size, at))]

    def audit(self) -> LogHead:
        """Recompute the whole tree from the entries and compare it with every stored hash; reads everything.

        Raises:
            LedgerError: something stored differs; the ledger must not be used any more.
        """
        with self._transaction() as rows:
            size = rows.audit()
        return self.head(size)

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    def _open(self, origin: str | None) -> str:
        with self._transaction(write=True) as rows:
            connection = rows.connection
            if origin is not None and not sa.inspect(connection).has_table(_about.name):
                if sa.inspect(connection).get_table_names():
                    raise LedgerError(f"{self._path} is a database but no ledger; give the path of another file")
                _schema.create_all(connection)
                _forbid_changes(connection)
                connection.execute(_about.insert().values(id=1, format=FORMAT, origin=origin))
            found = connection.execute(sa.select(_about.c.format, _about.c.origin)).one_or_none()
        if found is None or found.format != FORMAT:
            raise LedgerError(f"{self._path} has ledger format {found and found.format}, expected {FORMAT}")
        if origin not in {None, found.origin}:
            raise LedgerError(
                f"{self._path} is the ledger of {found.origin!r}, expected {origin!r}; open the file that is meant"
            )
        return str(found.origin)

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator["_Rows"]:
        try:
            with self._engine.connect().execution_options(immediate=write) as connection, connection.begin():
                yield _Rows(connection, self._path)
        except OperationalError as error:
            if "no such table" in str(error.orig):
                raise LedgerError(f"{self._path} is no ledger ({error.orig}); give the path of the ledger's file") from error
            raise TransientError(f"ledger {self._path} cannot be used now ({error.orig}); try again") from error
        except DatabaseError as error:
            raise _damaged(self._path, error.orig) from error


class _Rows:
    """The ledger's rows inside one transaction."""

    def __init__(self, connection: sa.Connection, path: Path) -> None:
        self.connection = connection
        self._path = path

    def size(self) -> int:
        last = self.connection.execute(sa.select(sa.func.max(_leaves.c.position))).scalar()
        return 0 if last is None else int(last) + 1

    def checked_size(self, size: int | None) -> int:
        held = self.size()
        wanted = held if size is None else size
        if not 0 < wanted <= held:
            raise LedgerError(f"size {wanted} of a ledger with {held} leaves; expected at least 1 and at most {held}")
        return wanted

    def positions(self, entries: Sequence[bytes]) -> dict[bytes, int]:
        """Where these entries are; those that are not in are left out."""
        found: dict[bytes, int] = {}
        for start in range(0, len(entries), _ROWS_PER_QUERY):
            part = entries[start : start + _ROWS_PER_QUERY]
            query = sa.select(_leaves.c.digest, _leaves.c.position).where(_leaves.c.digest.in_(part))
            found.update((row.digest, row.position) for row in self.connection.execute(query))
        return found

    def insert(self, entries: Sequence[bytes], size: int) -> None:
        """Enter new entries after the first `size` leaves, with every subtree they complete."""
        frontier = list(merkle.complete_subtrees(0, size))
        stack = list(zip(frontier, self.hashes(frontier), strict=True))
        completed = []
        for position, entry in enumerate(entries, start=size):
            stack.append(((position, position + 1), merkle.leaf_hash(entry)))
            completed.append(stack[-1])
            while len(stack) > 1 and _width(stack[-1][0]) == _width(stack[-2][0]):
                ((_, end), right), ((start, _), left) = stack.pop(), stack.pop()
                stack.append(((start, end), merkle.node_hash(left, right)))
                completed.append(stack[-1])
        leaves = [{"position": position, "digest": entry} for position, entry in enumerate(entries, start=size)]
        self.connection.execute(_leaves.insert(), leaves)
        self.connection.execute(_subtrees.insert(), [{"number": _number(of), "hash": value} for of, value in completed])

    def hashes(self, ranges: Sequence[merkle.Range]) -> list[bytes]:
        """Hash of each range of leaves, each a subtree of some tree of the log."""
        parts = [[_number(part) for part in merkle.complete_subtrees(*leaves)] for leaves in ranges]
        numbers = [number for part in parts for number in part]
        stored = self._stored(sa.select(_subtrees).where(_subtrees.c.number.in_(numbers)))
        for number in numbers:
            if number not in stored:
                raise _damaged(self._path, f"subtree {number} is missing")
        return [merkle.fold_subtrees([stored[number] for number in part]) for part in parts]

    def audit(self) -> int:
        """Recompute every stored hash from the entries; returns the number of leaves."""
        entries = self.connection.execute(sa.select(_leaves.c.position, _leaves.c.digest).order_by(_leaves.c.position)).all()
        if [row.position for row in entries] != list(range(len(entries))):
            raise _damaged(self._path, "leaves are missing")
        level = [merkle.leaf_hash(row.digest) for row in entries]
        expected: dict[int, bytes] = {}
        width = 1
        while level:
            expected.update((_number((i * width, (i + 1) * width)), value) for i, value in enumerate(level))
            level = [merkle.node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            width *= 2
        stored = self._stored(sa.select(_subtrees))
        differing = [number for number in expected | stored if expected.get(number) != stored.get(number)]
        if differing:
            raise _damaged(self._path, f"subtree {min(differing)} and {len(differing) - 1} others differ from the entries")
        return len(entries)

    def _stored(self, query: sa.Select[tuple[int, bytes]]) -> dict[int, bytes]:
        return {row.number: row.hash for row in self.connection.execute(query)}


def _forbid_changes(connection: sa.Connection) -> None:
    for table, refused in _REFUSED_INSERTS.items():
        for event in (f"UPDATE ON {table}", f"DELETE ON {table}", f"INSERT ON {table} WHEN {refused}"):
            name = f"{table}_no_{event.split()[0].lower()}"
            action = f"SELECT RAISE(ABORT, 'the ledger is append-only: {table}')"
            connection.exec_driver_sql(f"CREATE TRIGGER {name} BEFORE {event} BEGIN {action}; END")


def _width(leaves: merkle.Range) -> int:
    return leaves[1] - leaves[0]


def _number(leaves: merkle.Range) -> int:
    """In-order number of the complete subtree over these leaves: leaf i has 2 i, its ancestors the odd numbers between."""
    return leaves[0] + leaves[1] - 1


def _digest_bytes(digest: str) -> bytes:
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise LedgerError(f"got {digest!r} as a digest, expected 64 lowercase hex characters of SHA-256")
    return bytes.fromhex(digest)


def _damaged(path: Path, what: object) -> LedgerError:
    return LedgerError(f"ledger {path} is damaged ({what}); stop the lab and restore the file from a copy")


def _prepare(connection: SqliteConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
