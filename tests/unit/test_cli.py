"""What the command line prints."""

import sys
from io import StringIO

import pytest
from rich.console import Console

from tests.samples import RESULT
from vlab.cli import main
from vlab.cli.benchmarking import tables
from vlab.cli.codes import MISSING
from vlab.records import Percentile
from vlab.reporting import figures
from vlab.targets import known

PERCENTILE = Percentile(value=11_490_000, lower=9_445_000, upper=14_270_000, confidence=0.99, n=80, supported=True, needed=11)


def test_four_boards_fit_into_80_columns() -> None:
    """One table, and no interval is broken in two."""
    board = RESULT.board.model_copy(update={"target": "riscv/rv64gcv-linux"})
    latency = RESULT.measurement.latency.model_copy(update={"p50_ns": PERCENTILE, "p90_ns": PERCENTILE})
    measurement = RESULT.measurement.model_copy(update={"latency": latency})
    column = figures(RESULT.model_copy(update={"board": board, "measurement": measurement}))
    columns = dict.fromkeys(("x86-0", "rv64gc-0", "rv64gcv-0", "aarch64-0"), column)

    page = StringIO()
    (table,) = tables("run r-0123456789ab: digits", columns, 80)
    Console(file=page, width=80).print(table)

    assert 8 == page.getvalue().count("[9.445, 14.27]")
    assert 4 == page.getvalue().count("rv64gcv-linux")


def test_boards_that_do_not_fit_go_into_a_further_table() -> None:
    """None is left out."""
    columns = {f"board-{number}": figures(RESULT) for number in range(6)}

    assert [4, 2] == [len(table.columns) - 1 for table in tables("run r-0123456789ab: digits", columns, 80)]


def test_a_missing_package_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where vlab is installed alone it verifies; what needs a whole lab says what to do."""
    monkeypatch.setitem(sys.modules, "vlab.client", None)
    monkeypatch.setattr(sys, "argv", ["vlab", "runs"])

    with pytest.raises(SystemExit) as end:
        main()

    assert MISSING == end.value.code
    assert "make setup" in capsys.readouterr().err


def test_targets_fit_into_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line, with every target named."""
    monkeypatch.setattr(sys, "argv", ["vlab", "targets"])
    main()
    lines = capsys.readouterr().out.splitlines()

    assert [] == [line for line in lines if len(line) > 80]
    assert set(known()) == {line.split()[0] for line in lines if not line.startswith(" ")}
