"""What only a node with a pool, block times and finality can do: reorganisations, dropped and stuck transactions."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.conftest import ChainAccount, ChainProcess
from tests.integration.test_anchoring import Log, rpc
from tests.ports import free_port
from vlab.anchoring import Anchorer, AnchorError, Fault, NotFinalError, check_anchor
from vlab.devchain.anvil import INSTALL
from vlab.errors import ServiceDownError, TransientError
from vlab.records import Anchor

pytestmark = pytest.mark.skipif(shutil.which("anvil") is None, reason=f"no anvil on PATH; {INSTALL}")

GWEI = 10**9


class Anvil:
    """An anvil that mines only when told."""

    def __init__(self, folder: Path) -> None:
        self.account = ChainAccount.create(folder / "account")
        self.folder, self.port = folder, free_port()
        self.process = self.start()

    def start(self) -> ChainProcess:
        """Start, or start again on the same state and port."""
        return ChainProcess.start(self.folder / "chain", "--anvil", "--fund", self.account.address, port=self.port)

    def ask(self, method: str, *params: object) -> object:
        """One call."""
        return rpc(self.process.rpc_url, method, *params)

    def hold(self) -> None:
        """Stop making blocks."""
        self.ask("evm_setIntervalMining", 0)
        self.ask("evm_setAutomine", False)

    def mine(self, count: int = 1) -> None:
        """Make blocks."""
        self.ask("anvil_mine", hex(count))

    def waiting(self) -> int:
        """Number of transactions in the pool."""
        status = self.ask("txpool_status")
        assert isinstance(status, dict)
        return int(status["pending"], 16)


@pytest.fixture(scope="module")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """One anvil for the module."""
    node = Anvil(tmp_path_factory.mktemp("anvil"))
    yield node
    node.process.stop()


@pytest.fixture
def log(anvil: Anvil, tmp_path: Path) -> Log:
    """A ledger whose contract is final, on a chain that stands still, and one second of patience."""
    anvil.ask("evm_setIntervalMining", 1)
    made = Log(tmp_path, anvil.process.rpc_url, anvil.account, deadline_s=30, patience_s=1)
    anvil.hold()
    return made


def in_background(log: Log, **options: float) -> "Future[Anchor]":
    """Publish the newest head in a thread."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(log.publish, **options)
    pool.shutdown(wait=False)
    return future


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so, at most ten seconds."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_nothing_is_anchored_before_it_is_final(anvil: Anvil, log: Log) -> None:
    """A head in the newest block is not yet an anchor; two blocks later it is, and checking says the same."""
    log.grow(2)
    future = in_background(log)
    until(lambda: anvil.waiting() == 1, "sent")
    anvil.mine()
    with pytest.raises(NotFinalError):
        log.publish(deadline_s=0.5)
    assert not future.done()
    anvil.mine(2)
    anchor = future.result(10)

    check_anchor(anchor, log.pin)
    anvil.ask("anvil_reorg", 1, [])
    anvil.ask("anvil_rollback", 1)
    with pytest.raises(AnchorError) as caught:
        check_anchor(anchor, log.pin)
    assert caught.value.code == Fault.not_final
    anvil.mine(2)
    check_anchor(anchor, log.pin)


def test_a_reorganisation_before_finality_is_repaired(anvil: Anvil, log: Log) -> None:
    """When the head's block is thrown away, the same bytes are sent again, and the anchor names the block that stayed."""
    log.grow(2)
    future = in_background(log)
    until(lambda: anvil.waiting() == 1, "sent")
    anvil.mine()
    until(lambda: log.published_sizes() == [2], "mined")
    anvil.ask("anvil_reorg", 1, [])
    assert log.published_sizes() == []
    until(lambda: anvil.waiting() == 1, "sent again")
    anvil.mine(3)
    anchor = future.result(10)

    check_anchor(anchor, log.pin)
    assert log.published_sizes() == [2]
    assert anchor.tx_hash in {attempt.hash for attempt in log.anchorer()._sender.outbox.for_purpose(purpose(anchor))}


