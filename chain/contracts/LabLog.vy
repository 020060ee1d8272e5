# pragma version ==0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title LabLog
@license Apache-2.0
@notice A witness for append-only logs. It keeps one tree head (size and root) for each log and accepts a new head only with
        a proof that the new tree extends the old one, so that nobody, the log's own lab included, can rewrite what was
        published.
@dev    RFC 9162 (the same tree as RFC 6962): SHA-256, leaf = sha256(0x00 || entry), node = sha256(0x01 || left || right).
        A log is named by the SHA-256 of its origin string. The owner chooses who may extend a log; no one can shrink,
        replace or delete a head, and the code has no upgrade path.
"""

event TreeHead:
    log_id: indexed(bytes32)
    size: indexed(uint64)
    root: bytes32

event PublisherSet:
    log_id: indexed(bytes32)
    publisher: indexed(address)

struct Log:
    publisher_and_size: uint256     # publisher << 64 | size: one slot, one cold read
    root: bytes32

MAX_PROOF: constant(uint256) = 64   # enough for a tree of 2**63 leaves

owner: public(address)
logs: HashMap[bytes32, Log]


@deploy
def __init__():
    """
    @notice The deployer becomes the owner.
    """
    self.owner = msg.sender


@external
def set_publisher(log_id: bytes32, publisher: address):
    """
    @notice Choose who may extend a log, for a new log or an existing one. Its head stays as it is.
    @param log_id SHA-256 of the log's origin.
    @param publisher The account; the zero address stops the log.
    """
    assert msg.sender == self.owner, "not the owner"
    size: uint256 = self.logs[log_id].publisher_and_size & convert(max_value(uint64), uint256)
    self.logs[log_id].publisher_and_size = (convert(publisher, uint256) << 64) | size
    log PublisherSet(log_id=log_id, publisher=publisher)


@external
def publish(log_id: bytes32, size: uint64, root: bytes32, proof: DynArray[bytes32, MAX_PROOF]) -> bool:
    """
    @notice Move a log's head forward. The first head of a log is taken as it is, without a proof.
    @param log_id SHA-256 of the log's origin.
    @param size Number of leaves of the new tree.
    @param root Root of the new tree.
    @param proof Consistency proof from the current head to the new one, RFC 9162 section 2.1.4.1.
    @return True if the head moved; False if it already was this one, so that a call can be repeated.
    """
    packed: uint256 = self.logs[log_id].publisher_and_size
    assert msg.sender == convert(packed >> 64, address), "not the publisher"
    assert size != 0, "size 0"
    old_size: uint64 = convert(packed & convert(max_value(uint64), uint256), uint64)
    assert size >= old_size, "smaller than the head"
    old_root: bytes32 = self.logs[log_id].root
    if size == old_size:
        assert root == old_root, "another root of the same size"
        return False
    if old_size == 0:
        assert len(proof) == 0, "the first head takes no proof"
    else:
        assert self._consistent(old_size, size, old_root, root, proof), "does not extend the head"
    self.logs[log_id].publisher_and_size = (packed >> 64 << 64) | convert(size, uint256)
    self.logs[log_id].root = root
    log TreeHead(log_id=log_id, size=size, root=root)
    return True


@view
@external
def head(log_id: bytes32) -> (uint64, bytes32):
    """
    @notice The current head of a log.
    @param log_id SHA-256 of the log's origin.
    @return Size and root; both zero before the first head.
    """
    size: uint256 = self.logs[log_id].publisher_and_size & convert(max_value(uint64), uint256)
    return convert(size, uint64), self.logs[log_id].root


@view
@external
def publisher(log_id: bytes32) -> address:
    """
    @notice Who may extend a log.
    @param log_id SHA-256 of the log's origin.
    @return The account; zero for none.
    """
    return convert(self.logs[log_id].publisher_and_size >> 64, address)


@pure
@external
def verify_consistency(
    old_size: uint64, size: uint64, old_root: bytes32, root: bytes32, proof: DynArray[bytes32, MAX_PROOF]
) -> bool:
    """
    @notice Whether a tree extends another, RFC 9162 section 2.1.4.2.
    @param old_size Number of leaves of the older tree, at least 1.
    @param size Number of leaves of the newer tree.
    @param old_root Root of the older tree.
    @param root Root of the newer tree.
    @param proof Consistency proof between them; empty for equal sizes.
    @return True if the proof holds.
    """
    if old_size == 0 or old_size > size:
        return False
    if old_size == size:
        return old_root == root and len(proof) == 0
    return self._consistent(old_size, size, old_root, root, proof)


@pure
@external
def verify_inclusion(
    root: bytes32, leaf: bytes32, index: uint64, size: uint64, proof: DynArray[bytes32, MAX_PROOF]
) -> bool:
    """
    @notice Whether a leaf is in a tree, RFC 9162 section 2.1.3.2.
    @param root Root of the tree.
    @param leaf Leaf hash, sha256(0x00 || entry).
    @param index Number of the leaf, from 0.
    @param size Number of leaves of the tree.
    @param proof Inclusion proof of the leaf.
    @return True if the proof holds.
    """
    if index >= size:
        return False
    fn: uint256 = convert(index, uint256)
    sn: uint256 = convert(size - 1, uint256)
    computed: bytes32 = leaf
    for sibling: bytes32 in proof:
        if sn == 0:
            return False
        if fn & 1 == 1 or fn == sn:
            computed = sha256(concat(0x01, sibling, computed))
            for _: uint256 in range(64):
                if fn & 1 == 1 or fn == 0:
                    break
                fn = fn >> 1
                sn = sn >> 1
        else:
            computed = sha256(concat(0x01, computed, sibling))
        fn = fn >> 1
        sn = sn >> 1
    return sn == 0 and computed == root


@pure
@internal
def _consistent(
    old_size: uint64, size: uint64, old_root: bytes32, root: bytes32, proof: DynArray[bytes32, MAX_PROOF]
) -> bool:
    """
    @dev RFC 9162 section 2.1.4.2 for 0 < old_size < size. Where the old tree is one complete subtree, the walk starts from
         its root; else from the first hash of the proof.
    """
    if len(proof) == 0:
        return False
    fn: uint256 = convert(old_size - 1, uint256)
    sn: uint256 = convert(size - 1, uint256)
    for _: uint256 in range(64):
        if fn & 1 == 0:
            break
        fn = fn >> 1
        sn = sn >> 1
    complete: bool = fn == 0
    old_computed: bytes32 = old_root if complete else proof[0]
    computed: bytes32 = old_computed
    first: bool = not complete
    for sibling: bytes32 in proof:
        if first:
            first = False
            continue
        if sn == 0:
            return False
        if fn & 1 == 1 or fn == sn:
            old_computed = sha256(concat(0x01, sibling, old_computed))
            computed = sha256(concat(0x01, sibling, computed))
            for _: uint256 in range(64):
                if fn & 1 == 1 or fn == 0:
                    break
                fn = fn >> 1
                sn = sn >> 1
        else:
            computed = sha256(concat(0x01, computed, sibling))
        fn = fn >> 1
        sn = sn >> 1
    return sn == 0 and old_computed == old_root and computed == root
