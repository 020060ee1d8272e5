"""The JSON-RPC methods of a node (ethereum/execution-apis) that the lab uses, over a `DevChain`."""

import json
from collections.abc import Callable
from typing import Any

import rlp  # type: ignore[import-untyped]
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from vlab.devchain import CHAIN_ID
from vlab.devchain.chain import GAS_LIMIT, GWEI, DevChain, Mined, RevertedError, TransactionRefusedError
from vlab.errors import RefusedError

MAX_BATCH = 100
ZERO_ADDRESS = bytes(20)


class _RpcError(Exception):
    """An answer with an error in it: code of EIP-1474, message, data."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.answer = {"code": code, "message": message, **({"data": data} if data is not None else {})}


class Rpc:
    """Answers JSON-RPC 2.0 requests, one at a time."""

    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self._methods: dict[str, Callable[..., Any]] = {
            "eth_blockNumber": lambda: hex(chain.head),
            "eth_call": self._call,
            "eth_chainId": lambda: hex(CHAIN_ID),
            "eth_estimateGas": self._estimate_gas,
            "eth_feeHistory": self._fee_history,
            "eth_gasPrice": lambda: hex(chain.next_base_fee + GWEI),
            "eth_getBalance": lambda address, tag="latest": hex(chain.balance(_bytes(address), self._number(tag))),
            "eth_getBlockByHash": lambda block_hash, full=False: self._block(chain.block_by_hash(_bytes(block_hash)), full),
            "eth_getBlockByNumber": lambda tag, full=False: self._block(chain.block(self._height(tag)), full),
            "eth_getCode": lambda address, tag="latest": _hex(chain.code(_bytes(address), self._number(tag))),
            "eth_getLogs": self._logs,
            "eth_getTransactionByHash": lambda tx: _found(chain.mined(_bytes(tx)), _transaction),
            "eth_getTransactionCount": lambda address, tag="latest": hex(chain.nonce(_bytes(address), self._number(tag))),
            "eth_getTransactionReceipt": lambda tx: _found(chain.mined(_bytes(tx)), _receipt),
            "eth_maxPriorityFeePerGas": lambda: hex(GWEI),
            "eth_sendRawTransaction": lambda raw: _hex(chain.send(_bytes(raw))),
            "eth_syncing": lambda: False,
            "net_version": lambda: str(CHAIN_ID),
            "web3_clientVersion": lambda: "vlab-devchain/py-evm",
        }

    def answer(self, body: bytes) -> bytes:
        """Answer one request or a batch of at most `MAX_BATCH`; never raises for what a client sent."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return _dump({"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "not JSON"}})
        if isinstance(asked, list):
            if not 0 < len(asked) <= MAX_BATCH:
                message = f"{len(asked)} requests in a batch, expected 1 to {MAX_BATCH}"
                return _dump({"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}})
            return _dump([self._one(request) for request in asked])
        return _dump(self._one(asked))

    def _one(self, request: object) -> dict[str, Any]:
        number = request.get("id") if isinstance(request, dict) else None
        try:
            return {"jsonrpc": "2.0", "id": number, "result": self._result(request)}
        except _RpcError as error:
            return {"jsonrpc": "2.0", "id": number, "error": error.answer}
        except RevertedError as error:
            return {"jsonrpc": "2.0", "id": number, "error": {"code": 3, "message": str(error), "data": _hex(error.data)}}
        except TransactionRefusedError as error:
            return {"jsonrpc": "2.0", "id": number, "error": {"code": -32003, "message": str(error)}}
        except RefusedError as error:
            return {"jsonrpc": "2.0", "id": number, "error": {"code": -32000, "message": str(error)}}

    def _result(self, request: object) -> Any:
        if not isinstance(request, dict) or not isinstance(request.get("params", []), list):
            raise _RpcError(-32600, "expected an object with method and a list of params")
        method = self._methods.get(str(request.get("method")))
        if method is None:
            raise _RpcError(-32601, f"method {request.get('method')} is not supported by this development chain")
        try:
            return method(*request.get("params", []))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise _RpcError(-32602, f"invalid params: {error}") from error

    def _height(self, tag: object) -> int:
        """Number of a block tag; what is accepted is final, so the tags for the newest block agree."""
        if tag in {"latest", "pending", "safe", "finalized"}:
            return self._chain.head
        return 0 if tag == "earliest" else _int(tag)

    def _number(self, tag: object) -> int:
        number = self._height(tag)
        if number > self._chain.head:
            raise _RpcError(-32001, f"block {number} not found, the newest is {self._chain.head}")
        return number

    def _call(self, transaction: dict[str, str], tag: object = "latest") -> str:
        sender, to, data = _parties(transaction)
        gas = _int(transaction.get("gas", hex(GAS_LIMIT)))
        return _hex(self._chain.call(sender, to, data, gas, self._number(tag)))

    def _estimate_gas(self, transaction: dict[str, str], _tag: object = "latest") -> str:
        sender, to, data = _parties(transaction)
        return hex(self._chain.estimate_gas(sender, to, data, _int(transaction.get("value", "0x0"))))

    def _fee_history(self, count: object, newest: object, percentiles: list[float] | None = None) -> dict[str, Any]:
        last = self._number(newest)
        first = max(0, last - (count if isinstance(count, int) else _int(count)) + 1)
        headers = [block.header for number in range(first, last + 1) if (block := self._chain.block(number))]
        answer = {
            "oldestBlock": hex(first),
            "baseFeePerGas": [*(hex(header.base_fee_per_gas) for header in headers), hex(self._chain.next_base_fee)],
            "gasUsedRatio": [header.gas_used / header.gas_limit for header in headers],
        }
        return {**answer, "reward": [[hex(GWEI) for _ in percentiles] for _ in headers]} if percentiles else answer

    def _logs(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in wanted:
            block = self._chain.block_by_hash(_bytes(wanted["blockHash"]))
            if block is None:
                raise _RpcError(-32001, "block not found")
            first = last = block.number
        else:
            first, last = (self._height(wanted.get(key) or "latest") for key in ("fromBlock", "toBlock"))
        address = wanted.get("address") or []
        addresses = {_bytes(one) for one in ([address] if isinstance(address, str) else address)}
        topics = [
            None if topic is None else {_int(one) for one in ([topic] if isinstance(topic, str) else topic)}
            for topic in wanted.get("topics") or []
        ]
        return [_log(mined, index, event) for mined, index, event in self._chain.logs(first, last, addresses, topics)]

    def _block(self, block: Any | None, full: bool) -> dict[str, Any] | None:
        if block is None:
            return None
        header = block.header
        mined = list(self._chain.mined_in(block))
        return {
            "number": hex(header.block_number),
            "hash": _hex(header.hash),
            "parentHash": _hex(header.parent_hash),
            "sha3Uncles": _hex(header.uncles_hash),
            "miner": to_checksum_address(header.coinbase),
            "stateRoot": _hex(header.state_root),
            "transactionsRoot": _hex(header.transaction_root),
            "receiptsRoot": _hex(header.receipt_root),
            "logsBloom": _hex(header.bloom.to_bytes(256)),
            "difficulty": "0x0",
            "gasLimit": hex(header.gas_limit),
            "gasUsed": hex(header.gas_used),
            "timestamp": hex(header.timestamp),
            "extraData": _hex(header.extra_data),
            "mixHash": _hex(header.mix_hash),
            "nonce": _hex(header.nonce),
            "baseFeePerGas": hex(header.base_fee_per_gas),
            "uncles": [],
            "transactions": [_transaction(one) if full else _hex(one.transaction.hash) for one in mined],
        }


def _transaction(mined: Mined) -> dict[str, Any]:
    transaction = mined.transaction
    return {
        **_place(mined),
        "hash": _hex(transaction.hash),
        "type": hex(_type(mined)),
        "chainId": hex(CHAIN_ID),
        "nonce": hex(transaction.nonce),
        "from": to_checksum_address(transaction.sender),
        "to": to_checksum_address(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(_gas_price(mined)),
        "maxFeePerGas": hex(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
        "input": _hex(transaction.data),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
        "v": hex(getattr(transaction, "v", None) or transaction.y_parity),
    }


def _receipt(mined: Mined) -> dict[str, Any]:
    transaction, receipt = mined.transaction, mined.receipt
    created = None if transaction.to else to_checksum_address(_created(transaction.sender, transaction.nonce))
    return {
        **_place(mined),
        "transactionHash": _hex(transaction.hash),
        "type": hex(_type(mined)),
        "from": to_checksum_address(transaction.sender),
        "to": to_checksum_address(transaction.to) if transaction.to else None,
        "contractAddress": created,
        "status": hex(int.from_bytes(receipt.state_root)),
        "gasUsed": hex(mined.gas_used),
        "cumulativeGasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": hex(_gas_price(mined)),
        "logs": [_log(mined, mined.first_log + offset, event) for offset, event in enumerate(receipt.logs)],
        "logsBloom": _hex(receipt.bloom.to_bytes(256)),
    }


def _log(mined: Mined, index: int, event: Any) -> dict[str, Any]:
    return {
        **_place(mined),
        "transactionHash": _hex(mined.transaction.hash),
        "logIndex": hex(index),
        "address": to_checksum_address(event.address),
        "topics": [_hex(topic.to_bytes(32)) for topic in event.topics],
        "data": _hex(event.data),
        "removed": False,
    }


def _place(mined: Mined) -> dict[str, Any]:
    header = mined.block.header
    return {
        "blockHash": _hex(header.hash),
        "blockNumber": hex(header.block_number),
        "transactionIndex": hex(mined.index),
    }


def _gas_price(mined: Mined) -> int:
    """What a unit of gas cost (EIP-1559)."""
    transaction, base_fee = mined.transaction, mined.block.header.base_fee_per_gas
    return int(min(transaction.max_fee_per_gas, base_fee + transaction.max_priority_fee_per_gas))


def _type(mined: Mined) -> int:
    return getattr(mined.transaction, "type_id", None) or 0


def _created(sender: bytes, nonce: int) -> bytes:
    """Address of the contract that this transaction of the sender creates (yellow paper, section 7)."""
    return bytes(keccak(rlp.encode([sender, nonce]))[12:])


def _parties(transaction: dict[str, str]) -> tuple[bytes, bytes, bytes]:
    """Sender, recipient (empty for a creation) and data of a call."""
    sender = _bytes(transaction["from"]) if "from" in transaction else ZERO_ADDRESS
    return sender, _bytes(transaction.get("to") or "0x"), _bytes(transaction.get("input") or transaction.get("data") or "0x")


def _found(mined: Mined | None, form: Callable[[Mined], dict[str, Any]]) -> dict[str, Any] | None:
    return None if mined is None else form(mined)


def _bytes(text: str) -> bytes:
    if not text.startswith("0x"):
        raise ValueError(f"got {text[:80]!r}, expected hex with 0x")
    return bytes.fromhex(text[2:])


def _int(text: object) -> int:
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ValueError(f"got {str(text)[:80]!r}, expected a block tag or hex with 0x")
    return int(text, 16)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _dump(answer: object) -> bytes:
    return json.dumps(answer).encode()
