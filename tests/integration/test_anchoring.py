"""Anchoring against a real development chain: once each, whatever is lost on the way, and nothing forged passes."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.conftest import ChainAccount, ChainProcess
from vlab.anchoring import (
    Anchorer,
    AnchorError,
    Fault,
    NotFinalError,
    SupersededError,
    check_anchor,
    create_account,
    deploy,
)
from vlab.anchoring.node import Node, log_id
from vlab.anchoring.outbox import Outbox
from vlab.errors import ChainError, RefusedError, ServiceDownError
from vlab.ledger import Ledger
from vlab.records import Anchor, ChainPin, LogHead


def rpc(url: str, method: str, *params: object) -> object:
    """Result of one JSON-RPC call."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["result"]


def digests(count: int, kind: str = "") -> list[str]:
    """Distinct digests."""
    return [sha256(f"{kind}{number}".encode()).hexdigest() for number in range(count)]


class Log:
    """A ledger with a contract that witnesses it."""

    def __init__(self, folder: Path, rpc_url: str, account: ChainAccount, **options: float) -> None:
        self.folder, self.rpc_url, self.account, self.options = folder, rpc_url, account, options
        self.origin = f"lab.example/{folder.name}"
        self.ledger = Ledger(folder / "ledger.sqlite", self.origin)
        self.pin = self.deploy()

    def deploy(self, rpc_url: str = "") -> ChainPin:
        """Deploy the contract, unless it is there."""
        return deploy(
            rpc_url or self.rpc_url,
            *self.account.files,
            origin=self.origin,
            record=self.folder / "contract.json",
            **self.options,
        )

    def anchorer(self, rpc_url: str = "", **options: float) -> Anchorer:
        """An anchorer, perhaps by way of another address of the node."""
        pin = self.pin.model_copy(update={"rpc_url": rpc_url or self.rpc_url})
        return Anchorer(pin, *self.account.files, **{**self.options, **options})

    def publish(self, rpc_url: str = "", **options: float) -> Anchor:
        """Publish the newest head."""
        head = self.ledger.head()
        return self.anchorer(rpc_url, **options).publish(head, lambda size: self.ledger.consistency(size, head.size))

    def grow(self, count: int = 1) -> LogHead:
        """Append entries."""
        self.ledger.append([sha256(f"{self.origin} {self.ledger.size() + n}".encode()).hexdigest() for n in range(count)])
        return self.ledger.head()

    def published_sizes(self) -> list[int]:
        """Sizes of all heads in the chain's events, in order."""
        topic = "0x" + log_id(self.origin).hex()
        wanted = {"address": self.pin.contract, "fromBlock": "0x0", "toBlock": "latest", "topics": [None, topic]}
        found = rpc(self.rpc_url, "eth_getLogs", wanted)
        assert isinstance(found, list)
        return [int(event["topics"][2], 16) for event in found if len(event["topics"]) == 3 and event["data"] != "0x"]


@pytest.fixture
def log(tmp_path: Path, devchain: ChainProcess, chain_account: ChainAccount) -> Log:
    """A new ledger with its contract on the development chain."""
    return Log(tmp_path, devchain.rpc_url, chain_account, deadline_s=30)


@contextmanager
def proxy(target: str, fate: Callable[[str, int], str]) -> Iterator[str]:
    """An address of a node that decides each call's fate by method and number of the call of that method.

    Fates: `pass`; `lose request` and `lose answer` close the connection before or after the node has worked; a status with a
    body, such as `429 slow down`, answers that instead.
    """
    counts: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            method = json.loads(body)["method"]
            counts[method] = counts.get(method, 0) + 1
            what = fate(method, counts[method])
            answer = b""
            if what in {"pass", "lose answer"}:
                forwarded = urllib.request.Request(target, body, {"content-type": "application/json"})
                with urllib.request.urlopen(forwarded, timeout=10) as response:
                    answer = response.read()
            if what in {"lose request", "lose answer"}:
                self.close_connection = True
                return
            status = 200
            if what != "pass":
                status, answer = int(what[:3]), what[4:].encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_published_head_can_be_checked(log: Log) -> None:
    """Heads that grow are published one after the other, and every anchor stays good when the log goes on."""
    anchors = []
    for count in (3, 1, 12):
        head = log.grow(count)
        anchors.append(log.publish())
        assert anchors[-1].head == head

    for anchor in anchors:
        check_anchor(anchor, log.pin)
    assert log.published_sizes() == [3, 4, 16]


