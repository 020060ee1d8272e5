"""Publish a head of the ledger and wait until it is final."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from vlab.anchoring.accounts import load_account
from vlab.anchoring.node import Event, Node, checked, log_id
from vlab.anchoring.outbox import Call
from vlab.anchoring.sending import Sender, rounds
from vlab.errors import ChainError, ServiceDownError, TransientError
from vlab.records import Anchor, ChainPin, LogHead

_GAS, _GAS_PER_HASH = 150_000, 4_000  # limits, about twice what is used; what is left comes back


class SupersededError(TransientError):
    """The chain holds a larger head of the log already; read the ledger's head again and publish that."""


class NotFinalError(TransientError):
    """The head is not final within the deadline; nothing is lost, the same call goes on where this one stopped."""


class Anchorer:
    """Publishes heads with one account. Any number of them may work at once on one host, over one outbox."""

    def __init__(
        self,
        pin: ChainPin,
        key_file: Path,
        password_file: Path,
        outbox: Path,
        *,
        deadline_s: float = 120,
        patience_s: float = 30,
    ) -> None:
        """Name chain, account and files; nothing is read or asked yet.

        Args:
            pin: the chain and the contract; others are refused.
            key_file: keystore of the account that may publish.
            password_file: its password.
            outbox: file of signed transactions, one for each account; created when there is none.
            deadline_s: seconds that one `publish` may take in all.
            patience_s: seconds after which a transaction that is in no block is repeated with a higher fee.
        """
        self._pin = pin
        self._files = key_file, password_file, outbox
        self._deadline_s, self._patience_s = deadline_s, patience_s
        self._node = Node(pin.rpc_url)

    def publish(self, head: LogHead, consistency_for: Callable[[int], list[str]]) -> Anchor:
        """Have the contract accept a head, wait until that is final, and re-read it. May be repeated at will.

        Args:
            head: the ledger's newest head.
            consistency_for: gives the consistency proof, as hex hashes, from an older size to `head.size`.

        Returns:
            The anchor of exactly this head, whoever published it.

        Raises:
            ServiceDownError: the chain does not answer.
            NotFinalError: the deadline passed first.
            SupersededError: the chain holds a larger head already.
            ChainError: another chain or contract than pinned, or the contract refuses the head, with its reason.
        """
        pin = self._pin
        checked(self._node, _chain_error, chain_id=pin.chain_id, contract=pin.contract, code_sha256=pin.code_sha256)
        why: TransientError = NotFinalError(
            f"head {head.size} of {head.origin} is not final after {self._deadline_s:g} s; try again, nothing is lost"
        )
        for _ in rounds(self._deadline_s):
            try:
                anchor = self._round(head, consistency_for)
            except ServiceDownError as error:  # what was sent stays in the outbox; the node may come back in time
                why = error
                continue
            if anchor is not None:
                return anchor
        raise why

    def _round(self, head: LogHead, consistency_for: Callable[[int], list[str]]) -> Anchor | None:
        """One look at the chain and one step towards the anchor."""
        log = log_id(head.origin)
        size, root = self._node.head(self._pin.contract, log)
        if size > head.size:
            raise SupersededError(
                f"the chain holds head {size} of {head.origin}, larger than {head.size}; publish the newest head"
            )
        if size == head.size:
            if root.hex() != head.root:
                raise ChainError(
                    f"the chain holds root {root.hex()} for size {size} of {head.origin}, got {head.root}; "
                    "the ledger is not the one that was published: restore it, never publish over it"
                )
            return self._final(head)
        proof = [bytes.fromhex(part) for part in consistency_for(size)] if size else []
        data = self._node.call_data(self._pin.contract, "publish", log, head.size, bytes.fromhex(head.root), proof)
        try:
            self._sender.push(Call(_purpose(head), self._pin.contract, data, _GAS + _GAS_PER_HASH * len(proof)))
        except ChainError:
            if self._node.head(self._pin.contract, log) == (size, root):  # else the proof starts at a head that has gone
                raise
        return None

    def _final(self, head: LogHead) -> Anchor | None:
        """The anchor, once its block is final and still the canonical one."""
        event = next(self._events(head), None)
        if event is None or event.block_number > self._node.finalized():
            return None
        if self._node.block_hash(event.block_number) != event.block_hash:
            return None
        return Anchor(
            chain_id=self._pin.chain_id,
            contract=self._pin.contract,
            tx_hash=event.tx_hash,
            block_number=event.block_number,
            block_hash=event.block_hash,
            head=head,
        )

    def _events(self, head: LogHead) -> Iterator[Event]:
        """The event of this head: from receipts of our own transactions, else by searching the chain's logs."""
        log = log_id(head.origin)
        for attempt in self._sender.outbox.for_purpose(_purpose(head)):
            receipt = self._node.receipt(attempt.hash, self._pin.contract)
            for event in receipt.events if receipt else ():
                if (event.log_id, event.size, event.root.hex()) == (log, head.size, head.root):
                    yield event
        found = self._node.find_head(self._pin.contract, log, head.size)
        if found is not None and found.root.hex() == head.root:
            yield found

    @cached_property
    def _sender(self) -> Sender:
        key_file, password_file, outbox = self._files
        account = load_account(key_file, password_file)
        return Sender(self._node, account, self._pin.chain_id, outbox, patience_s=self._patience_s)


def _purpose(head: LogHead) -> str:
    return f"publish {head.size} {head.root} of {head.origin}"


def _chain_error(_what: str, message: str) -> ChainError:
    return ChainError(message)
