"""The development chain as a node: what it refuses, what it survives, and who may talk to it."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.integration.conftest import ChainProcess
from vlab.devchain import CHAIN_ID, FUNDED_WEI

RICH = Account.from_key(b"\x07" * 32)
GWEI = 10**9


class Client:
    """Plain JSON-RPC over HTTP."""

    def __init__(self, url: str) -> None:
        self.port = int(url.rpartition(":")[2])

    def post(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Status and body of a raw request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        fields = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request("POST", "/", body, fields)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def ask(self, method: str, *params: object) -> dict[str, Any]:
        """Answer to one call."""
        status, body = self.post(json.dumps({"jsonrpc": "2.0", "id": 5, "method": method, "params": params}).encode())
        assert status == 200
        answer = json.loads(body)
        assert answer["id"] == 5
        assert isinstance(answer, dict)
        return answer

    def result(self, method: str, *params: object) -> Any:
        """Result of a call that must succeed."""
        return self.ask(method, *params)["result"]

    def refusal(self, method: str, *params: object) -> str:
        """Message of a call that must fail."""
        return str(self.ask(method, *params)["error"]["message"])

    def transfer(self, **changes: object) -> str:
        """A signed transfer of one wei, raw."""
        nonce = int(self.result("eth_getTransactionCount", RICH.address, "latest"), 16)
        fields = {"type": 2, "chainId": CHAIN_ID, "nonce": nonce, "gas": 21_000, "value": 1, "to": "0x" + "11" * 20,
                  "maxFeePerGas": 10 * GWEI, "maxPriorityFeePerGas": GWEI}  # fmt: skip
        return "0x" + RICH.sign_transaction(fields | changes).raw_transaction.hex().removeprefix("0x")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChainProcess]:
    """A chain on which one account has money."""
    process = ChainProcess.start(tmp_path_factory.mktemp("chain"), "--fund", RICH.address)
    yield process
    assert process.stop() == 0


@pytest.fixture
def client(chain: ChainProcess) -> Client:
    """A client of the chain."""
    return Client(chain.rpc_url)


def test_chain_id_is_that_of_its_transactions(client: Client) -> None:
    """The node names the chain id that transactions must be signed for, and refuses every other and none."""
    assert int(client.result("eth_chainId"), 16) == CHAIN_ID
    assert client.result("net_version") == str(CHAIN_ID)
    assert f"want {CHAIN_ID}" in client.refusal("eth_sendRawTransaction", client.transfer(chainId=1))
    legacy = {"nonce": 0, "gas": 21_000, "gasPrice": 10 * GWEI, "value": 1, "to": "0x" + "11" * 20, "data": b""}
    raw = "0x" + RICH.sign_transaction(legacy).raw_transaction.hex().removeprefix("0x")
    assert f"want {CHAIN_ID}" in client.refusal("eth_sendRawTransaction", raw)


def test_a_transaction_is_a_final_block(client: Client) -> None:
    """When a send is answered its block is the latest, safe and finalized one, and receipt and block agree."""
    tx_hash = client.result("eth_sendRawTransaction", client.transfer())
    receipt = client.result("eth_getTransactionReceipt", tx_hash)

    for tag in ("latest", "safe", "finalized", receipt["blockNumber"]):
        block = client.result("eth_getBlockByNumber", tag, False)
        assert (block["hash"], block["transactions"]) == (receipt["blockHash"], [tx_hash])
    assert client.result("eth_getBlockByHash", receipt["blockHash"], True)["transactions"][0]["hash"] == tx_hash
    assert (receipt["status"], receipt["gasUsed"]) == ("0x1", hex(21_000))
    assert client.result("eth_getTransactionByHash", tx_hash)["from"] == RICH.address


def test_refused_transactions_change_nothing(client: Client) -> None:
    """Wrong nonces, fees, funds and bytes are refused in a node's words, and no block is made."""
    height, old = client.result("eth_blockNumber"), client.transfer()
    nonce = int(client.result("eth_getTransactionCount", RICH.address, "latest"), 16)
    for raw, words in (
        (client.transfer(nonce=nonce + 1), "nonce too high"),
        (client.transfer(maxFeePerGas=1, maxPriorityFeePerGas=1), "less than block base fee"),
        (client.transfer(value=10**30), "insufficient funds"),
        (client.transfer(gas=20_000), "ValidationError"),
        (old[:-8], "malformed transaction"),
        ("0x", "malformed transaction"),
        ("0x02", "malformed transaction"),
    ):
        assert words in client.refusal("eth_sendRawTransaction", raw)
    assert client.result("eth_blockNumber") == height
    assert client.result("eth_sendRawTransaction", old)
    assert "nonce too low" in client.refusal("eth_sendRawTransaction", old)


