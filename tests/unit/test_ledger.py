"""The ledger: order, proofs, several writers, a kill at any moment, and files that were tampered with."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlab import merkle
from vlab.ledger import Ledger, LedgerError
from vlab.records import LogHead

ORIGIN = "lab.example/ledger"

WRITER = """
import sys
from hashlib import sha256
from vlab.ledger import Ledger
ledger = Ledger(sys.argv[1], "lab.example/ledger")
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    [index] = ledger.append([sha256(b"%s %d" % (sys.argv[2].encode(), number)).hexdigest()])
    print(number, index, flush=True)
"""


def digests(count: int, kind: str = "bundle") -> list[str]:
    """Distinct digests."""
    return [sha256(f"{kind} {number}".encode()).hexdigest() for number in range(count)]


def leaf_hashes(entries: list[str]) -> list[bytes]:
    """Leaf hashes of digests."""
    return [merkle.leaf_hash(bytes.fromhex(entry)) for entry in entries]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A new, empty ledger."""
    opened = Ledger(tmp_path / "ledger.sqlite", ORIGIN)
    yield opened
    opened.close()


def test_leaves_keep_the_order_of_arrival(ledger: Ledger) -> None:
    """Digests get consecutive indices in the order given, and the root is that of the tree over their leaf hashes."""
    entries = digests(5)

    assert [0, 1, 2, 3, 4] == ledger.append(entries[:3]) + ledger.append(entries[3:])
    assert LogHead(origin=ORIGIN, size=5, root=merkle.root(leaf_hashes(entries)).hex()) == ledger.head()
    assert ledger.head() == ledger.audit()


def test_appending_again_changes_nothing(ledger: Ledger) -> None:
    """A digest that is in keeps its index, alone, repeated in one call, or among new ones."""
    first, second, third = digests(3)
    ledger.append([first, second])

    assert [1, 0] == ledger.append([second, first])
    assert [1, 2, 2, 0] == ledger.append([second, third, third, first])
    assert ledger.size() == 3
    assert [] == ledger.append([])


