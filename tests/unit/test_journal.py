"""Files that are whole or not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from vlab.errors import TransientError
from vlab.journal import Journal, write_whole


def test_an_entry_reads_back(tmp_path: Path) -> None:
    """What was written is what is read; what was not is None."""
    journal = Journal(tmp_path / "deep" / "journal")
    journal.write("entry.json", b"{}")

    assert b"{}" == journal.read("entry.json")
    assert journal.read("other.json") is None


def test_writing_again_replaces_as_a_whole(tmp_path: Path) -> None:
    """No part of the longer old content survives, and no temporary file stays."""
    write_whole(tmp_path / "file", b"a long first version")
    write_whole(tmp_path / "file", b"short", mode=0o600)

    assert b"short" == (tmp_path / "file").read_bytes()
    assert 0o600 == (tmp_path / "file").stat().st_mode & 0o777
    assert ["file"] == [path.name for path in tmp_path.iterdir()]


def test_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    """A write that the disk refuses leaves the old file, no half file, and says what to do."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from vlab.journal import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_whole(Path(sys.argv[1]), b'x' * 100_000)\n"
    )
    (tmp_path / "file").write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True, check=False)

    assert "TransientError" in done.stderr
    assert "free space" in done.stderr
    assert b"old" == (tmp_path / "file").read_bytes()
    assert ["file"] == [path.name for path in tmp_path.iterdir()]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """The path that cannot be written stands in the message."""
    (tmp_path / "blocked").write_text("a file where a directory should be")

    with pytest.raises(TransientError, match="blocked"):
        Journal(tmp_path / "blocked").write("entry", b"")