def test_malformed_requests_are_answered(client: Client) -> None:
    """What is not a proper call gets an error with a code, never a silent end or a trace."""
    for body, code in (
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (json.dumps([{"id": 1, "method": "eth_chainId"}] * 101).encode(), -32600),
        (b'"text"', -32600),
        (b'{"id": 1, "method": "eth_call", "params": {}}', -32600),
        (b'{"id": 1, "method": "debug_everything"}', -32601),
        (b'{"id": 1, "method": "eth_getCode", "params": []}', -32602),
        (b'{"id": 1, "method": "eth_getCode", "params": [7]}', -32602),
        (b'{"id": 1, "method": "eth_getCode", "params": ["0xzz"]}', -32602),
        (b'{"id": 1, "method": "eth_getBlockByNumber", "params": ["newest"]}', -32602),
        (b'{"id": 1, "method": "eth_getBalance", "params": ["0x1111111111111111111111111111111111111111", "0xffff"]}', -32001),
    ):
        status, answer = client.post(body)
        assert status == 200
        assert json.loads(answer)["error"]["code"] == code, body[:80]
    batch = json.dumps([{"id": 1, "method": "eth_chainId"}, {"id": 2, "method": "nothing"}]).encode()
    assert [answer["id"] for answer in json.loads(client.post(batch)[1])] == [1, 2]
    assert client.result("eth_getTransactionReceipt", "0x" + "12" * 32) is None
    assert client.result("eth_getBlockByNumber", "0xffffff", False) is None


def test_requests_from_web_pages_and_too_large_ones_are_refused(client: Client) -> None:
    """A foreign host name, a form's content type and more than a megabyte are refused before anything is parsed."""
    call = b'{"id": 1, "method": "eth_chainId"}'

    assert client.post(call, host="attacker.example")[0] == 403
    assert client.post(call, content_type="text/plain")[0] == 415
    assert client.post(call, content_length=str((1 << 20) + 1))[0] == 413
    assert client.post(call, content_length="-1")[0] == 413
    assert client.post(call, host=f"localhost:{client.port}")[0] == 200


def test_no_key_is_held(client: Client) -> None:
    """The node signs for nobody and lists no accounts: money comes without a key that could leak."""
    assert "not supported" in client.refusal("eth_accounts")
    assert "not supported" in client.refusal("eth_sendTransaction", {"from": RICH.address})


def test_state_belongs_to_one_process_and_outlives_a_kill(tmp_path: Path) -> None:
    """A second owner is turned away with a reason; after kill -9 every answered block is there; funding is not repeated."""
    command = [sys.executable, "-m", "vlab.devchain", "--state", str(tmp_path), "--port", "0"]
    first = ChainProcess.start(tmp_path, "--fund", RICH.address)
    client = Client(first.rpc_url)
    sent = [client.result("eth_sendRawTransaction", client.transfer()) for _ in range(3)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert second.returncode == 1
    assert "in use by another process" in second.stderr
    first.stop(signal.SIGKILL)
    again = ChainProcess.start(tmp_path)
    client = Client(again.rpc_url)
    assert client.result("eth_blockNumber") == hex(4)
    assert [client.result("eth_getTransactionReceipt", tx)["blockNumber"] for tx in sent] == ["0x2", "0x3", "0x4"]
    assert client.result("eth_getBalance", "0x" + "11" * 20, "latest") == "0x3"
    assert client.result("eth_getBalance", "0x" + "11" * 20, "0x2") == "0x1"
    assert again.stop() == 0
    funded = ChainProcess.start(tmp_path, "--fund", RICH.address)
    assert int(Client(funded.rpc_url).result("eth_getBalance", RICH.address), 16) >= FUNDED_WEI
    assert funded.stop(signal.SIGINT) == 0


def test_a_damaged_file_and_a_taken_port_are_told(tmp_path: Path, chain: ChainProcess) -> None:
    """The program ends with a status and a sentence when it cannot serve."""
    (tmp_path / "chain.sqlite").write_bytes(b"no database" * 1000)
    port = chain.rpc_url.rpartition(":")[2]
    for arguments, words in (
        (["--state", str(tmp_path), "--port", "0"], "is damaged"),
        (["--state", str(tmp_path / "new"), "--port", port], "in use"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "vlab.devchain", *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        assert ended.returncode == 1
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
