"""What must hold for every block: a published slug never changes, every field says what it is, none holds a secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.board import Board
from blocks.chain_account import ChainAccount
from blocks.signer import Signer
from blocks.stored import Stored
from blocks.tracking import Tracking
from vlab import records
from vlab.signing import Signer as LibrarySigner

SLUGS = {
    Board: "vlab-board",
    ChainAccount: "vlab-chain-account",
    Signer: "vlab-signer",
    Tracking: "vlab-tracking",
}


@pytest.mark.parametrize("block", SLUGS, ids=lambda block: block.__name__)
def test_slug_is_what_was_published(block: type[Stored]) -> None:
    """Saved documents are found by the slug, so it is never edited."""
    assert SLUGS[block] == block.get_block_type_slug()


@pytest.mark.parametrize("block", SLUGS, ids=lambda block: block.__name__)
def test_everything_is_described(block: type[Stored]) -> None:
    """The block and each of its fields say in the UI what they are."""
    assert block.get_description()
    assert [] == [name for name, field in block.model_fields.items() if not field.description]


@pytest.mark.parametrize("block", SLUGS, ids=lambda block: block.__name__)
def test_no_field_holds_a_secret(block: type[Stored]) -> None:
    """Every worker can read every block in clear text: keys and secrets are named by their files."""
    kinds = [str(field.annotation) for field in block.model_fields.values()]

    assert [] == [kind for kind in kinds if "Secret" in kind]
    risky = [name for name in block.model_fields if any(word in name for word in ("key", "password", "secret", "token"))]
    assert all(name.endswith(("_file", "_url")) for name in risky)


@pytest.mark.parametrize(("kind", "emulated"), [("local", False), ("qemu-user", True), ("qemu-system", True)])
def test_board_becomes_a_record(kind: str, emulated: bool) -> None:
    """The transport decides whether a board counts as emulated."""
    block = Board.model_validate({"board": "b-0", "partner": "p", "target": "riscv/rv64gc-linux", "transport": {"kind": kind}})
    info = records.BoardInfo(name="b-0", partner="p", target="riscv/rv64gc-linux", emulated=emulated)

    assert info == block.get_board().info
    assert kind == block.get_board().transport


def test_unknown_transport_is_refused() -> None:
    """A board nobody can reach cannot be saved."""
    with pytest.raises(ValidationError, match="telnet"):
        Board.model_validate({"board": "b", "partner": "p", "target": "riscv/rv64gc-linux", "transport": {"kind": "telnet"}})


def test_signer_and_anchorer_are_made_without_touching_the_network(tmp_path: Path) -> None:
    """A verb method only puts the library object together."""
    signer = Signer(
        trust_config=tmp_path / "trust.json",
        token_url="http://127.0.0.1:1/token",  # noqa: S106  # an address, not a token
        client_id="lab",
        secret_file=tmp_path / "lab.secret",
        san="spiffe://vlab.local/lab",
        issuer="http://127.0.0.1:1",
    )

    assert isinstance(signer.get_signer(), LibrarySigner)
