"""The Merkle tree of RFC 9162 (the same as RFC 6962): hashes, proofs and their checks, with hashlib only.

All hashes are raw 32-byte SHA-256 values. Proofs are first described as ranges of leaves (`inclusion_ranges`,
`consistency_ranges`), each range being one subtree whose hash goes into the proof; who stores subtree hashes, as the ledger
does, resolves a range without touching its leaves.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

Range = tuple[int, int]
"""Leaves `start` (included) to `end` (excluded)."""

EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves (RFC 9162 section 2.1.1)."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of a leaf entry: SHA-256(0x00 || data) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right) (RFC 9162 section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root of the tree over these leaf hashes, MTH of RFC 9162 section 2.1.1; `EMPTY_ROOT` for none.

    Level by level, an odd last node being promoted unhashed, which gives the same tree as the recursive definition.
    """
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    while len(level) > 1:
        paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def complete_subtrees(start: int, end: int) -> Iterator[Range]:
    """Split a subtree's leaves into complete subtrees, largest first: at most log2(end - start) + 1 of them.

    `start` must be aligned as the RFC's recursion makes it: a multiple of the largest power of two not above `end - start`.
    """
    while start < end:
        width = 1 << ((end - start).bit_length() - 1)
        yield start, start + width
        start += width


def fold_subtrees(hashes: Sequence[bytes]) -> bytes:
    """Hash of the subtree made of these complete subtrees, largest first, as `complete_subtrees` names them."""
    folded = hashes[-1]
    for left in reversed(hashes[:-1]):
        folded = node_hash(left, folded)
    return folded


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The subtrees whose hashes form PATH(index, D[size]) of RFC 9162 section 2.1.3.1, leaf side first.

    Raises:
        IndexError: not 0 <= index < size.
    """
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of a tree of {size} leaves, expected 0 <= index < size")
    ranges: list[Range] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old_size: int, size: int) -> list[Range]:
    """The subtrees whose hashes form PROOF(old_size, D[size]) of RFC 9162 section 2.1.4.1; none for equal sizes.

    Raises:
        IndexError: not 0 < old_size <= size.
    """
    if not 0 < old_size <= size:
        raise IndexError(f"consistency from {old_size} to {size} leaves, expected 0 < old size <= size")
    ranges: list[Range] = []
    start, end = 0, size
    while old_size < end:
        middle = start + _split(end - start)
        if old_size <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    if start:  # the old tree is not itself a node of the new one: its last complete part opens the proof
        ranges.append((start, end))
    return ranges[::-1]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Proof that leaf `index` is in the tree over `leaf_hashes` (RFC 9162 section 2.1.3.1).

    Raises:
        IndexError: there is no such leaf.
    """
    return [root(leaf_hashes[start:end]) for start, end in inclusion_ranges(index, len(leaf_hashes))]


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the tree over `leaf_hashes` extends the tree over its first `old_size` leaves (RFC 9162 section 2.1.4.1).

    Raises:
        IndexError: not 0 < old_size <= number of leaves.
    """
    return [root(leaf_hashes[start:end]) for start, end in consistency_ranges(old_size, len(leaf_hashes))]


def verify_inclusion(tree_root: bytes, leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bool:
    """Whether the leaf hash `leaf` is number `index` of the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size or not _all_hashes(tree_root, leaf, *proof):
        return False
    fn, sn, computed = index, size - 1, leaf
    for sibling in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            computed = node_hash(sibling, computed)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and computed == tree_root


def verify_consistency(old_size: int, size: int, old_root: bytes, tree_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `size` leaves extends the tree of `old_size` leaves (RFC 9162 section 2.1.4.2).

    Size 0 is refused, since every tree extends the empty one; equal sizes need equal roots and an empty proof.
    """
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return old_root == tree_root and not proof
    if not proof or not _all_hashes(old_root, tree_root, *proof):
        return False
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old_computed = computed = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old_computed, computed = node_hash(sibling, old_computed), node_hash(sibling, computed)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            computed = node_hash(computed, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and old_computed == old_root and computed == tree_root


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _all_hashes(*values: bytes) -> bool:
    return all(len(value) == 32 for value in values)