def test_publishing_again_sends_nothing(log: Log, tmp_path: Path) -> None:
    """The same head again, also without the outbox, gives the same anchor and no new block."""
    log.grow(2)
    anchor = log.publish()
    height = rpc(log.rpc_url, "eth_blockNumber")
    key_file, password_file, _ = log.account.files
    elsewhere = Anchorer(log.pin, key_file, password_file, tmp_path / "other outbox")

    assert log.publish() == anchor
    assert elsewhere.publish(anchor.head, lambda _: []) == anchor
    assert rpc(log.rpc_url, "eth_blockNumber") == height


def test_deploying_again_sends_nothing(log: Log) -> None:
    """The recorded contract is found again; without the record it is found by the outbox; no transaction is sent."""
    height = rpc(log.rpc_url, "eth_blockNumber")

    assert log.deploy() == log.pin
    (log.folder / "contract.json").unlink()
    assert log.deploy() == log.pin
    assert rpc(log.rpc_url, "eth_blockNumber") == height


def test_deploying_survives_lost_answers(tmp_path: Path, devchain: ChainProcess) -> None:
    """When the answers to the sends are lost, the contract is nevertheless created once."""
    account = ChainAccount.create(tmp_path / "account")
    chain = ChainProcess.start(tmp_path / "chain", "--fund", account.address)
    with proxy(chain.rpc_url, lambda method, _: "lose answer" if method == "eth_sendRawTransaction" else "pass") as url:
        log = Log(tmp_path, url, account, deadline_s=30)

    assert rpc(chain.rpc_url, "eth_getTransactionCount", account.address, "latest") == "0x2"
    assert sha256(Node(chain.rpc_url).code(log.pin.contract)).hexdigest() == log.pin.code_sha256
    assert chain.stop() == 0


def test_a_record_of_another_chain_or_of_a_lost_contract_is_refused(log: Log, tmp_path: Path) -> None:
    """A record that does not fit the chain stops the deployment instead of making a second contract."""
    record = log.folder / "contract.json"
    for change, words in (
        ({"chain_id": 1}, "is about chain 1"),
        ({"contract": "0x" + "12" * 20}, "is not on chain"),
        ({"code_sha256": "0" * 64}, "is about a contract with code"),
    ):
        record.write_bytes(log.pin.model_copy(update=change).to_json())
        with pytest.raises(ChainError, match=words):
            log.deploy()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"chain_id": 1}, Fault.chain_id),
        ({"contract": "0x" + "12" * 20}, Fault.contract),
        ({"tx_hash": "0x" + "12" * 32}, Fault.not_found),
        ({"block_number": 1}, Fault.mismatch),
        ({"block_hash": "0x" + "12" * 32}, Fault.mismatch),
        ({"head": {"size": 3}}, Fault.mismatch),
        ({"head": {"root": "12" * 32}}, Fault.mismatch),
        ({"head": {"origin": "lab.example/other"}}, Fault.mismatch),
    ],
)
def test_a_changed_anchor_is_refused(log: Log, change: dict[str, object], code: Fault) -> None:
    """An anchor in which any one field was changed does not hold, with a code that tells which."""
    log.grow(2)
    anchor = log.publish()
    head = change.pop("head", {})
    assert isinstance(head, dict)
    forged = anchor.model_copy(update={**change, "head": anchor.head.model_copy(update=head)})

    with pytest.raises(AnchorError) as caught:
        check_anchor(forged, log.pin)
    assert caught.value.code == code


def test_another_chain_or_contract_than_pinned_is_refused(log: Log) -> None:
    """Neither publishing nor checking goes on with a node of another chain or other code at the address."""
    head = log.grow()
    anchor = log.publish()
    for change, code in (
        ({"chain_id": 1}, Fault.chain_id),
        ({"code_sha256": "12" * 32}, Fault.code),
        ({"contract": "0x" + "12" * 20}, Fault.code),
    ):
        pin = log.pin.model_copy(update=change)
        elsewhere = anchor.model_copy(update={"chain_id": pin.chain_id, "contract": pin.contract})
        with pytest.raises(AnchorError) as caught:
            check_anchor(elsewhere, pin)
        assert caught.value.code == code
        with pytest.raises(ChainError, match="expected"):
            Anchorer(pin, *log.account.files).publish(head, lambda _: [])


