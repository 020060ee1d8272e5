"""A request that is opened again."""

import pytest

from tasks.open_request import reopen
from tests.samples import MODEL, PLAN, RESULT, digest
from vlab.errors import RefusedError
from vlab.records import AssetRef, Board, CompileOptions, FileRef, Request

FILE = AssetRef(uri="store:file", file=FileRef(name="file", sha256=digest("file"), size_bytes=1))
REQUEST = Request(
    request_id="r-1",
    model=MODEL,
    model_asset=FILE,
    targets=(RESULT.board.target,),
    dataset=FILE,
    reference=FILE,
    plan=PLAN,
    options=CompileOptions(),
    nonces={"virt-0": digest("0"), "virt-1": digest("1")},
    tracking_run_id="run",
    requested_on="2026-01-01T00:00:00Z",
)


def board(name: str) -> Board:
    """A board of that name."""
    return Board(info=RESULT.board.model_copy(update={"name": name}), transport="qemu-user")


def test_a_request_is_taken_as_it_was_written() -> None:
    """Also for a part of its boards."""
    assert REQUEST == reopen(REQUEST.to_json(), [board("virt-0")])


def test_a_board_that_the_request_does_not_know_is_refused() -> None:
    """There is no nonce for it; the message names the boards on both sides."""
    with pytest.raises(RefusedError, match=r"virt-0, virt-1 and not for virt-2"):
        reopen(REQUEST.to_json(), [board("virt-0"), board("virt-2")])
