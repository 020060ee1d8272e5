"""The witness contract, run on py-evm in this process: what it accepts, what it refuses and why, and what that costs."""

import importlib.util
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_utils.crypto import keccak

from vlab import merkle
from vlab.devchain import CHAIN_ID
from vlab.devchain.chain import DevChain, RevertedError

ROOT = Path(__file__).resolve().parents[2]
COMPILED = json.loads((ROOT / "chain" / "compiled" / "LabLog.json").read_bytes())
LOG = sha256(b"lab.example/ledger").digest()
LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(66)]


class Witness:
    """The contract on a chain of its own."""

    def __init__(self, chain: DevChain) -> None:
        self.chain = chain
        self.owner, self.publisher, self.stranger = (Account.from_key(bytes([number]) * 32) for number in (1, 2, 3))
        for account in (self.owner, self.publisher, self.stranger):
            chain.fund(bytes.fromhex(account.address[2:]), 10**21)
        created = self._mine(self.owner, b"", bytes.fromhex(COMPILED["bytecode"][2:]))
        self.address = keccak(b"\xd6\x94" + created.transaction.sender + b"\x80")[12:]
        self.deployment_gas = created.gas_used
        self.transact(self.owner, "set_publisher", LOG, self.publisher.address)

    def call(self, name: str, *arguments: object, sender: Any = None) -> Any:
        """Result of a call without effect."""
        function = next(entry for entry in COMPILED["abi"] if entry.get("name") == name)
        output = self.chain.call(
            bytes.fromhex((sender or self.stranger).address[2:]), self.address, self._data(name, *arguments)
        )
        values = decode([entry["type"] for entry in function["outputs"]], output)
        return values[0] if len(values) == 1 else values

    def transact(self, sender: Any, name: str, *arguments: object) -> Any:
        """Run a call that must succeed in a block."""
        mined = self._mine(sender, self.address, self._data(name, *arguments))
        assert mined.receipt.state_root == b"\x01"
        return mined

    def publish(self, leaves: list[bytes], old_size: int) -> Any:
        """Publish the tree over these leaves with an honest proof."""
        proof = merkle.consistency_proof(leaves, old_size) if old_size else []
        return self.transact(self.publisher, "publish", LOG, len(leaves), merkle.root(leaves), proof)

    def refusal(self, *arguments: object, name: str = "publish", sender: Any = None) -> str:
        """Reason for which a call reverts."""
        with pytest.raises(RevertedError) as caught:
            self.call(name, *arguments, sender=sender or self.publisher)
        return str(caught.value).removeprefix("execution reverted").removeprefix(": ")

    def _data(self, name: str, *arguments: object) -> bytes:
        function = next(entry for entry in COMPILED["abi"] if entry.get("name") == name)
        types = [entry["type"] for entry in function["inputs"]]
        return keccak(text=f"{name}({','.join(types)})")[:4] + encode(types, arguments)

    def _mine(self, sender: Any, to: bytes, data: bytes) -> Any:
        nonce = self.chain.nonce(bytes.fromhex(sender.address[2:]))
        fields = {"type": 2, "chainId": CHAIN_ID, "nonce": nonce, "gas": 5_000_000, "value": 0, "data": data,
                  "maxFeePerGas": 10**11, "maxPriorityFeePerGas": 1}  # fmt: skip
        signed = sender.sign_transaction(fields | ({"to": to} if to else {}))
        return self.chain.mined(self.chain.send(bytes(signed.raw_transaction)))


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    """A new chain with the contract and a publisher, but no head yet."""
    chain = DevChain(tmp_path / "chain.sqlite")
    yield Witness(chain)
    chain.close()


