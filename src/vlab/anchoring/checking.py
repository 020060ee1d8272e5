"""Check an anchor against the chain: what a verifier does, without an account."""

from enum import StrEnum

from vlab.anchoring.node import Node, checked, log_id
from vlab.errors import EvidenceError
from vlab.records import Anchor, ChainPin


class Fault(StrEnum):
    """What is wrong with an anchor."""

    chain_id = "CHAIN_ID"
    contract = "CONTRACT"
    code = "CODE"
    not_found = "ANCHOR_NOT_FOUND"
    mismatch = "ANCHOR_MISMATCH"
    not_final = "NOT_FINAL"
    not_canonical = "NOT_CANONICAL"
    head = "HEAD"


class AnchorError(EvidenceError):
    """An anchor does not hold; `code` says why."""

    def __init__(self, code: Fault, message: str) -> None:
        super().__init__(message)
        self.code = code


def check_anchor(anchor: Anchor, pin: ChainPin) -> None:
    """Check that the pinned contract accepted the anchored head in that transaction and block, for good.

    The node at `pin.rpc_url` is believed.

    Raises:
        AnchorError: the anchor does not hold.
        ServiceDownError: the chain does not answer, so nothing can be said.
    """
    if anchor.chain_id != pin.chain_id:
        raise AnchorError(Fault.chain_id, f"anchored on chain {anchor.chain_id}, expected the pinned chain {pin.chain_id}")
    if anchor.contract.lower() != pin.contract.lower():
        raise AnchorError(Fault.contract, f"anchored in contract {anchor.contract}, expected the pinned {pin.contract}")
    node = Node(pin.rpc_url)
    checked(node, _anchor_error, chain_id=pin.chain_id, contract=pin.contract, code_sha256=pin.code_sha256)

    head, log = anchor.head, log_id(anchor.head.origin)
    receipt = node.receipt(anchor.tx_hash, pin.contract)
    if receipt is None:
        raise AnchorError(
            Fault.not_found, f"transaction {anchor.tx_hash} is not on chain {pin.chain_id}; ask the lab for its anchor"
        )
    if not any((event.log_id, event.size, event.root.hex()) == (log, head.size, head.root) for event in receipt.events):
        raise AnchorError(
            Fault.mismatch,
            f"transaction {anchor.tx_hash} did not publish head {head.size} of {head.origin} with root {head.root}",
        )
    if (receipt.block_number, receipt.block_hash) != (anchor.block_number, anchor.block_hash):
        raise AnchorError(
            Fault.mismatch,
            f"transaction {anchor.tx_hash} is in block {receipt.block_number} {receipt.block_hash}, "
            f"expected {anchor.block_number} {anchor.block_hash}",
        )
    if anchor.block_number > (final := node.finalized()):
        raise AnchorError(
            Fault.not_final, f"block {anchor.block_number} is not final yet, the newest final one is {final}; wait"
        )
    if (canonical := node.block_hash(anchor.block_number)) != anchor.block_hash:
        raise AnchorError(Fault.not_canonical, f"block {anchor.block_number} is {canonical}, expected {anchor.block_hash}")
    size, root = node.head(pin.contract, log)
    if size < head.size or (size == head.size and root.hex() != head.root):
        raise AnchorError(
            Fault.head, f"the contract's head is {size} {root.hex()}, expected one that extends {head.size} {head.root}"
        )


def _anchor_error(what: str, message: str) -> AnchorError:
    return AnchorError(Fault[what], message)
