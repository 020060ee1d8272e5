"""Run ONNX's node tests; all of them unless told otherwise, and then write docs/operators.md."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.operators.cases import Case, collect
from benchmarks.operators.report import page
from benchmarks.operators.running import Outcome, Result, run_all
from vlab import settings

SAMPLE_STEP = 30
"""The sample is every 30th case."""


def main() -> int:
    """The command line; the exit status tells whether anything was wrong without being caught."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description=__doc__)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--cases", nargs="+", metavar="WORD", help="only cases whose name holds one of these words")
    chosen.add_argument("--sample", action="store_true", help=f"every {SAMPLE_STEP}th case")
    chosen.add_argument(
        "--again", type=Path, metavar="JSON", help="those that did not pass in these results; the others are kept"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--json", type=Path, help="also write the results here")
    arguments = parser.parse_args()

    kept = {} if arguments.again is None else _passed(arguments.again)
    fresh = {result.case: result for result in run_all(_chosen(arguments, set(kept)), arguments.jobs, _tell)}
    results = [{**kept, **fresh}[case.name] for case in collect() if case.name in kept or case.name in fresh]
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    if len(results) == len(collect()):
        (settings.checkout() / "docs" / "operators.md").write_text(page(results), encoding="utf-8")
    for outcome, count in Counter(result.outcome for result in results).most_common():
        print(f"{count:5} {outcome}")
    return int(any(result.outcome in (Outcome.uncaught, Outcome.crashed) for result in results))


def _chosen(arguments: argparse.Namespace, kept: set[str]) -> list[Case]:
    if arguments.sample:
        return list(collect()[::SAMPLE_STEP])
    words = arguments.cases or [""]
    return [case for case in collect() if case.name not in kept and any(word in case.name for word in words)]


def _passed(path: Path) -> dict[str, Result]:
    entries = (
        Result(**{**entry, "outcome": Outcome(entry["outcome"])}) for entry in json.loads(path.read_text(encoding="utf-8"))
    )
    return {result.case: result for result in entries if result.outcome is Outcome.passed}


def _tell(result: Result) -> None:
    if result.outcome is not Outcome.passed:
        print(f"{result.case}: {result.outcome}: {result.message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
