"""The Merkle tree against the public vectors and against the RFC's own recursive definitions."""

import json
import os
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab import merkle

SHARED = Path(os.environ.get("VLAB_SHARED") or Path(__file__).resolve().parents[3] / "shared")
VECTORS = SHARED / "vectors" / "rfc6962"
needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="no RFC 6962 vectors; set VLAB_SHARED to the folder that has vectors/rfc6962"
)

sizes = st.integers(min_value=1, max_value=200)


def leaves(count: int) -> list[bytes]:
    """Distinct leaf hashes."""
    return [merkle.leaf_hash(b"entry %d" % i) for i in range(count)]


def split(size: int) -> int:
    """The largest power of two below `size`."""
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def mth(hashes: list[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1, word for word."""
    if not hashes:
        return sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return sha256(b"\x01" + mth(hashes[:k]) + mth(hashes[k:])).digest()


def path(index: int, hashes: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 section 2.1.3.1, word for word."""
    if len(hashes) == 1:
        return []
    k = split(len(hashes))
    if index < k:
        return [*path(index, hashes[:k]), mth(hashes[k:])]
    return [*path(index - k, hashes[k:]), mth(hashes[:k])]


def subproof(old: int, hashes: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162 section 2.1.4.1, word for word."""
    if old == len(hashes):
        return [] if whole else [mth(hashes)]
    k = split(len(hashes))
    if old <= k:
        return [*subproof(old, hashes[:k], whole), mth(hashes[k:])]
    return [*subproof(old - k, hashes[k:], False), mth(hashes[:k])]


def vectors(kind: str) -> list[Path]:
    """The vector files of one kind."""
    return sorted((VECTORS / kind).rglob("*.json"))


@needs_vectors
def test_inclusion_vectors() -> None:
    """Every public inclusion vector gets the published verdict."""
    files = vectors("inclusion")

    for file in files:
        case = json.loads(file.read_text())
        accepted = merkle.verify_inclusion(
            b64decode(case["root"] or ""),
            b64decode(case["leafHash"] or ""),
            case["leafIdx"],
            case["treeSize"],
            [b64decode(part) for part in case["proof"] or []],
        )

        assert (not case["wantErr"]) == accepted, file
    assert len(files) == 98


@needs_vectors
def test_consistency_vectors() -> None:
    """Every public consistency vector gets the published verdict."""
    files = vectors("consistency")

    for file in files:
        case = json.loads(file.read_text())
        accepted = merkle.verify_consistency(
            case["size1"],
            case["size2"],
            b64decode(case["root1"] or ""),
            b64decode(case["root2"] or ""),
            [b64decode(part) for part in case["proof"] or []],
        )

        assert (not case["wantErr"]) == accepted, file
    assert len(files) == 98


@given(st.integers(min_value=0, max_value=200))
def test_root_is_the_recursive_definition(size: int) -> None:
    """The root equals MTH of the RFC, for the empty tree too."""
    assert mth(leaves(size)) == merkle.root(leaves(size))


@given(sizes, st.data())
def test_inclusion_proof_is_the_recursive_definition_and_verifies(size: int, data: st.DataObject) -> None:
    """The inclusion proof equals PATH of the RFC and verifies."""
    index = data.draw(st.integers(0, size - 1))
    hashes = leaves(size)
    proof = merkle.inclusion_proof(hashes, index)

    assert path(index, hashes) == proof
    assert merkle.verify_inclusion(mth(hashes), hashes[index], index, size, proof)


@given(sizes, st.data())
def test_consistency_proof_is_the_recursive_definition_and_verifies(size: int, data: st.DataObject) -> None:
    """The consistency proof equals PROOF of the RFC and verifies."""
    old = data.draw(st.integers(1, size))
    hashes = leaves(size)
    proof = merkle.consistency_proof(hashes, old)

    assert subproof(old, hashes, True) == proof
    assert merkle.verify_consistency(old, size, mth(hashes[:old]), mth(hashes), proof)


@given(st.integers(2, 60), st.data())
def test_altered_inclusion_proofs_are_refused(size: int, data: st.DataObject) -> None:
    """A flipped bit, another index, a missing or an extra hash makes an inclusion proof fail."""
    index = data.draw(st.integers(0, size - 1))
    hashes = leaves(size)
    proof = merkle.inclusion_proof(hashes, index)
    tree, leaf = mth(hashes), hashes[index]
    where = data.draw(st.integers(0, len(proof) - 1))
    flipped = [*proof[:where], bytes([proof[where][0] ^ 1]) + proof[where][1:], *proof[where + 1 :]]
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index))

    assert not merkle.verify_inclusion(tree, leaf, index, size, flipped)
    assert not merkle.verify_inclusion(tree, leaf, other, size, proof)
    assert not merkle.verify_inclusion(tree, leaf, index, size, proof[:-1])
    assert not merkle.verify_inclusion(tree, leaf, index, size, [*proof, tree])
    assert not merkle.verify_inclusion(tree, leaf, size, size, proof)
    assert not merkle.verify_inclusion(tree, leaf, -1, size, proof)


@given(st.integers(2, 60), st.data())
def test_a_rewritten_history_is_refused(size: int, data: st.DataObject) -> None:
    """A tree in which an already published leaf was changed has no consistency proof from the published root."""
    old = data.draw(st.integers(1, size - 1))
    hashes = leaves(size)
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*hashes[:changed], merkle.leaf_hash(b"rewritten"), *hashes[changed + 1 :]]

    assert not merkle.verify_consistency(old, size, mth(hashes[:old]), mth(rewritten), merkle.consistency_proof(rewritten, old))
    assert not merkle.verify_consistency(old, size, mth(hashes[:old]), mth(rewritten), merkle.consistency_proof(hashes, old))


def test_a_leaf_is_not_a_node() -> None:
    """Two leaf hashes joined as one entry do not give the root of the two-leaf tree (second preimages)."""
    a, b = leaves(2)

    assert merkle.leaf_hash(a + b) != merkle.root([a, b])


def test_proofs_outside_the_tree_are_refused() -> None:
    """Asking for a leaf or an older size that the tree does not have raises IndexError."""
    for index in (-1, 3):
        with pytest.raises(IndexError, match="expected 0 <= index < size"):
            merkle.inclusion_proof(leaves(3), index)
    for old in (0, 4):
        with pytest.raises(IndexError, match="expected 0 < old size <= size"):
            merkle.consistency_proof(leaves(3), old)