def test_an_anchor_that_was_reorganised_away_is_refused(anvil: Anvil, log: Log) -> None:
    """An anchor whose block was thrown away, past finality, is found when it is checked again; publishing makes a new one."""
    log.grow(2)
    future = in_background(log)
    until(lambda: anvil.waiting() == 1, "sent")
    anvil.mine(3)
    lost = future.result(10)
    anvil.ask("anvil_reorg", 3, [])

    with pytest.raises(AnchorError) as caught:
        check_anchor(lost, log.pin)
    assert caught.value.code == Fault.not_found
    future = in_background(log)
    until(lambda: anvil.waiting() == 1, "sent again")
    anvil.mine(3)
    check_anchor(future.result(10), log.pin)
    with pytest.raises(AnchorError) as caught:
        check_anchor(lost, log.pin)
    assert caught.value.code == Fault.mismatch


def test_dropped_transactions_are_sent_again(anvil: Anvil, log: Log) -> None:
    """When the node forgets the transaction, it is handed over again until it is in a block, once."""
    log.grow(2)
    future = in_background(log)
    for _ in range(3):
        until(lambda: anvil.waiting() == 1, "sent")
        anvil.ask("anvil_dropAllTransactions")
    until(lambda: anvil.waiting() == 1, "sent again")
    anvil.mine(3)

    check_anchor(future.result(10), log.pin)
    assert log.published_sizes() == [2]


def test_a_fee_spike_is_outbid_with_the_same_nonce(anvil: Anvil, log: Log) -> None:
    """A transaction that a risen base fee keeps out of the blocks is replaced by better paid ones until it gets in, once."""
    log.grow(2)
    before = anvil.ask("eth_getTransactionCount", anvil.account.address, "latest")
    future = in_background(log)
    until(lambda: anvil.waiting() == 1, "sent")
    while not future.done():
        anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(50 * GWEI))
        anvil.mine()
        time.sleep(0.2)
    anchor = future.result()
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    anvil.mine()

    attempts = log.anchorer()._sender.outbox.for_purpose(purpose(anchor))
    assert len(attempts) > 1
    assert {attempt.nonce for attempt in attempts} == {int(str(before), 16)}
    assert anchor.tx_hash != attempts[-1].hash
    assert log.published_sizes() == [2]


def test_fees_above_the_limit_are_not_paid(anvil: Anvil, log: Log) -> None:
    """When gas costs more than the limit nothing is signed, and the error says to try later."""
    log.grow(2)
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(600 * GWEI))
    anvil.mine()
    with pytest.raises(TransientError, match="gas costs 601 gwei, more than 500"):
        log.publish()
    anvil.ask("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
    anvil.mine()
    assert anvil.waiting() == 0


def test_a_nonce_spent_by_something_else_is_replaced(anvil: Anvil, log: Log, tmp_path: Path) -> None:
    """When another outbox with the same key takes the nonce, the head is published with the next one, once."""
    log.grow(2)
    future = in_background(log)
    until(lambda: anvil.waiting() == 1, "sent")
    anvil.ask("anvil_dropAllTransactions")
    key_file, password_file, _ = anvil.account.files
    elsewhere = Anchorer(log.pin, key_file, password_file, tmp_path / "another outbox", patience_s=1)
    head = log.ledger.head()
    stop = threading.Event()

    def keep_mining() -> None:
        while not stop.wait(0.2):
            anvil.mine()

    miner = threading.Thread(target=keep_mining)
    miner.start()
    try:
        second = elsewhere.publish(head, lambda _: [])
        first = future.result(20)
    finally:
        stop.set()
        miner.join()

    assert first == second
    assert log.published_sizes() == [2]


def test_anchors_survive_a_kill_of_anvil(tmp_path: Path) -> None:
    """What was final when anvil was killed is there when it is back; what was not is sent again."""
    node = Anvil(tmp_path)
    (tmp_path / "log").mkdir()
    log = Log(tmp_path / "log", node.process.rpc_url, node.account, deadline_s=30, patience_s=5)
    log.grow(2)
    first = log.publish()
    head = log.grow(3)
    future = in_background(log)
    until(lambda: node.waiting() == 1 or 5 in log.published_sizes(), "sent")
    node.process.stop(signal.SIGKILL)
    with pytest.raises(ServiceDownError):
        check_anchor(first, log.pin)
    time.sleep(0.5)
    node.process = node.start()

    check_anchor(first, log.pin)
    assert future.result(30).head == head
    assert log.published_sizes() == [2, 5]
    node.process.stop()


def purpose(anchor: Anchor) -> str:
    """Name of an anchor's transactions in the outbox."""
    return f"publish {anchor.head.size} {anchor.head.root} of {anchor.head.origin}"
