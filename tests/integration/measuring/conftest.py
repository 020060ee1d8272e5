"""A tiny handwritten model around the real harness, so that every pass runs in milliseconds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.boards import ready
from tests.handwritten import ONE_CALL
from tests.samples import MANIFEST
from vlab import processes
from vlab.compiling.toolchain import Harness
from vlab.records import ArtifactManifest, FileRef, Plan, TensorSpec, digest_file
from vlab.targets import Target

# Two inputs, float32[4] and float32[2]; two outputs, float32[3] and float32[2]. Options change how it misbehaves.
MODEL = """\
#include "aot.h"
#ifndef TOUCH_MIB
#define TOUCH_MIB 0
#endif
#ifndef SPIN
#define SPIN 0
#endif
static uint8_t arena[(TOUCH_MIB << 20) + 1];
static float scores[3], sums[2];
static volatile long calls, sink;
const uint32_t aot_input_count = 2, aot_output_count = 2, aot_call_count = 1;
const uint64_t aot_input_bytes[] = {16, 8}, aot_output_bytes[] = {12, 8};
int aot_run(void *const *inputs, void **outputs) {
  const float *a = inputs[0], *b = inputs[1];
  calls++;
  for (int j = 0; j < 3; j++) {
    scores[j] = 0;
    for (int i = 0; i < 4; i++) scores[j] += a[i] * (float)((i + j) % 3);
  }
  sums[0] = b[0] + b[1];
  sums[1] = b[0] - b[1];
  for (long i = 0; i < (long)TOUCH_MIB << 20; i += 4096) arena[i]++;
  for (long i = 0; i < SPIN; i++) sink++;
#ifdef CHANGING
  scores[0] += (float)calls;
#endif
#ifdef UNEVEN
  for (long i = 0; i < calls % 5 * 10; i++) sink++;
#endif
#ifdef ILLEGAL
  __builtin_trap();
#endif
#ifdef HANGING
  for (;;) sink++;
#endif
  outputs[0] = scores;
  outputs[1] = sums;
  return a[0] == 666.0f ? 7 : 0;
}
"""

QUICK = Plan(
    name="smoke",
    warmup_min_count=10,
    warmup_min_ns=1_000_000,
    samples_min_count=64,
    samples_min_ns=5_000_000,
    samples_max_ns=20_000_000_000,
    samples_max_count=1000,
)
"""A plan that is over in milliseconds."""


@dataclass(frozen=True)
class Toy:
    """The toy model, linked for a target."""

    directory: Path
    manifest: ArtifactManifest
    target: Target

    @property
    def executable(self) -> Path:
        """The program."""
        return self.directory / "model"

    def run(self, *args: str | Path) -> processes.Finished:
        """Run the program with these arguments."""
        return processes.run_limited(self.target.command(self.executable, args), timeout_s=60, cwd=self.directory)


def rows(count: int) -> np.ndarray:
    """That many rows of inputs for the toy."""
    table = np.zeros(count, dtype=[("a", np.float32, (4,)), ("b", np.float32, (2,))])
    table["a"] = np.arange(count * 4, dtype=np.float32).reshape(count, 4) % 11
    table["b"] = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    return table


def expected_outputs(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the toy must compute for these rows."""
    weights = np.array([[(i + j) % 3 for j in range(3)] for i in range(4)], dtype=np.float32)
    left, right = table["b"].T
    return table["a"] @ weights, np.stack([left + right, left - right], axis=1)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Toy]:
    """Links the toy for a target, with options such as `SPIN=100`."""

    def link(name: str = "host/x86_64", *options: str) -> Toy:
        target = ready(name)
        directory = tmp_path / "artifact"
        directory.mkdir()
        (directory / "toy.c").write_text(MODEL + ONE_CALL)
        harness = Harness.of(target)
        sources = [harness.directory / source for source in harness.sources]
        warnings = ["-Wall", "-Wextra", "-Werror"]
        argv = [target.compiler.find(), *target.compiler.flags, *warnings, *(f"-D{option}" for option in options)]
        done = processes.run_limited(
            [*argv, f"-I{harness.directory}", "-o", "model", *sources, "toy.c"], timeout_s=60, cwd=directory
        )
        assert 0 == done.returncode, done.stderr
        executable = directory / "model"
        file = FileRef(name="model", sha256=digest_file(executable), size_bytes=executable.stat().st_size)
        manifest = MANIFEST.model_copy(
            update={
                "target": name,
                "target_sha256": target.digest(),
                "files": (file,),
                "inputs": (
                    TensorSpec(name="a", shape=(1, 4), dtype="float32"),
                    TensorSpec(name="b", shape=(1, 2), dtype="float32"),
                ),
                "outputs": (
                    TensorSpec(name="s", shape=(1, 3), dtype="float32"),
                    TensorSpec(name="t", shape=(1, 2), dtype="float32"),
                ),
            }
        )
        return Toy(directory, manifest, target)

    return link
