"""A chain of one operator on py-evm: every accepted transaction becomes a block, on disk and final at once."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.db.chain import ChainDB
from eth.exceptions import (
    CanonicalHeadNotFound,
    HeaderNotFound,
    Revert,
    TransactionNotFound,
    VMError,
)
from eth.vm.forks import PragueVM
from eth.vm.forks.shanghai.withdrawals import Withdrawal
from eth.vm.spoof import SpoofTransaction
from eth_bloom import BloomFilter
from eth_utils.exceptions import ValidationError

from vlab.devchain import CHAIN_ID
from vlab.devchain.store import SqliteStore
from vlab.errors import RefusedError

GAS_LIMIT = 30_000_000
GWEI = 10**9


class TransactionRefusedError(RefusedError):
    """The chain did not take a transaction; nothing changed."""


class RevertedError(RefusedError):
    """A call reverted."""

    def __init__(self, data: bytes) -> None:
        super().__init__("execution reverted" + _reason(data))
        self.data = data


@dataclass(frozen=True)
class Mined:
    """A transaction in its block."""

    block: Any
    transaction: Any
    receipt: Any
    index: int
    gas_used: int
    first_log: int


class _Chain(MiningChain):  # type: ignore[misc]  # the base class is untyped
    chain_id = CHAIN_ID
    vm_configuration = ((0, PragueVM),)

    def create_header_from_parent(self, parent_header: Any, **fields: Any) -> Any:
        return super().create_header_from_parent(parent_header, **{**fields, "gas_limit": parent_header.gas_limit})


class DevChain:
    """The chain and what may be asked of it. Not safe for several threads: the server lets one in at a time."""

    def __init__(self, path: Path) -> None:
        """Open the chain stored at `path`, or write its genesis block.

        Raises:
            RefusedError: the file is damaged or in use.
        """
        self._store = SqliteStore(path)
        self._chain = self._open()

    def close(self) -> None:
        """Release the file; everything is on disk already."""
        self._store.close()

    @property
    def head(self) -> int:
        """Number of the newest block."""
        return int(self._chain.get_canonical_head().block_number)

    def send(self, raw: bytes) -> bytes:
        """Check a signed transaction and make a block of it.

        Returns:
            The transaction's hash.

        Raises:
            TransactionRefusedError: malformed, for another chain, wrong nonce, too low a fee or too little money.
        """
        try:
            transaction = self._vm().get_transaction_builder().decode(raw)
            sender = transaction.sender
        except Exception as error:  # hostile bytes reach decoders of several libraries
            raise TransactionRefusedError(f"malformed transaction: {error}") from error
        if transaction.chain_id != CHAIN_ID:
            raise TransactionRefusedError(f"invalid chain id for signer: have {transaction.chain_id} want {CHAIN_ID}")
        nonce = self.nonce(sender)
        if transaction.nonce != nonce:
            low = transaction.nonce < nonce
            raise TransactionRefusedError(f"nonce too {'low' if low else 'high'}: have {transaction.nonce} want {nonce}")
        if transaction.max_fee_per_gas < self.next_base_fee:
            raise TransactionRefusedError(f"max fee per gas less than block base fee: want {self.next_base_fee}")
        cost = transaction.value + transaction.gas * transaction.max_fee_per_gas
        if self.balance(sender) < cost:
            raise TransactionRefusedError(
                f"insufficient funds for gas * price + value: have {self.balance(sender)} want {cost}"
            )
        self._mine([transaction], [])
        return bytes(transaction.hash)

    def fund(self, address: bytes, wei: int) -> None:
        """Raise an account's balance to `wei` (rounded up to a gwei); nothing happens if it has as much.

        Done as a withdrawal of the consensus layer (EIP-4895), so that no private key with money exists.
        """
        missing = wei - self.balance(address)
        if missing > 0:
            self._mine([], [Withdrawal(index=self.head, validator_index=0, address=address, amount=-(-missing // GWEI))])

    def nonce(self, address: bytes, number: int | None = None) -> int:
        """Number of transactions an account has sent."""
        return int(self._vm(number).state.get_nonce(address))

    def balance(self, address: bytes, number: int | None = None) -> int:
        """Balance in wei."""
        return int(self._vm(number).state.get_balance(address))

    def code(self, address: bytes, number: int | None = None) -> bytes:
        """Code of a contract, empty for none."""
        return bytes(self._vm(number).state.get_code(address))

    @property
    def next_base_fee(self) -> int:
        """Base fee of the next block, wei per gas."""
        return int(self._chain.header.base_fee_per_gas)

    def call(self, sender: bytes, to: bytes, data: bytes, gas: int = GAS_LIMIT, number: int | None = None) -> bytes:
        """Run a call on the state after a block, without effect.

        Raises:
            RevertedError: the contract reverted.
            RefusedError: it failed otherwise.
        """
        vm = self._vm(number)
        computation = vm.execute_bytecode(
            origin=sender, gas_price=0, gas=min(gas, GAS_LIMIT), to=to, sender=sender, value=0, data=data,
            code=vm.state.get_code(to),
        )  # fmt: skip
        if computation.is_error:
            raise _failure(computation.error)
        return bytes(computation.output)

    def estimate_gas(self, sender: bytes, to: bytes, data: bytes, value: int) -> int:
        """Gas that a transaction needs now.

        Raises:
            RevertedError: it would revert.
            RefusedError: it would fail otherwise.
        """
        unsigned = self._chain.get_vm().get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID, nonce=self.nonce(sender), max_priority_fee_per_gas=0, max_fee_per_gas=self.next_base_fee,
            gas=GAS_LIMIT, to=to, value=value, data=data, access_list=(),
        )  # fmt: skip
        try:
            return int(self._chain.estimate_gas(SpoofTransaction(unsigned, from_=sender), self._chain.header))
        except (VMError, ValidationError) as error:
            raise _failure(error) from error

    def block(self, number: int) -> Any | None:
        """A block by number, or None."""
        return self._chain.get_canonical_block_by_number(number) if 0 <= number <= self.head else None

    def block_by_hash(self, block_hash: bytes) -> Any | None:
        """A block by hash, or None."""
        try:
            return self._chain.get_block_by_hash(block_hash)
        except HeaderNotFound:
            return None

    def mined(self, transaction_hash: bytes) -> Mined | None:
        """A transaction with its receipt, or None."""
        try:
            number, index = self._chain.get_canonical_transaction_index(transaction_hash)
        except TransactionNotFound:
            return None
        found: Mined = list(self.mined_in(self._chain.get_canonical_block_by_number(number)))[index]
        return found

    def mined_in(self, block: Any) -> Iterator[Mined]:
        """The transactions of a block with their receipts."""
        gas_before = logs_before = 0
        for index, (transaction, receipt) in enumerate(
            zip(block.transactions, block.get_receipts(self._chain.chaindb), strict=True)
        ):
            yield Mined(block, transaction, receipt, index, receipt.gas_used - gas_before, logs_before)
            gas_before, logs_before = receipt.gas_used, logs_before + len(receipt.logs)

    def logs(
        self, first: int, last: int, addresses: set[bytes], topics: list[set[int] | None]
    ) -> Iterator[tuple[Mined, int, Any]]:
        """Events of the blocks `first` to `last`, each with its transaction and its index in the block.

        Args:
            first: number of the first block.
            last: number of the last block, included.
            addresses: contracts to look at; empty for all.
            topics: for each topic position the values that match, None for any.
        """
        for number in range(max(first, 0), min(last, self.head) + 1):
            header = self._chain.get_canonical_block_header_by_number(number)
            bloom = BloomFilter(header.bloom)
            if addresses and not any(address in bloom for address in addresses):
                continue
            if any(wanted and not any(topic.to_bytes(32) in bloom for topic in wanted) for wanted in topics):
                continue
            for mined in self.mined_in(self._chain.get_block_by_header(header)):
                for offset, event in enumerate(mined.receipt.logs):
                    if (not addresses or event.address in addresses) and _matches(event.topics, topics):
                        yield mined, mined.first_log + offset, event

    def _open(self) -> _Chain:
        database = AtomicDB(self._store)
        try:
            ChainDB(database).get_canonical_head()
        except CanonicalHeadNotFound:
            genesis = {
                "coinbase": ZERO_ADDRESS, "difficulty": POST_MERGE_DIFFICULTY, "extra_data": b"", "gas_limit": GAS_LIMIT,
                "mix_hash": POST_MERGE_MIX_HASH, "nonce": POST_MERGE_NONCE, "receipt_root": BLANK_ROOT_HASH,
                "timestamp": int(time.time()), "transaction_root": BLANK_ROOT_HASH,
            }  # fmt: skip
            with self._store.transaction():
                _Chain.from_genesis(database, genesis)
        return _Chain(database)

    def _mine(self, transactions: list[Any], withdrawals: list[Any]) -> None:
        parent = self._chain.get_canonical_head()
        self._chain.set_header_timestamp(max(int(time.time()), parent.timestamp + 1))
        try:
            with self._store.transaction():
                self._chain.mine_all(
                    transactions, withdrawals=withdrawals, coinbase=ZERO_ADDRESS, mix_hash=os.urandom(32), blob_gas_used=0
                )
        except BaseException as error:
            self._chain = self._open()  # py-evm's caches may hold what was rolled back
            if isinstance(error, ValidationError | VMError):
                raise TransactionRefusedError(f"{type(error).__name__}: {error}") from error
            raise

    def _vm(self, number: int | None = None) -> Any:
        """The machine on the state after a block."""
        if number is None:
            return self._chain.get_vm(self._chain.get_canonical_head())
        return self._chain.get_vm(self._chain.get_canonical_block_header_by_number(number))


def _matches(topics: Any, wanted: list[set[int] | None]) -> bool:
    return all(values is None or (i < len(topics) and topics[i] in values) for i, values in enumerate(wanted))


def _failure(error: Exception) -> RefusedError:
    if isinstance(error, Revert):
        return RevertedError(bytes(error.args[0]) if error.args else b"")
    return RefusedError(f"{type(error).__name__}: {error}")


def _reason(data: bytes) -> str:
    """The text of a revert by Error(string), the selector 0x08c379a0 of the ABI specification."""
    if data[:4] != bytes.fromhex("08c379a0"):
        return ""
    length = int.from_bytes(data[36:68])
    return ": " + data[68 : 68 + length].decode(errors="replace")
