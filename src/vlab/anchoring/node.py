"""A node of an EVM chain and the contract LabLog on it, in our types and with our errors; the only module that knows web3."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vlab.errors import ChainError, ServiceDownError
from vlab.settings import data_dir

if TYPE_CHECKING:
    from web3 import Web3

TIMEOUT_S = 5
CONFIRMATIONS = 12
"""Blocks after which a block counts as final on a chain whose nodes know no `finalized` tag."""

_LOCAL = {"127.0.0.1", "localhost", "::1"}
_LOG_WINDOW = 2_000

# Reading may be repeated. Sending may not: a repeated send whose answer was lost comes back as an error.
_READS = (
    "eth_blockNumber", "eth_call", "eth_chainId", "eth_getBlockByNumber", "eth_getCode", "eth_getLogs",
    "eth_getTransactionCount", "eth_getTransactionReceipt", "eth_maxPriorityFeePerGas",
)  # fmt: skip

_HELD = ("already imported", "already known", "known transaction")
_SUPERSEDED = ("nonce too low", "underpriced", "base fee", "nonce too high")


@dataclass(frozen=True)
class Compiled:
    """A compiled contract, as chain/compile.py wrote it."""

    abi: list[dict[str, Any]]
    bytecode: bytes
    runtime_sha256: str


@dataclass(frozen=True)
class Event:
    """A TreeHead event in its block."""

    log_id: bytes
    size: int
    root: bytes
    tx_hash: str
    block_number: int
    block_hash: str


@dataclass(frozen=True)
class Receipt:
    """What became of a transaction."""

    succeeded: bool
    block_number: int
    block_hash: str
    created: str | None
    """Address of the contract it created."""
    events: tuple[Event, ...]
    """TreeHead events of the contract that was asked about."""


@lru_cache
def lab_log() -> Compiled:
    """The witness contract that ships with vlab."""
    stored = json.loads((data_dir("chain") / "LabLog.json").read_bytes())
    return Compiled(stored["abi"], bytes.fromhex(stored["bytecode"].removeprefix("0x")), stored["runtime_sha256"])


def log_id(origin: str) -> bytes:
    """What names a log in the contract: SHA-256 of its origin."""
    return sha256(origin.encode()).digest()


class Node:
    """One JSON-RPC endpoint. It is believed: who does not run it asks a second one."""

    def __init__(self, rpc_url: str) -> None:
        """Address a node; nothing is asked yet."""
        self._url = rpc_url

    def chain_id(self) -> int:
        """The chain's id."""
        with self._asking() as web3:
            return int(web3.eth.chain_id)

    def code(self, address: str) -> bytes:
        """Runtime code at an address, empty for none."""
        with self._asking() as web3:
            return bytes(web3.eth.get_code(_address(address)))

    def nonce(self, account: str) -> int:
        """Number of the account's transactions in the newest block's state."""
        with self._asking() as web3:
            return int(web3.eth.get_transaction_count(_address(account), "latest"))

    def fees(self) -> tuple[int, int]:
        """Base fee of the newest block and the tip the node suggests, in wei per gas."""
        with self._asking() as web3:
            return int(web3.eth.get_block("latest").get("baseFeePerGas", 0)), int(web3.eth.max_priority_fee)

    def block_hash(self, number: int) -> str | None:
        """Hash of the canonical block of this number, or None."""
        from web3.exceptions import BlockNotFound

        with self._asking() as web3:
            try:
                return _hex(web3.eth.get_block(number)["hash"])
            except BlockNotFound:
                return None

    def finalized(self) -> int:
        """Number of the newest final block; -1 when there is none yet."""
        from web3.exceptions import BlockNotFound, Web3RPCError

        with self._asking() as web3:
            try:
                return int(web3.eth.get_block("finalized")["number"])
            except (BlockNotFound, Web3RPCError):  # a node that does not know the tag says so in either way
                return max(int(web3.eth.block_number) - CONFIRMATIONS, -1)

    def receipt(self, tx_hash: str, contract: str) -> Receipt | None:
        """Receipt of a transaction, or None if it is in no block."""
        from web3.exceptions import TransactionNotFound

        with self._asking() as web3:
            try:
                found = web3.eth.get_transaction_receipt(bytes.fromhex(tx_hash[2:]))  # type: ignore[arg-type]  # bytes are accepted
            except TransactionNotFound:
                return None
            return Receipt(
                succeeded=found["status"] == 1,
                block_number=int(found["blockNumber"]),
                block_hash=_hex(found["blockHash"]),
                created=found["contractAddress"],
                events=tuple(self._events(found["logs"], contract)),
            )

    def head(self, contract: str, log: bytes) -> tuple[int, bytes]:
        """Size and root of a log's head in the newest block's state; size 0 for none."""
        size, root = self._view(contract, "head", log)
        return int(size), bytes(root)

    def publisher(self, contract: str, log: bytes, *, at: int | None = None) -> str:
        """Who may extend a log, in the newest state or after block `at`; the zero address for nobody."""
        return str(self._view(contract, "publisher", log, at=at))

    def find_head(self, contract: str, log: bytes, size: int) -> Event | None:
        """The event by which a log's head got this size, searched from the newest block backwards.

        Nodes limit what one search may cover, each in its own way: the window grows after an answer and is halved after a
        refusal, and no block is left out.
        """
        from web3.exceptions import Web3RPCError

        with self._asking() as web3:
            topics = ["0x" + word.hex() for word in (self._signature, log, size.to_bytes(32))]
            last, window = int(web3.eth.block_number), _LOG_WINDOW
            while last >= 0:
                first = max(last - window + 1, 0)
                wanted = {"address": _address(contract), "topics": topics, "fromBlock": first, "toBlock": last}
                try:
                    logs = web3.eth.get_logs(wanted)  # type: ignore[arg-type]  # plain dict for a TypedDict
                except Web3RPCError:
                    if window == 1:
                        raise
                    window //= 2
                    continue
                for event in self._events(logs, contract):
                    return event
                last, window = first - 1, min(window * 2, 100_000)
        return None

    def call_data(self, contract: str, name: str, *arguments: object) -> bytes:
        """Encoded call of a function of LabLog."""
        with self._asking() as web3:
            encoded = web3.eth.contract(address=_address(contract), abi=lab_log().abi).encode_abi(name, args=list(arguments))
        return bytes.fromhex(encoded[2:])

    def simulate(self, sender: str, to: str, data: bytes) -> None:
        """Run a transaction on the newest block's state, without effect.

        Raises:
            ChainError: the contract refuses it; the message has its reason.
        """
        with self._asking() as web3:
            web3.eth.call({"from": _address(sender), "to": _address(to), "data": _data(data)}, "latest")

    def send(self, raw: bytes) -> None:
        """Hand over a signed transaction, once; whether it took effect only the chain's state can tell.

        Raises:
            ChainError: the node refuses it for good, for example for lack of money.
            ServiceDownError: no answer; the node may have it nevertheless.
        """
        from web3.exceptions import Web3RPCError

        with self._asking() as web3:
            try:
                web3.eth.send_raw_transaction(raw)
            except Web3RPCError as error:
                if not any(words in str(error).lower() for words in (*_HELD, *_SUPERSEDED)):
                    raise ChainError(f"the node at {_shown(self._url)} refuses the transaction: {_words(error)}") from error

    def _view(self, contract: str, name: str, *arguments: object, at: int | None = None) -> Any:
        with self._asking() as web3:
            function = web3.eth.contract(address=_address(contract), abi=lab_log().abi).functions[name](*arguments)
            return function.call(block_identifier="latest" if at is None else at)

    def _events(self, logs: Any, contract: str) -> Iterator[Event]:
        for log in logs:
            topics = [bytes(topic) for topic in log["topics"]]
            if log["address"].lower() == contract.lower() and len(topics) == 3 and topics[0] == self._signature:
                yield Event(
                    log_id=topics[1],
                    size=int.from_bytes(topics[2]),
                    root=bytes(log["data"]),
                    tx_hash=_hex(log["transactionHash"]),
                    block_number=int(log["blockNumber"]),
                    block_hash=_hex(log["blockHash"]),
                )

    @cached_property
    def _signature(self) -> bytes:
        from eth_utils.crypto import keccak

        return bytes(keccak(text="TreeHead(bytes32,uint64,bytes32)"))

    @cached_property
    def _web3(self) -> "Web3":
        import requests
        from web3 import HTTPProvider, Web3
        from web3.middleware import ExtraDataToPOAMiddleware
        from web3.providers.rpc.utils import ExceptionRetryConfiguration

        session = requests.Session()
        session.trust_env = urlsplit(self._url).hostname not in _LOCAL  # no proxy for what is on this machine
        retry = ExceptionRetryConfiguration(
            errors=(requests.exceptions.RequestException,), retries=3, backoff_factor=0.1, method_allowlist=_READS
        )
        provider = HTTPProvider(
            self._url,
            session=session,
            request_kwargs={"timeout": TIMEOUT_S, "allow_redirects": False},
            exception_retry_configuration=retry,
        )
        web3 = Web3(provider)
        web3.middleware_onion.inject(ExtraDataToPOAMiddleware, layer=0)  # consortium chains sign blocks in extraData
        return web3

    @contextmanager
    def _asking(self) -> "Iterator[Web3]":
        """Translate everything that can go wrong between us and the node."""
        import requests
        from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3Exception

        try:
            yield self._web3
        except ContractLogicError as error:
            raise ChainError(f"the contract refuses: {str(error.message).removeprefix('execution reverted: ')}") from error
        except BadFunctionCallOutput as error:
            raise ChainError(f"the contract does not answer as LabLog does ({_words(error)}); check its address") from error
        except (requests.exceptions.RequestException, json.JSONDecodeError, Web3Exception) as error:
            raise ServiceDownError("the chain", _shown(self._url), _words(error)) from error
        except (TypeError, KeyError, ValueError) as error:  # an answer without what the protocol promises
            raise ServiceDownError("the chain", _shown(self._url), f"malformed answer: {error!r}") from error


