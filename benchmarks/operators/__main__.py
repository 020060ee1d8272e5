"""Run the node tests; without --cases all of them, and write docs/operators.md."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from benchmarks.operators.cases import collect
from benchmarks.operators.running import Outcome, Result, run_all


def main() -> int:
    """The command line; the exit status tells whether anything was wrong without being caught."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operators", description=__doc__)
    parser.add_argument("--cases", nargs="*", default=[], metavar="WORD", help="only cases whose name holds one of these words")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--json", type=Path, help="also write the results here")
    chosen = parser.parse_args()

    cases = [case for case in collect() if not chosen.cases or any(word in case.name for word in chosen.cases)]
    results = run_all(cases, chosen.jobs, _tell)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    for outcome, count in Counter(result.outcome for result in results).most_common():
        print(f"{count:5} {outcome}")
    return int(any(result.outcome in (Outcome.uncaught, Outcome.crashed) for result in results))


def _tell(result: Result) -> None:
    if result.outcome is not Outcome.passed:
        print(f"{result.case}: {result.outcome}: {result.message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
