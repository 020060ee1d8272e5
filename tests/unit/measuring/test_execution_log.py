"""Counting instructions in an emulator's log, line by line."""

import pytest

from vlab.measuring.execution_log import ExecutionLog, UnreadableLogError


def translation(*addresses: int) -> str:
    """A block is translated, with an instruction at each address."""
    body = "".join(f"\n ---- {address:016x} 0000000000000000\n mov_i64 x15/a5,x10/a0\n" for address in addresses)
    return f"OP:\n ld_i32 tmp1,env,$0xfffffffffffffff8\n brcond_i32 tmp1,$0x0,lt,$L0\n{body} exit_tb $0x7f92e4000043\n\n"


def run(code: int, address: int, symbol: str = "") -> str:
    """A block runs, whose code is at this address of the emulator."""
    return f"Trace 0: 0x{code:x} [0000000000000000/{address:016x}/00207600/00000200] {symbol}\n"


A, B = run(0x100, 0x1000), run(0x200, 0x2000, "aot_run")
STOPPED = "Stopped execution of TB chain before 0x100 [0000000000001000] \n"
TOO_LARGE = "Restarting code generation with smaller translation block (max 2 insns)\n"


def total(text: str) -> int:
    """What the log adds up to."""
    log = ExecutionLog()
    log.feed(text.encode())
    return log.total()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (translation(0x1000) + A, 1),
        (translation(0x1000, 0x1002, 0x1006) + A + A + A, 9),
        (translation(0x1000) + A + translation(0x2000, 0x2004) + B + A + B + B, 1 + 2 + 1 + 2 + 2),
        # an interrupt comes before the first instruction, and the block runs later
        (translation(0x1000, 0x1004) + A + A + STOPPED + A, 4),
        # new code at the address of old code, as after self-modification or when the buffer was full
        (translation(0x1000) + A + A + translation(0x1000, 0x1002, 0x1004) + A + A, 1 + 1 + 3 + 3),
        # a translation that became too large is begun again, before or after it is written down
        (TOO_LARGE + translation(0x1000, 0x1004) + A, 2),
        (translation(0x1000, 0x1004, 0x1008) + TOO_LARGE + translation(0x1000, 0x1004) + A, 2),
    ],
)
def test_every_run_of_a_block_counts_its_instructions(text: str, expected: int) -> None:
    """Each run adds what the latest translation of that block had; a run that did not happen is taken back."""
    assert expected == total(text)


def test_pieces_may_end_anywhere() -> None:
    """A log that is cut at any byte adds up to the same."""
    text = (translation(0x1000, 0x1004) + A + A + STOPPED + A + translation(0x2000) + B).encode()
    for cut in range(len(text) + 1):
        log = ExecutionLog()
        log.feed(text[:cut])
        log.feed(text[cut:])

        assert 5 == log.total(), cut


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (translation(0x1000) + A + "hello from the program\n", "unknown line: b'hello"),
        (translation(0x1000) + A.replace("Trace 0", "Trace 1"), "unknown line: b'Trace 1"),
        (translation(0x1000) + A + "Linking TBs 0x1 index 0 -> 0x2\n", "unknown line: b'Linking"),
        (translation(0x1000) + A + B, r"never translated: b'Trace 0: 0x200"),
        (translation(0x1000) + A + "x" * 100_000, "line without end: b'xxx"),
        (translation(0x1000) + A + A[:-1], "not whole"),
        ("", "not whole"),
    ],
)
def test_a_log_that_is_not_understood_is_refused(text: str, reason: str) -> None:
    """Output of the program, a second thread, chained blocks, unknown blocks and a cut end are refused, not skipped."""
    with pytest.raises(UnreadableLogError, match=reason):
        total(text)