@settings(max_examples=15)
@given(parts=st.lists(st.integers(1, 17), min_size=1, max_size=6), data=st.data())
def test_every_head_and_proof_is_that_of_the_tree(
    parts: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However the appends were cut, heads and proofs of every size equal those computed from the leaves."""
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite", ORIGIN)
    entries = digests(sum(parts))
    hashes = leaf_hashes(entries)
    done = 0
    for part in parts:
        ledger.append(entries[done : done + part])
        done += part
    size = data.draw(st.integers(1, done))
    old, index = data.draw(st.integers(1, size)), data.draw(st.integers(0, size - 1))

    assert merkle.root(hashes[:size]).hex() == ledger.head(size).root
    by_digest = ledger.inclusion(entries[index], size)
    assert ledger.inclusion(index, size) == by_digest
    assert merkle.inclusion_proof(hashes[:size], index) == [bytes.fromhex(part) for part in by_digest.hashes]
    assert merkle.consistency_proof(hashes[:size], old) == [bytes.fromhex(part) for part in ledger.consistency(old, size)]
    ledger.audit()
    ledger.close()


def test_questions_outside_the_ledger_are_refused(ledger: Ledger) -> None:
    """An empty ledger has no head; sizes, leaves and digests that are not there are refused with what was expected."""
    with pytest.raises(LedgerError, match="expected at least 1"):
        ledger.head()
    ledger.append(digests(3))
    for size in (0, -1, 4):
        with pytest.raises(LedgerError, match="expected at least 1 and at most 3"):
            ledger.head(size)
    for leaf in (-1, 2, digests(3)[2], digests(1, "other")[0]):
        with pytest.raises(LedgerError, match="not among the first 2 leaves"):
            ledger.inclusion(leaf, 2)
    for old in (0, 4):
        with pytest.raises(LedgerError, match="expected 0 < old size <= size"):
            ledger.consistency(old, 3)


@pytest.mark.parametrize("digest", ["", "ab", "A" * 64, "g" * 64, "0" * 63 + " ", "0" * 65])
def test_malformed_digests_are_refused_and_nothing_is_entered(ledger: Ledger, digest: str) -> None:
    """Only 64 lowercase hex characters are a digest; one bad digest stops the whole append."""
    with pytest.raises(LedgerError, match="expected 64 lowercase hex"):
        ledger.append([*digests(2), digest])
    assert ledger.size() == 0


def test_origin_is_stored_and_checked(tmp_path: Path) -> None:
    """A ledger is created only with an origin, keeps it, and is not opened under another."""
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(LedgerError, match="no ledger at"):
        Ledger(path)
    Ledger(path, ORIGIN).close()

    assert Ledger(path).origin == ORIGIN
    assert Ledger(f"sqlite:///{path}").origin == ORIGIN
    with pytest.raises(LedgerError, match="expected 'other'"):
        Ledger(path, "other")


def test_several_writers_in_threads(ledger: Ledger) -> None:
    """Threads that append overlapping digests at once give every digest one index, without gaps."""
    entries = digests(60)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda start: ledger.append(entries[start : start + 20]), range(0, 41, 2)))

    placed = {entry: index for start, found in zip(range(0, 41, 2), results, strict=True)
              for entry, index in zip(entries[start : start + 20], found, strict=True)}  # fmt: skip
    assert list(range(60)) == sorted(placed.values())
    assert ledger.audit().size == 60


def test_several_processes_create_and_write_at_once(tmp_path: Path) -> None:
    """Processes that create the same ledger at the same moment all write into one log."""
    path = tmp_path / "ledger.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, f"writer{number}", "0", "25"], stdout=subprocess.DEVNULL)
        for number in range(3)
    ]

    assert [0, 0, 0] == [writer.wait(60) for writer in writers]
    assert Ledger(path).audit().size == 75


def test_a_killed_writer_loses_nothing_it_was_told(tmp_path: Path) -> None:
    """After kill -9 every index that `append` returned is there, the tree is whole, and writing goes on."""
    path = tmp_path / "ledger.sqlite"
    start = 0
    for lines in (5, 17, 3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path, "w", str(start), "100000"], stdout=subprocess.PIPE)
        told = [writer.stdout.readline() for _ in range(lines)] if writer.stdout else []
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate()[0].splitlines()
        last = [line for line in [*told, *rest] if len(line.split()) == 2][-1]
        ledger = Ledger(path)
        number, index = map(int, last.split())

        assert ledger.inclusion(sha256(b"w %d" % number).hexdigest(), ledger.size()).index == index
        start = ledger.audit().size
        ledger.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE leaves SET digest = zeroblob(32) WHERE position = 1",
        "DELETE FROM leaves WHERE position = 3",
        "INSERT OR REPLACE INTO leaves VALUES (1, zeroblob(32))",
        "INSERT INTO leaves VALUES (9, zeroblob(32))",
        "REPLACE INTO leaves SELECT 4, digest FROM leaves WHERE position = 0",
        "UPDATE subtrees SET hash = zeroblob(32)",
        "DELETE FROM subtrees",
        "INSERT OR REPLACE INTO subtrees VALUES (1, zeroblob(32))",
        "UPDATE about SET origin = 'other'",
        "DELETE FROM about",
        "REPLACE INTO about VALUES (1, 'vlab-ledger/v1', 'other')",
    ],
)
def test_the_file_refuses_changes_by_any_program(ledger: Ledger, tmp_path: Path, statement: str) -> None:
    """Changing, deleting or replacing rows is refused by the database itself, also for other programs."""
    ledger.append(digests(4))
    head = ledger.head()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)

    assert head == ledger.audit()


def test_audit_finds_a_changed_entry(ledger: Ledger, tmp_path: Path) -> None:
    """Who removes the triggers and changes an entry or a stored hash is found by the audit."""
    ledger.append(digests(6))
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        other.execute("DROP TRIGGER leaves_no_update")
        other.execute("UPDATE leaves SET digest = zeroblob(32) WHERE position = 2")
    other.close()

    with pytest.raises(LedgerError, match=r"is damaged \(subtree 3 and 2 others differ"):
        ledger.audit()


def test_damaged_files_are_named_as_damaged(tmp_path: Path) -> None:
    """A file that is not SQLite, a broken page, a missing hash or another database gives an error that says so."""
    text, other, path = tmp_path / "text", tmp_path / "other.sqlite", tmp_path / "ledger.sqlite"
    text.write_bytes(b"this is no database, " * 100)
    with pytest.raises(LedgerError, match=r"damaged \(file is not a database"):
        Ledger(text, ORIGIN)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE things (id)")
    connection.close()
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(other, ORIGIN)
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(other)

    ledger = Ledger(path, ORIGIN)
    ledger.append(digests(400))
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path).audit()

    path.write_bytes(whole)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER subtrees_no_delete")
        connection.execute("DELETE FROM subtrees WHERE number = 127")
    connection.close()
    with pytest.raises(LedgerError, match=r"damaged \(subtree 127 is missing"):
        Ledger(path).head(200)