def test_an_anchor_from_another_transaction_is_refused(log: Log) -> None:
    """The head of one transaction cannot be claimed for another one of the same log."""
    log.grow()
    first = log.publish()
    log.grow()
    second = log.publish()

    with pytest.raises(AnchorError) as caught:
        check_anchor(second.model_copy(update={"head": first.head}), log.pin)
    assert caught.value.code == Fault.mismatch


def test_a_rewritten_ledger_is_refused(log: Log, tmp_path: Path) -> None:
    """Heads of a ledger that is not the published one are refused with the contract's reason, and nothing is sent."""
    log.grow(4)
    log.publish()
    other = Ledger(tmp_path / "rewritten.sqlite", log.origin)
    other.append(digests(9, "rewritten"))
    height = rpc(log.rpc_url, "eth_blockNumber")

    with pytest.raises(ChainError, match="does not extend the head"):
        log.anchorer().publish(other.head(), lambda size: other.consistency(size, 9))
    with pytest.raises(ChainError, match="never publish over it"):
        log.anchorer().publish(other.head(4), lambda size: other.consistency(size, 4))
    with pytest.raises(SupersededError, match="publish the newest head"):
        log.anchorer().publish(log.ledger.head(2), lambda _: [])
    assert rpc(log.rpc_url, "eth_blockNumber") == height


def test_only_the_publisher_publishes(log: Log, tmp_path: Path) -> None:
    """Another account is refused by the contract before it sends anything; a publisher without money by the node."""
    head = log.grow()
    stranger = ChainAccount.create(tmp_path / "stranger")

    with pytest.raises(ChainError, match="not the publisher"):
        Anchorer(log.pin, *stranger.files).publish(head, lambda _: [])
    deploy(log.rpc_url, *log.account.files, origin=log.origin, record=log.folder / "contract.json", publisher=stranger.address)
    with pytest.raises(ChainError, match="insufficient funds"):
        Anchorer(log.pin, *stranger.files).publish(head, lambda _: [])


def test_a_chain_that_is_down_is_told_from_a_wrong_anchor(log: Log, tmp_path: Path) -> None:
    """Without an answer everything ends in ServiceDownError, whose message keeps the secrets of the address."""
    log.grow()
    anchor = log.publish()
    url = "http://user:secret@127.0.0.1:1/secret-token"
    pin = log.pin.model_copy(update={"rpc_url": url})

    for action in (
        lambda: check_anchor(anchor, pin),
        lambda: log.publish(url),
        lambda: log.deploy(url),
    ):
        with pytest.raises(ServiceDownError, match=r"the chain at http://127.0.0.1:1 does not answer") as caught:
            action()
        assert "secret" not in str(caught.value)


LYING = [
    ("eth_getBlockByNumber", '{"number": "0xffff", "hash": "0x%s"}' % ("12" * 32), Fault.not_canonical),
    ("eth_getBlockByNumber", '{"number": "0x0", "hash": "0x%s"}' % ("12" * 32), Fault.not_final),
    ("eth_call", '"0x{:064x}{}"'.format(1, "12" * 32), Fault.head),
    ("eth_call", '"0x{:064x}{}"'.format(2, "12" * 32), Fault.head),
    ("eth_getCode", '"0x"', Fault.code),
    ("eth_chainId", '"0x1"', Fault.chain_id),
    ("eth_getTransactionReceipt", "null", Fault.not_found),
]


@pytest.mark.parametrize(("method", "result", "code"), LYING)
def test_a_chain_that_has_changed_is_noticed(log: Log, method: str, result: str, code: Fault) -> None:
    """Each thing that is read again from the chain counts: canonical block, finality, current head, code, chain, receipt."""
    log.grow(2)
    anchor = log.publish()
    answer = f'200 {{"jsonrpc": "2.0", "id": 0, "result": {result}}}'

    with (
        proxy(log.rpc_url, lambda asked, _: answer if asked == method else "pass") as url,
        pytest.raises(AnchorError) as caught,
    ):
        check_anchor(anchor, log.pin.model_copy(update={"rpc_url": url}))
    assert caught.value.code == code


NONSENSE = ["429 slow down", "502 <html>bad gateway</html>", "200 <html>", "200 {}", '200 {"result": 7}', "302 x"]


@pytest.mark.parametrize("answer", NONSENSE)
def test_nonsense_from_a_node_is_a_service_that_is_down(log: Log, answer: str) -> None:
    """Whatever a broken node or gateway answers, it is never taken for evidence."""
    log.grow()
    anchor = log.publish()

    with proxy(log.rpc_url, lambda _method, _number: answer) as url, pytest.raises(ServiceDownError):
        check_anchor(anchor, log.pin.model_copy(update={"rpc_url": url}))


