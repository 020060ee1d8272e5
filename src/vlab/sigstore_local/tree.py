"""A durable append-only Merkle tree (RFC 9162 section 2.1) on SQLite.

The hash of every complete subtree is stored, so appending, roots, proofs and tiles cost O(log n) rows. An append is one
transaction, synchronised to disk before the leaf's place is given to anyone: a killed process leaves a consistent tree.
One process, one thread; the state directory's lock sees to that.
"""

import sqlite3
import time
from pathlib import Path

from vlab import merkle

_SCHEMA = """
create table if not exists leaf (
  place integer primary key, hash blob not null unique, body blob not null, appended_on integer not null);
create table if not exists node (
  level integer not null, place integer not null, hash blob not null, primary key (level, place)) without rowid;
create trigger if not exists leaf_kept before delete on leaf begin select raise(abort, 'append-only'); end;
create trigger if not exists leaf_fixed before update on leaf begin select raise(abort, 'append-only'); end;
create trigger if not exists node_kept before delete on node begin select raise(abort, 'append-only'); end;
create trigger if not exists node_fixed before update on node begin select raise(abort, 'append-only'); end;
"""


class Tree:
    """The tree in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)
        self.size: int = self._db.execute("select count(*) from leaf").fetchone()[0]
        """Number of leaves."""

    def append(self, body: bytes) -> int:
        """Add a leaf and return its index; a body that is already in the tree keeps the index it has."""
        digest = merkle.leaf_hash(body)
        known = self._db.execute("select place from leaf where hash = ?", (digest,)).fetchone()
        if known:
            return int(known[0])
        place, level, index = self.size, 0, self.size
        self._db.execute("begin immediate")
        try:
            self._db.execute("insert into leaf values (?, ?, ?, ?)", (place, digest, body, int(time.time())))
            self._db.execute("insert into node values (0, ?, ?)", (index, digest))
            while index & 1:
                digest = merkle.node_hash(self._node(level, index - 1), digest)
                level, index = level + 1, index >> 1
                self._db.execute("insert into node values (?, ?, ?)", (level, index, digest))
            self._db.execute("commit")
        except BaseException:
            self._db.execute("rollback")
            raise
        self.size += 1
        return place

    def root(self, size: int) -> bytes:
        """Root of the first `size` leaves (RFC 9162 section 2.1.1)."""
        return merkle.EMPTY_ROOT if size == 0 else self._subtree(0, size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Audit path of a leaf in the tree of `size` leaves, leaf side first (RFC 9162 section 2.1.3.1)."""
        return [self._subtree(first, end) for first, end in merkle.inclusion_ranges(index, size)]

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Hashes of up to `count` complete subtrees of 2**level leaves, from the `first` on."""
        rows = self._db.execute(
            "select hash from node where level = ? and place >= ? and place < ? order by place", (level, first, first + count)
        )
        return [row[0] for row in rows]

    def bodies(self, first: int, count: int) -> list[bytes]:
        """Up to `count` leaves, from the `first` on."""
        rows = self._db.execute("select body from leaf where place >= ? and place < ? order by place", (first, first + count))
        return [row[0] for row in rows]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _node(self, level: int, place: int) -> bytes:
        row = self._db.execute("select hash from node where level = ? and place = ?", (level, place)).fetchone()
        return bytes(row[0])

    def _subtree(self, first: int, end: int) -> bytes:
        return merkle.fold_subtrees([self._complete(*part) for part in merkle.complete_subtrees(first, end)])

    def _complete(self, first: int, end: int) -> bytes:
        width = end - first
        return self._node(width.bit_length() - 1, first // width)
