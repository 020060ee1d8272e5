"""docs/operators.md is what ONNX's node tests give."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.operators.cases import collect
from benchmarks.operators.report import listed
from benchmarks.operators.running import Outcome
from tests.boards import ready
from vlab import settings


def page() -> str:
    """The page."""
    return (settings.checkout() / "docs" / "operators.md").read_text(encoding="utf-8")


def test_a_sample_of_the_node_tests_gives_what_the_page_says(tmp_path: Path):
    """Every 30th case, through the whole path, ends as the page has it."""
    ready("host/x86_64")
    found = tmp_path / "results.json"
    argv = [sys.executable, "-m", "benchmarks.operators", "--sample", "--json", found]
    subprocess.run(argv, cwd=settings.checkout(), check=True, capture_output=True, timeout=300)
    results = json.loads(found.read_text(encoding="utf-8"))
    said = listed(page())

    assert len(results) > 40
    assert {one["case"]: said.get(one["case"], Outcome.passed) for one in results} == {
        one["case"]: one["outcome"] for one in results
    }


def test_the_page_has_no_case_that_crashes_or_is_wrong_without_being_caught():
    """And it knows every case that it names."""
    said = listed(page())

    assert {Outcome.uncaught, Outcome.crashed}.isdisjoint(said.values())
    assert set(said) <= {case.name for case in collect()}
    assert len(said) <= len(collect()) - 900
