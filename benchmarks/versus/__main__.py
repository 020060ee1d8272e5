"""`python -m benchmarks.versus TARGET MODEL ...`: a quick look at how models stand against ONNX Runtime on this machine."""

import argparse
import os
import statistics
from pathlib import Path

import onnxruntime

from benchmarks import models
from benchmarks.versus import building, contest, interleaving
from vlab import targets
from vlab.errors import VlabError


def main() -> None:
    """Print one line a model: median times and their ratio with its interval."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus")
    parser.add_argument("target", help="name of a target that this machine is, or path of its TOML file")
    parser.add_argument("models", nargs="+", choices=models.NAMES, metavar="MODEL", help=", ".join(models.NAMES))
    parser.add_argument("--rounds", type=int, default=7, help="blocks of each side")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="to measure on")
    parser.add_argument("--scratch", type=Path, default=Path("build/benchmarks"), help="for models, cache and programs")
    asked = parser.parse_args()
    target = targets.read(Path(asked.target)) if asked.target.endswith(".toml") else targets.load(asked.target)
    library = building.library_in(Path(onnxruntime.__file__).parent)
    pace = interleaving.Pace(asked.rounds, block_ns=300_000_000, warmup_ns=100_000_000)
    for name in asked.models:
        model = models.write(name, asked.scratch / "models")
        try:
            pair = contest.prepare(model, target, library=library, scratch=asked.scratch.absolute())
        except VlabError as error:
            print(f"{name:18} {target.name}: {error}", flush=True)
            continue
        with interleaving.undisturbed(asked.core):
            seen = interleaving.measure(pair.ours, pair.theirs, contest.INPUTS, pace)
        fallbacks = [f"{kernel.name} ({kernel.reason})" for kernel in pair.compiled.manifest.kernels if not kernel.scheduled]
        print(
            f"{name:18} {target.name}: ours {statistics.median(seen.ours_ns) / 1e3:9.1f} µs, "
            f"ONNX Runtime {statistics.median(seen.theirs_ns) / 1e3:9.1f} µs, "
            f"ratio {seen.ratio:.3f} [{seen.lower:.3f}, {seen.upper:.3f}]"
            + (f"; not scheduled: {', '.join(fallbacks)}" if fallbacks else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