def checked(node: Node, wrong: Callable[[str, str], Exception], *, chain_id: int, contract: str, code_sha256: str) -> None:
    """Compare the chain's id and the contract's code with what is pinned.

    Args:
        node: whom to ask.
        wrong: makes the error from what differs (`chain_id` or `code`) and a message.
        chain_id: the pinned chain id.
        contract: the pinned address.
        code_sha256: the pinned digest of the runtime code.
    """
    found = node.chain_id()
    if found != chain_id:
        raise wrong("chain_id", f"the node is on chain {found}, expected chain {chain_id}; check the RPC address")
    digest = sha256(node.code(contract)).hexdigest()
    if digest != code_sha256:
        raise wrong(
            "code", f"the code at {contract} has sha256 {digest}, expected {code_sha256}; this is not the pinned contract"
        )


def _address(text: str) -> Any:
    from eth_utils.address import to_checksum_address

    return to_checksum_address(text)


def _data(data: bytes) -> Any:
    return "0x" + data.hex()


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def _words(error: Exception) -> str:
    """What an error says, on one line; errors of the connection carry the whole address, so only their kind is told."""
    import requests

    if isinstance(error, requests.exceptions.RequestException):
        return type(error).__name__
    return " ".join(str(error).split())[:300] or type(error).__name__


def _shown(url: str) -> str:
    """The address without what may be secret in it: user, path and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
