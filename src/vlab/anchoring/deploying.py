"""Put the witness contract on a chain, once."""

import json
import os
from hashlib import sha256
from pathlib import Path

from vlab.anchoring.accounts import load_account
from vlab.anchoring.node import Node, lab_log, log_id
from vlab.anchoring.outbox import Call
from vlab.anchoring.publishing import NotFinalError
from vlab.anchoring.sending import Sender, rounds
from vlab.errors import ChainError, ServiceDownError, TransientError
from vlab.records import ChainPin

_CREATION = "create LabLog"
_CREATION_GAS, _PUBLISHER_GAS = 1_500_000, 100_000


def deploy(
    rpc_url: str,
    key_file: Path,
    password_file: Path,
    outbox: Path,
    *,
    origin: str,
    record: Path,
    publisher: str | None = None,
    deadline_s: float = 120,
    patience_s: float = 30,
) -> ChainPin:
    """Make sure the contract is on chain, final, and lets `publisher` extend the log. May be repeated and interrupted at will.

    Args:
        rpc_url: the node.
        key_file: keystore of the account that deploys and owns the contract.
        password_file: its password.
        outbox: file of the account's signed transactions; the same one wherever the account is used.
        origin: name of the log.
        record: file the result is kept in. When it exists and the contract is there as recorded, nothing is sent.
        publisher: address of the account that may extend the log; the deploying account by default.
        deadline_s: seconds this may take in all.
        patience_s: seconds after which a transaction that is in no block is repeated with a higher fee.

    Raises:
        ServiceDownError: the chain does not answer.
        NotFinalError: the deadline passed first; nothing is lost.
        ChainError: the chain is another one than recorded, has lost the contract, or refuses it.
    """
    node = Node(rpc_url)
    chain_id = node.chain_id()
    account = load_account(key_file, password_file)
    sender = Sender(node, account, chain_id, outbox, patience_s=patience_s)
    wanted = (publisher or sender.address).lower()
    contract = _recorded(record, node, chain_id)
    why: TransientError = NotFinalError(f"the contract is not final on chain {chain_id} after {deadline_s:g} s; try again")
    for _ in rounds(deadline_s):
        try:
            contract = contract or _created(sender, node)
            if contract is None:
                sender.push(Call(_CREATION, "", lab_log().bytecode, _CREATION_GAS))
            elif node.publisher(contract, log_id(origin)).lower() != wanted:
                data = node.call_data(contract, "set_publisher", log_id(origin), _checksum(wanted))
                sender.push(Call(f"let {wanted} publish {origin}", contract, data, _PUBLISHER_GAS))
            elif _is_final(node, contract, origin, wanted):
                pin = ChainPin(rpc_url=rpc_url, chain_id=chain_id, contract=contract, code_sha256=lab_log().runtime_sha256)
                _write(record, pin)
                return pin
        except ServiceDownError as error:
            why = error
    raise why


def _recorded(record: Path, node: Node, chain_id: int) -> str | None:
    """Address of the contract that was deployed before, if it is still there."""
    if not record.exists():
        return None
    pin = ChainPin.from_json(record.read_bytes())
    if pin.chain_id != chain_id:
        raise ChainError(f"{record} is about chain {pin.chain_id}, but the node is on chain {chain_id}; check the RPC address")
    if pin.code_sha256 != lab_log().runtime_sha256:
        raise ChainError(
            f"{record} is about a contract with code {pin.code_sha256}, this vlab has {lab_log().runtime_sha256}; "
            "move the file away to deploy the new contract beside the old one"
        )
    if sha256(node.code(pin.contract)).hexdigest() != pin.code_sha256:
        raise ChainError(
            f"the contract {pin.contract} is not on chain {chain_id} any more; if the chain was reset on purpose, "
            f"move {record} away to deploy again"
        )
    return pin.contract


def _created(sender: Sender, node: Node) -> str | None:
    """Address of the contract that one of our transactions created."""
    for attempt in sender.outbox.for_purpose(_CREATION):
        receipt = node.receipt(attempt.hash, "")
        if receipt is None or attempt.call.data != lab_log().bytecode:
            continue
        if not receipt.succeeded or receipt.created is None:
            raise ChainError(f"transaction {attempt.hash}, which was to create the contract, failed; move the outbox away")
        if sha256(node.code(receipt.created)).hexdigest() == lab_log().runtime_sha256:
            return receipt.created
    return None


def _is_final(node: Node, contract: str, origin: str, publisher: str) -> bool:
    """Whether the final state has the contract with this publisher."""
    final = node.finalized()
    try:
        return final >= 0 and node.publisher(contract, log_id(origin), at=final).lower() == publisher
    except ChainError:  # in that state there is no contract yet
        return False


def _checksum(address: str) -> str:
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(address))


def _write(path: Path, pin: ChainPin) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(json.dumps(json.loads(pin.to_json()), indent=1).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
