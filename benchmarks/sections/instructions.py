"""Instructions of one inference under the targets' emulators: exact, the same on every machine, and blind to caches."""

from collections.abc import Iterator
from functools import partial

from benchmarks.bars import Bar, Row
from benchmarks.sections.bench import Bench, load
from benchmarks.tasks import Figure, Task
from vlab import targets

SECTION = "instructions"
BARS = {
    "riscv/rv64gc-linux": Bar(limit=7_400_000),
    "riscv/rv64gcv-linux": Bar(limit=740_000),
    "arm/aarch64-linux": Bar(limit=1_120_000),
    "arm/armv7-linux": Bar(limit=2_850_000),
    "arm/cortex-m4": Bar(limit=7_500_000),
    "riscv/rv32imafc": Bar(limit=7_000_000),
}
"""Of DS-CNN in float32."""
OTHERS = ("resnet8", "mobilenet-v1-0.25")


def tasks(bench: Bench) -> Iterator[Task]:
    """DS-CNN on the targets with a bar; in a full run on every emulated target, and the other small models beside it."""
    others = [] if bench.quick else sorted(set(_emulated()) - set(BARS))
    for name in [*BARS, *others]:
        for model in ("ds-cnn",) if bench.quick or name in others else ("ds-cnn", *OTHERS):
            row = Row(
                section=SECTION,
                subject=f"{model}, {name}",
                quantity="instructions per inference",
                unit="instructions",
                value=None,
                bar=BARS.get(name) if model == "ds-cnn" else None,
            )
            yield Task(SECTION, f"{model} {name}", [row], partial(_measure, bench, model, name), 25)


def _emulated() -> Iterator[str]:
    return (name for name, target in targets.known().items() if target.emulated)


def _measure(bench: Bench, model: str, name: str) -> list[Figure]:
    target = load(name)
    compiled = bench.compile(bench.model(model), target)
    count = bench.instructions(bench.program(compiled, target))
    manifest = compiled.manifest
    detail = f"arena {manifest.arena_bytes:,} B, workspace {manifest.workspace_bytes:,} B, weights {manifest.weights_bytes:,} B"
    return [Figure(count, detail)]