def test_lost_answers_to_sends_do_not_double(log: Log) -> None:
    """When no send is ever answered, the head is anchored with one transaction and one event."""
    log.grow(3)
    before = Node(log.rpc_url).nonce(log.account.address)
    with proxy(log.rpc_url, lambda method, _: "lose answer" if method == "eth_sendRawTransaction" else "pass") as url:
        anchor = log.publish(url)

    check_anchor(anchor, log.pin)
    assert log.published_sizes() == [3]
    assert Node(log.rpc_url).nonce(log.account.address) == before + 1


def test_a_send_is_not_repeated_behind_our_back(log: Log) -> None:
    """One send that gets no answer makes one request: the library's own repetition is off for sends, on for reads."""
    log.grow()
    seen: list[str] = []

    def fate(method: str, number: int) -> str:
        seen.append(method)
        return "lose request" if method == "eth_sendRawTransaction" or number == 1 else "pass"

    with proxy(log.rpc_url, fate) as url:
        with pytest.raises(ServiceDownError):
            Node(url).send(b"\x02")
        assert Node(url).chain_id() == 31415
    assert seen == ["eth_sendRawTransaction", "eth_chainId", "eth_chainId"]


def test_lost_requests_and_refusals_are_survived(log: Log) -> None:
    """Every third call lost, refused or answered with nonsense only costs time."""
    fates = ["lose request", "429 slow down", "503 busy", "lose answer", "200 <html>"]
    before = Node(log.rpc_url).nonce(log.account.address)
    with proxy(log.rpc_url, lambda _, number: "pass" if number % 3 else fates[number % 5]) as url:
        for count in (1, 5, 2):
            log.grow(count)
            for _ in range(3):
                try:
                    check_anchor(log.publish(url), log.pin)
                    break
                except ServiceDownError:  # the first look at the pin fails at once
                    continue

    assert log.published_sizes() == [1, 6, 8]
    assert Node(log.rpc_url).nonce(log.account.address) == before + 3


def test_what_was_signed_before_an_outage_is_what_is_sent_after_it(log: Log) -> None:
    """A transaction that never left is on disk, and after the restart exactly it is sent."""
    head = log.grow()
    with (
        proxy(log.rpc_url, lambda method, _: "lose request" if method == "eth_sendRawTransaction" else "pass") as url,
        pytest.raises(ServiceDownError),
    ):
        log.publish(url, deadline_s=0.5)
    [stored] = Outbox(log.account.files[2], 31415, log.account.address).attempts(Node(log.rpc_url).nonce(log.account.address))

    assert log.published_sizes() == []
    anchor = log.publish()
    assert (anchor.tx_hash, anchor.head) == (stored.hash, head)


def test_an_abandoned_head_gives_way_to_the_newer_one(log: Log) -> None:
    """A head that was signed but not sent before the ledger grew is sent first or replaced; the newer one is anchored."""
    log.grow(2)
    with (
        proxy(log.rpc_url, lambda method, _: "lose request" if method == "eth_sendRawTransaction" else "pass") as url,
        pytest.raises(ServiceDownError),
    ):
        log.publish(url, deadline_s=0.2)
    log.grow(3)

    check_anchor(log.publish(), log.pin)
    assert log.published_sizes() == [2, 5]


def test_several_publishers_at_once(log: Log) -> None:
    """Threads that publish growing heads at once with one key end with every head anchored or superseded, none twice."""

    def work(number: int) -> Anchor | None:
        log.grow(number + 1)
        try:
            return log.publish()
        except SupersededError:
            return None

    with ThreadPoolExecutor(4) as pool:
        anchors = list(pool.map(work, range(8)))
    last = log.publish()

    assert last.head == log.ledger.head()
    for anchor in [*filter(None, anchors), last]:
        check_anchor(anchor, log.pin)
    sizes = log.published_sizes()
    assert sizes == sorted(set(sizes))


PUBLISHER = """
import sys
from pathlib import Path
from vlab.anchoring import Anchorer
from vlab.ledger import Ledger
from vlab.records import ChainPin
ledger = Ledger(sys.argv[1])
anchorer = Anchorer(ChainPin.from_json(Path(sys.argv[2]).read_bytes()), *map(Path, sys.argv[3:6]))
head = ledger.head()
print("publishing", flush=True)
print(anchorer.publish(head, lambda size: ledger.consistency(size, head.size)).to_json().decode(), flush=True)
"""


