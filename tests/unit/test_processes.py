"""Running a program within limits on time, memory and output."""

import signal
import sys
import time
from pathlib import Path

import pytest

from vlab import processes
from vlab.errors import MissingToolError
from vlab.processes import LimitError, OutputError, run_limited

MIB = 1 << 20


def python(code: str) -> list[str]:
    """A program that runs this code."""
    return [sys.executable, "-I", "-S", "-c", code]


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting a moment for it."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_both_streams_and_the_status_are_kept() -> None:
    """Standard output as bytes, standard error as text, the exit status as it was."""
    done = run_limited(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), timeout_s=10)

    assert (3, b"out\n", "err\n", "err") == (done.returncode, done.stdout, done.stderr, done.last_words)


def test_a_signal_is_a_negative_status() -> None:
    """A program that a signal ended says which."""
    done = run_limited(python(f"import os; os.kill(os.getpid(), {int(signal.SIGTERM)})"), timeout_s=10)

    assert -signal.SIGTERM == done.returncode


def test_both_streams_at_once_do_not_block() -> None:
    """A program that fills one pipe after the other is read to its end."""
    code = "import os\nfor _ in range(64): os.write(1, bytes(65536)); os.write(2, b'e' * 65536)"
    done = run_limited(python(code), timeout_s=30)

    assert (4 * MIB, 4 * MIB) == (len(done.stdout), len(done.stderr))


@pytest.mark.parametrize(("descriptor", "where"), [(1, "standard output"), (2, "standard error")])
def test_a_program_that_prints_without_end_is_stopped(descriptor: int, where: str) -> None:
    """Output is held in memory, so a program that prints more than 16 MiB is killed, and the error says on which stream."""
    code = f"import os\nwhile True: os.write({descriptor}, bytes(65536))"
    with pytest.raises(OutputError, match=rf"python.*more than 16 MiB on {where}"):
        run_limited(python(code), timeout_s=60)


def test_the_limit_itself_may_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly the limit passes, one byte more does not."""
    monkeypatch.setattr(processes, "OUTPUT_LIMIT_BYTES", MIB)

    assert MIB == len(run_limited(python(f"import os; os.write(1, bytes({MIB}))"), timeout_s=10).stdout)
    with pytest.raises(OutputError, match="more than 1 MiB"):
        run_limited(python(f"import os; os.write(1, bytes({MIB + 1}))"), timeout_s=10)


def test_consumed_output_has_no_limit() -> None:
    """What is consumed piece by piece is not kept, so it may be longer; standard error is kept beside it."""
    seen = 0

    def consume(piece: bytes) -> None:
        nonlocal seen
        seen += len(piece)

    code = "import os\nfor _ in range(20 * 16): os.write(1, bytes(65536))\nos.write(2, b'done')"
    done = run_limited(python(code), timeout_s=60, consume=consume)

    assert (20 * MIB, b"", "done") == (seen, done.stdout, done.stderr)


def test_a_consumer_that_raises_stops_the_program() -> None:
    """Its error is passed on, and nothing keeps running."""
    pid = 0

    def consume(piece: bytes) -> None:
        nonlocal pid
        pid = int(piece)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        run_limited(python("import os, time; os.write(1, b'%d' % os.getpid()); time.sleep(60)"), timeout_s=30, consume=consume)
    assert gone(pid)


@pytest.mark.parametrize("closing", ["", "os.close(1); os.close(2); "])
def test_a_hanging_program_is_stopped_with_its_children(tmp_path: Path, closing: str) -> None:
    """Also one that has closed its output; nothing it started is left."""
    code = f"import os, time; open('pid', 'w').write(str(os.fork() or os.getpid())); {closing}time.sleep(60)"
    with pytest.raises(LimitError, match=r"limit of 0\.7 s"):
        run_limited(python(code), timeout_s=0.7, cwd=tmp_path)
    assert gone(int((tmp_path / "pid").read_text()))


def test_memory_is_limited() -> None:
    """A program that asks for more than its limit fails by itself."""
    done = run_limited(python("import time; time.sleep(0.2); bytes(1 << 30)"), timeout_s=10, memory_bytes=512 * MIB)

    assert done.returncode
    assert "MemoryError" in done.last_words


def test_a_missing_program_is_named() -> None:
    """With the command that tells how to get it."""
    with pytest.raises(MissingToolError, match=r"no-such-program is not on this machine.*vlab doctor"):
        run_limited(["no-such-program"], timeout_s=1)


def test_variables_come_on_top_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given ones win, others stay; none of our own descriptors is open in the program."""
    monkeypatch.setenv("VLAB_KEPT", "kept")
    code = "import os; print(os.environ['VLAB_KEPT'], os.environ['VLAB_GIVEN'], sorted(os.listdir('/proc/self/fd')))"
    done = run_limited(python(code), timeout_s=10, env={"VLAB_GIVEN": "given"})

    assert b"kept given ['0', '1', '2', '3']\n" == done.stdout  # 3 is the listing itself


def test_no_descriptor_is_left_open() -> None:
    """Neither after an end in order nor after a stop."""
    before = sorted(Path("/proc/self/fd").iterdir())
    run_limited(python("pass"), timeout_s=10)
    with pytest.raises(LimitError):
        run_limited(python("import time; time.sleep(60)"), timeout_s=0.1)

    assert before == sorted(Path("/proc/self/fd").iterdir())
