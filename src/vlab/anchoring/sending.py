"""Bring about an effect on chain with at most one transaction for each nonce, whatever happens on the way.

Nothing is concluded from the answer to a send. The chain's state says what is still wanted, and the outbox what is on its way:
the same bytes are sent again until the nonce is spent, with a higher fee when that takes long. A nonce spent without the
effect, by a reorganisation or another program with the same key, only means that the next round wants it again.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlab.anchoring.node import Node
from vlab.anchoring.outbox import Attempt, Call, Outbox
from vlab.errors import ChainError, TransientError

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

GWEI = 10**9
MAX_FEE = 500 * GWEI
"""Most that is offered for a unit of gas, in wei."""

_POLL_MIN_S, _POLL_MAX_S = 0.05, 2.0


class Sender:
    """One account's way onto the chain."""

    def __init__(self, node: Node, account: "LocalAccount", chain_id: int, outbox: Path, *, patience_s: float) -> None:
        """Open the outbox.

        Args:
            node: where transactions go.
            account: signs them.
            chain_id: chain they are signed for.
            outbox: file of the account's signed transactions.
            patience_s: seconds after which an attempt is repeated with a higher fee.
        """
        self.address = str(account.address)
        self.outbox = Outbox(outbox, chain_id, self.address)
        self._node, self._account, self._chain_id, self._patience_s = node, account, chain_id, patience_s

    def push(self, wanted: Call) -> None:
        """Make sure that a transaction for the account's next nonce is on its way.

        That is this one, or for `patience_s` the one another publisher signed before it: two that outbid each other would
        only drive up the fee. An old one is never sent again in place of what is wanted now.

        Raises:
            ChainError: the contract or the node refuses it.
            ServiceDownError: the node does not answer.
            TransientError: fees are above `MAX_FEE`.
        """
        nonce = self._node.nonce(self.address)
        before = self.outbox.attempts(nonce)
        newest = before[-1] if before else None
        if newest is None or time.time() - newest.signed_at > self._patience_s or self._is_void(newest, wanted):
            self._sign(wanted, nonce, before)
        for attempt in self.outbox.attempts(nonce)[-1:]:
            self._node.send(attempt.raw)

    def _is_void(self, attempt: Attempt, wanted: Call) -> bool:
        """Whether an earlier attempt for the nonce is for something else that would have no effect any more."""
        if attempt.call.purpose == wanted.purpose and attempt.call.data == wanted.data:
            return False
        if not attempt.call.recipient:
            return True
        try:
            self._node.simulate(self.address, attempt.call.recipient, attempt.call.data)
        except ChainError:
            return True
        return False

    def _sign(self, call: Call, nonce: int, before: list[Attempt]) -> None:
        """Sign and store; fees rise by a quarter over the attempt before, since nodes ask for a tenth at least."""
        if call.recipient:
            self._node.simulate(self.address, call.recipient, call.data)
        base_fee, tip = self._node.fees()
        max_fee = 2 * base_fee + tip
        if before:
            max_fee, tip = max(max_fee, before[-1].max_fee * 5 // 4 + 1), max(tip, before[-1].tip * 5 // 4 + 1)
        if max_fee > MAX_FEE:
            if before and before[-1].call.purpose == call.purpose:  # it stays valid and is taken when fees fall
                return
            needed = max_fee if before else base_fee + tip
            if needed > MAX_FEE:
                raise TransientError(f"gas costs {needed // GWEI} gwei, more than {MAX_FEE // GWEI}; try again later")
            max_fee = MAX_FEE
        fields: dict[str, Any] = {
            "type": 2, "chainId": self._chain_id, "nonce": nonce, "gas": call.gas, "value": 0, "data": call.data,
            "maxFeePerGas": max_fee, "maxPriorityFeePerGas": tip,
        }  # fmt: skip
        signed = self._account.sign_transaction(fields | ({"to": call.recipient} if call.recipient else {}))
        attempt = Attempt(
            call=call,
            nonce=nonce,
            number=len(before),
            max_fee=max_fee,
            tip=tip,
            hash="0x" + signed.hash.hex(),
            raw=bytes(signed.raw_transaction),
            signed_at=time.time(),
        )
        self.outbox.add(attempt)  # if another process was quicker, its attempt is the one that is sent


def rounds(deadline_s: float) -> Iterator[None]:
    """Rounds of asking a node, with growing pauses between them, until the deadline has passed."""
    end = time.monotonic() + deadline_s
    pause = _POLL_MIN_S
    while True:
        yield
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _POLL_MAX_S)
