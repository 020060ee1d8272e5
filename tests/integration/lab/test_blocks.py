"""Blocks on a real server."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.board import Board
from blocks.chain_account import ChainAccount
from blocks.signer import Signer
from blocks.tracking import Tracking
from tests.integration.lab.conftest import LabUnderTest
from vlab.errors import RefusedError
from vlab.services.layout import PARTNERS, boards
from vlab.verifying import read_profile


@pytest.fixture
def server(lab: LabUnderTest) -> Iterator[LabUnderTest]:
    """This process talks to the lab's Prefect server."""
    with temporary_settings({PREFECT_API_URL: read_profile(lab.home / "lab.json").prefect_api_url}):
        yield lab


def test_what_is_saved_comes_back(server: LabUnderTest) -> None:
    """Law: load(save(block)) has the same values, the discriminated transport included."""
    block = Board.model_validate(
        {"board": "t-0", "partner": "nobody", "target": "riscv/rv64gc-linux", "transport": {"kind": "qemu-user"}}
    )
    block.save("t-0")
    try:
        assert block.get_board() == Board.load("t-0").get_board()
    finally:
        Board.delete("t-0")


def test_the_labs_own_blocks_give_library_objects(server: LabUnderTest) -> None:
    """Each block that `vlab up` saved can be used."""
    profile = read_profile(server.home / "lab.json")

    here = boards(server.home)
    assert {board.name: board for board in here} == {board.name: Board.load(board.name).get_board() for board in here}
    assert profile.tracking_url == Tracking.load("lab").url
    assert profile.chain.contract == ChainAccount.load("lab").contract
    ChainAccount.load("lab").get_anchorer()
    for name in ("lab", *PARTNERS):
        Signer.load(name).get_signer()


def test_a_missing_block_is_refused_with_the_next_step(server: LabUnderTest) -> None:
    """The error names the block and what saves it."""
    with pytest.raises(RefusedError, match=r"vlab-board/nowhere.*vlab up"):
        Board.load("nowhere")