def test_a_killed_publisher_is_continued(log: Log) -> None:
    """A publisher killed at any moment is continued by the next one: one event for each head, no nonce wasted."""
    before = Node(log.rpc_url).nonce(log.account.address)
    for delay_s in (0.0, 0.7, 0.9, 1.1):
        log.grow()
        arguments = [log.folder / "ledger.sqlite", log.folder / "contract.json", *log.account.files]
        process = subprocess.Popen([sys.executable, "-c", PUBLISHER, *arguments], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()

        check_anchor(log.publish(), log.pin)
    assert log.published_sizes() == [1, 2, 3, 4]
    assert Node(log.rpc_url).nonce(log.account.address) == before + 4


def test_anchors_outlive_a_kill_of_the_chain(tmp_path: Path) -> None:
    """Everything the chain has answered survives kill -9; while it is away publishing waits, and goes on when it is back."""
    account = ChainAccount.create(tmp_path / "account")
    chain = ChainProcess.start(tmp_path / "chain", "--fund", account.address)
    port = int(chain.rpc_url.rpartition(":")[2])
    log = Log(tmp_path, chain.rpc_url, account, deadline_s=30)
    log.grow(2)
    first = log.publish()
    chain.stop(signal.SIGKILL)
    log.grow(2)
    with pytest.raises(ServiceDownError):
        log.publish()
    chain = ChainProcess.start(tmp_path / "chain", "--fund", account.address, port=port)

    check_anchor(first, log.pin)
    check_anchor(log.publish(), log.pin)
    assert log.published_sizes() == [2, 4]
    assert chain.stop() == 0


def test_a_reset_chain_gets_nothing_old(tmp_path: Path) -> None:
    """On a chain that was begun anew with the old outbox, contract and heads come from now; no old head is sent again."""
    account = ChainAccount.create(tmp_path / "account")
    for name in ("first", "second"):
        chain = ChainProcess.start(tmp_path / name / "chain", "--fund", account.address)
        (tmp_path / name / "lab").mkdir()
        log = Log(tmp_path / name / "lab", chain.rpc_url, account, deadline_s=30, patience_s=0.2)
        log.ledger.append(digests(3, name))
        time.sleep(0.3)
        anchor = log.publish()
        check_anchor(anchor, log.pin)
        assert (anchor.head, log.published_sizes()) == (log.ledger.head(), [3])
        assert chain.stop() == 0


def test_an_interrupted_account_is_made_anew(tmp_path: Path) -> None:
    """A password without a keystore, as a kill may leave it, does not stand in the way."""
    (tmp_path / "password").write_text("left over")

    address = create_account(tmp_path / "key.json", tmp_path / "password")
    assert create_account(tmp_path / "key.json", tmp_path / "password") == address


def test_key_files_are_private(tmp_path: Path) -> None:
    """Keystore and password are made once, for their owner only, and are refused when everybody may read them."""
    key_file, password_file = tmp_path / "secrets" / "key.json", tmp_path / "secrets" / "password"
    address = create_account(key_file, password_file)

    assert [path.stat().st_mode & 0o777 for path in (key_file, password_file)] == [0o600, 0o600]
    assert create_account(key_file, password_file) == address
    assert address[2:].lower() in key_file.read_text().lower()
    key_file.chmod(0o644)
    with pytest.raises(RefusedError, match="chmod 600"):
        create_account(key_file, password_file)
    key_file.chmod(0o600)
    password_file.write_text("another password")
    with pytest.raises(RefusedError, match="does not open with the password"):
        create_account(key_file, password_file)
    password_file.unlink()
    with pytest.raises(RefusedError, match="no file"):
        create_account(key_file, password_file)


def test_a_deadline_ends_the_wait(log: Log) -> None:
    """A head that does not become final in time ends in NotFinalError; the same call later gives its anchor."""
    log.grow()
    hidden = {"eth_getTransactionReceipt": "null", "eth_getLogs": "[]"}

    def unmined(method: str, _number: int) -> str:
        return f'200 {{"jsonrpc": "2.0", "id": 0, "result": {hidden[method]}}}' if method in hidden else "pass"

    with proxy(log.rpc_url, unmined) as url, pytest.raises(NotFinalError, match="nothing is lost"):
        log.publish(url, deadline_s=0.3)
    check_anchor(log.publish(), log.pin)
    assert log.published_sizes() == [1]
