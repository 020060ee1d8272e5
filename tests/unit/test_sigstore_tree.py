"""The durable Merkle tree of the local Sigstore-compatible instance."""

import sqlite3
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from vlab import merkle
from vlab.sigstore_local.tree import Tree


def reference_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + reference_root(leaves[:split]) + reference_root(leaves[split:])).digest()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An empty tree."""
    return Tree(tmp_path / "tree.db")


def test_roots_and_proofs_are_those_of_the_rfc(tree: Tree) -> None:
    """Root and every inclusion proof of every size up to 70 follow RFC 6962 and verify by RFC 9162."""
    leaves = [f"leaf {number}".encode() for number in range(70)]

    for size, leaf in enumerate(leaves, start=1):
        assert size - 1 == tree.append(leaf)
        root = reference_root(leaves[:size])
        assert root == tree.root(size)
        for index in range(size):
            path = tree.inclusion(index, size)
            assert merkle.verify_inclusion(root, merkle.leaf_hash(leaves[index]), index, size, path)


def test_root_of_nothing(tree: Tree) -> None:
    """The empty tree's root is the hash of nothing."""
    assert sha256(b"").digest() == tree.root(0)


def test_old_roots_stay(tree: Tree) -> None:
    """The root of an earlier size can still be given when the tree has grown."""
    leaves = [bytes([number]) for number in range(9)]
    for leaf in leaves:
        tree.append(leaf)

    assert [reference_root(leaves[:size]) for size in range(10)] == [tree.root(size) for size in range(10)]


def test_a_leaf_is_logged_once(tree: Tree) -> None:
    """Appending the same body again gives the first place and does not grow the tree."""
    assert [0, 1, 0] == [tree.append(body) for body in (b"a", b"b", b"a")]
    assert 2 == tree.size


def test_reopened_tree_goes_on(tmp_path: Path) -> None:
    """A tree opened again has the same leaves and takes more."""
    first = Tree(tmp_path / "tree.db")
    first.append(b"a")
    first.append(b"b")
    first.close()

    again = Tree(tmp_path / "tree.db")
    again.append(b"c")

    assert [b"a", b"b", b"c"] == again.bodies(0, 10)
    assert reference_root([b"a", b"b", b"c"]) == again.root(3)


@pytest.mark.parametrize(
    "statement",
    [
        "delete from leaf",
        "update leaf set body = x'00'",
        "delete from node",
        "update node set hash = x'00'",
    ],
)
def test_rows_cannot_be_changed(tree: Tree, tmp_path: Path, statement: str) -> None:
    """The file itself refuses to forget or change what it holds."""
    tree.append(b"a")

    with sqlite3.connect(tmp_path / "tree.db") as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)
