"""How many of ONNX's own node tests pass through the whole compile path; docs/operators.md lists them."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.bars import Bar, Row
from benchmarks.operators.running import Outcome
from benchmarks.sections.bench import Bench
from benchmarks.tasks import Figure, Task
from vlab import processes, settings
from vlab.errors import CompileError

SECTION = "operators"
_PASSED = Bar(limit=900, sense="at least")
_UNCAUGHT = Bar(limit=0)
_LIMIT_S = 7200.0
_SUBJECT = "ONNX node tests, host/x86_64"


def tasks(bench: Bench) -> Iterator[Task]:
    """Takes many minutes, so a quick run leaves it out."""
    if bench.quick:
        return
    rows = [
        Row(section=SECTION, subject=_SUBJECT, quantity=quantity, unit="", value=None, bar=bar)
        for quantity, bar in (("cases that pass", _PASSED), ("cases that are wrong and not caught, or crash", _UNCAUGHT))
    ]
    yield Task(SECTION, "node tests", rows, partial(_run, bench), 900)


def _run(bench: Bench) -> list[Figure]:
    results = bench.scratch / "operators.json"
    results.unlink(missing_ok=True)
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.operators", "--json", results]
    done = processes.run_limited(argv, timeout_s=_LIMIT_S, cwd=settings.checkout())
    if not results.is_file():
        raise CompileError(f"the node tests did not end: {done.last_words}")
    counts = Counter(result["outcome"] for result in json.loads(results.read_text(encoding="utf-8")))
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    bad = counts[Outcome.uncaught] + counts[Outcome.crashed]
    return [Figure(counts[Outcome.passed], f"of {counts.total()}: {told}"), Figure(bad)]