def test_compiled_contract_is_that_of_the_source() -> None:
    """Compiling again gives what is committed, byte for byte."""
    spec = importlib.util.spec_from_file_location("chain_compile", ROOT / "chain" / "compile.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.compiled(ROOT / "chain" / "contracts" / "LabLog.vy") == COMPILED


def test_code_on_chain_is_the_compiled_runtime(witness: Witness) -> None:
    """The code at the address has the committed digest whoever deployed it: no value is built into it."""
    assert sha256(witness.chain.code(witness.address)).hexdigest() == COMPILED["runtime_sha256"]


def test_heads_grow_and_are_recorded(witness: Witness) -> None:
    """The first head is taken as it is; later ones with a proof; each leaves one event and becomes the head."""
    assert witness.call("head", LOG) == (0, bytes(32))
    old = 0
    for size in (1, 2, 3, 7, 8, 33, 64, 66):
        [event] = witness.publish(LEAVES[:size], old).receipt.logs
        root = merkle.root(LEAVES[:size])

        assert [topic.to_bytes(32) for topic in event.topics[1:]] == [LOG, size.to_bytes(32)]
        assert event.data == root
        assert witness.call("head", LOG) == (size, root)
        old = size


def test_the_same_head_again_is_no_error_and_no_event(witness: Witness) -> None:
    """A repeated call succeeds, says so, and changes nothing."""
    witness.publish(LEAVES[:5], 0)
    again = witness.transact(witness.publisher, "publish", LOG, 5, merkle.root(LEAVES[:5]), [])

    assert again.receipt.logs == ()
    assert witness.call("publish", LOG, 5, merkle.root(LEAVES[:5]), [], sender=witness.publisher) is False


def test_all_consistency_proofs_up_to_40_leaves(witness: Witness) -> None:
    """The contract accepts the honest proof between any two sizes, and none of its forgeries."""
    roots = [merkle.root(LEAVES[:size]) for size in range(41)]
    for size in range(1, 41):
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(LEAVES[:size], old)

            assert witness.call("verify_consistency", old, size, roots[old], roots[size], proof)
            if old == size:
                continue
            forged = [proof[:-1], [*proof, bytes(32)], [bytes(32), *proof[1:]], proof[::-1] if proof != proof[::-1] else []]
            wrong = forged[(old + size) % len(forged)]
            assert not witness.call("verify_consistency", old, size, roots[old], roots[size], wrong)
            assert not witness.call("verify_consistency", old, size, roots[old - 1], roots[size], proof)
            assert not witness.call("verify_consistency", old, size, roots[old], roots[size - 1], proof)


def test_contract_and_library_agree_on_consistency(witness: Witness) -> None:
    """For proofs that are valid for other sizes too, the contract's verdict is that of the library."""
    roots = [merkle.root(LEAVES[:size]) for size in range(13)]
    for size in range(1, 13):
        for old in range(1, size + 1):
            proof = merkle.consistency_proof(LEAVES[:size], old)
            for claimed_old, claimed in ((old, size + 1), (old + 1, size), (old - 1, size), (size, old), (0, size)):
                arguments = (claimed_old, claimed, roots[old], roots[size], proof)
                assert witness.call("verify_consistency", *arguments) == merkle.verify_consistency(*arguments)


def test_all_inclusion_proofs_up_to_20_leaves(witness: Witness) -> None:
    """The contract accepts the honest proof of any leaf, and not that of another leaf, index, size or root."""
    for size in range(1, 21):
        root = merkle.root(LEAVES[:size])
        for index in range(size):
            proof = merkle.inclusion_proof(LEAVES[:size], index)

            assert witness.call("verify_inclusion", root, LEAVES[index], index, size, proof)
            assert not witness.call("verify_inclusion", root, LEAVES[index + 1], index, size, proof)
            assert not witness.call("verify_inclusion", root, LEAVES[index], index + size, size, proof)
            assert not witness.call("verify_inclusion", root, LEAVES[index], index, size, [*proof, bytes(32)])
            assert not witness.call("verify_inclusion", bytes(32), LEAVES[index], index, size, proof)


def test_rewritten_history_is_refused(witness: Witness) -> None:
    """A tree in which a published leaf was changed is refused with its own proof, with the honest one, and with none."""
    witness.publish(LEAVES[:10], 0)
    rewritten = [*LEAVES[:4], merkle.leaf_hash(b"rewritten"), *LEAVES[5:20]]
    root = merkle.root(rewritten)

    for proof in (merkle.consistency_proof(rewritten, 10), merkle.consistency_proof(LEAVES[:20], 10), []):
        assert witness.refusal(LOG, 20, root, proof) == "does not extend the head"
    assert witness.call("head", LOG) == (10, merkle.root(LEAVES[:10]))


def test_every_refusal_has_its_reason(witness: Witness) -> None:
    """Each rule refuses with words of its own."""
    root = merkle.root(LEAVES[:5])
    assert witness.refusal(LOG, 5, root, [LEAVES[0]]) == "the first head takes no proof"
    assert witness.refusal(LOG, 0, root, []) == "size 0"
    witness.publish(LEAVES[:5], 0)

    assert witness.refusal(LOG, 4, merkle.root(LEAVES[:4]), []) == "smaller than the head"
    assert witness.refusal(LOG, 5, bytes(32), []) == "another root of the same size"
    assert witness.refusal(LOG, 6, root, [LEAVES[5]]) == "does not extend the head"
    assert witness.refusal(LOG, 5, root, [], sender=witness.stranger) == "not the publisher"
    assert witness.refusal(LOG, 5, root, [], sender=witness.owner) == "not the publisher"
    assert witness.refusal(sha256(b"another log").digest(), 5, root, []) == "not the publisher"
    for sender in (witness.stranger, witness.publisher):
        assert witness.refusal(LOG, witness.stranger.address, name="set_publisher", sender=sender) == "not the owner"
    assert witness.refusal(LOG, 6, root, [bytes(32)] * 65) == ""  # refused by the decoder of the arguments


def test_a_new_publisher_continues_the_same_history(witness: Witness) -> None:
    """The owner may hand a log to another account or stop it; its head stays and binds the new publisher too."""
    witness.publish(LEAVES[:5], 0)
    witness.transact(witness.owner, "set_publisher", LOG, witness.stranger.address)
    root, proof = merkle.root(LEAVES[:9]), merkle.consistency_proof(LEAVES[:9], 5)

    assert witness.call("head", LOG) == (5, merkle.root(LEAVES[:5]))
    assert witness.refusal(LOG, 9, root, proof) == "not the publisher"
    assert witness.refusal(LOG, 4, root, [], sender=witness.stranger) == "smaller than the head"
    assert witness.call("publish", LOG, 9, root, proof, sender=witness.stranger) is True
    witness.transact(witness.owner, "set_publisher", LOG, "0x" + "0" * 40)
    assert witness.refusal(LOG, 9, root, proof, sender=witness.stranger) == "not the publisher"


def test_largest_sizes_fit(witness: Witness) -> None:
    """A head of the largest size an uint64 holds is taken and keeps its publisher."""
    witness.transact(witness.publisher, "publish", LOG, 2**64 - 1, LEAVES[0], [])

    assert witness.call("head", LOG) == (2**64 - 1, LEAVES[0])
    assert witness.call("publisher", LOG) == witness.publisher.address.lower()


def test_publishing_costs_at_most_62000_gas(witness: Witness) -> None:
    """Extending a tree of 50,000 leaves by 1,024 costs at most 62,000 gas: 61 for each leaf."""
    leaves = [merkle.leaf_hash(b"%d" % number) for number in range(51_024)]
    witness.publish(leaves[:50_000], 0)

    assert witness.publish(leaves, 50_000).gas_used <= 62_000
