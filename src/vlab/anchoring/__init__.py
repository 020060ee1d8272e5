"""Heads of the ledger on chain: deploying the witness contract, publishing a head for good, checking an anchor.

    address = create_account(key_file, password_file)
    pin = deploy(rpc_url, key_file, password_file, outbox, origin="lab.example/ledger", record=deployment_file)
    anchor = Anchorer(pin, key_file, password_file, outbox).publish(ledger.head(), lambda size: ledger.consistency(size, ...))
    check_anchor(anchor, pin)

`node` is the only module that knows web3, and imports it when a node is first asked.
"""

from vlab.anchoring.accounts import create_account
from vlab.anchoring.checking import AnchorError, Fault, check_anchor
from vlab.anchoring.deploying import deploy
from vlab.anchoring.publishing import Anchorer, NotFinalError, SupersededError

__all__ = [
    "AnchorError",
    "Anchorer",
    "Fault",
    "NotFinalError",
    "SupersededError",
    "check_anchor",
    "create_account",
    "deploy",
]
