"""The firmware harness, around a handwritten model that misbehaves when it is told to."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.boards import ready
from tests.handwritten import ONE_CALL
from vlab import processes, targets
from vlab.compiling import exchange, linking
from vlab.compiling.exchange import ProbeCase, Product
from vlab.compiling.toolchain import Harness
from vlab.records import Calls, Kernel, KernelCall, TensorSpec
from vlab.targets import Target

FIRMWARE = sorted(name for name, target in targets.known().items() if target.firmware)

# Two inputs, float32[3] and int8[5]; one output, float32[3]: twice the first, plus the sum of the second. The first value can
# ask for something else.
MODEL = """\
#include "aot.h"
static float arena[3];
static volatile int initialised = 42, depth;
const uint32_t aot_input_count = 2, aot_output_count = 1, aot_call_count = 1;
const uint64_t aot_input_bytes[] = {12, 5}, aot_output_bytes[] = {12};
static __attribute__((noinline)) int fall(int levels) {
  volatile char frame[256];
  frame[0] = (char)levels;
  depth = levels;
  return levels ? fall(levels - 1) + frame[0] : 0;
}
static __attribute__((noinline)) int leap(unsigned bytes) {
  volatile char *frame = __builtin_alloca(bytes);
  frame[0] = 1;
  return frame[0];
}
int aot_run(void *const *inputs, void **outputs) {
  const float *x = inputs[0];
  const signed char *y = inputs[1];
  if (initialised != 42) return 99;
#ifdef __riscv /* where a C library may keep errno */
  static __thread volatile int of_thread;
  if (of_thread) return 98;
  of_thread = 1;
  if (!of_thread) return 97;
  of_thread = 0;
#endif
  if (x[0] == 1000) return 7;
  if (x[0] == 2000) fall(1000);
  if (x[0] == 3000) leap(300000);
  if (x[0] == 4000) __builtin_trap();
  if (x[0] == 5000) fall(8);
  for (int i = 0; i < 3; i++) arena[i] = 2 * x[i] + (float)(y[0] + y[1] + y[2] + y[3] + y[4]);
  outputs[0] = arena;
  return 0;
}
"""

PRODUCT = Product(
    notices=(),
    llvm="",
    reference="none",
    cases=(ProbeCase(name="none", inputs=1, edge=False),),
    inputs=(TensorSpec(name="x", shape=(3,), dtype="float32"), TensorSpec(name="y", shape=(5,), dtype="int8")),
    outputs=(TensorSpec(name="z", shape=(3,), dtype="float32"),),
    kernels=(Kernel(name="k", scheduled=True),),
    threads=1,
    arena_bytes=12,
    workspace_bytes=0,
    weights_bytes=4,
)
ROW = np.dtype([("x", "<f4", 3), ("y", "i1", 5)])

Run = Callable[..., processes.Finished]


def rows(*first: float) -> np.ndarray:
    """One sample for each value."""
    table = np.zeros(len(first), ROW)
    table["x"] = np.array(first)[:, None] + np.arange(3)
    table["y"] = np.arange(5)
    return table


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Target, Path]]:
    """The image of a target, linked once, in a directory of its own."""
    images: dict[str, Path] = {}

    def image(name: str) -> tuple[Target, Path]:
        target = ready(name)
        if name not in images:
            directory = tmp_path_factory.mktemp("image")
            (directory / exchange.SOURCE).write_text(MODEL + ONE_CALL)
            (directory / exchange.ASSEMBLY).write_text('.section .weights,"a"\n.byte 1, 2, 3, 4\n')
            call = KernelCall(kernel="k", nodes=("n",), macs=0, weight_bytes=4, input_bytes=17, output_bytes=12)
            (directory / Calls.FILE).write_bytes(Calls(calls=(call,)).to_json())
            empty = [target.compiler.find(), *target.compiler.flags, "-c", "-x", "c", "/dev/null", "-o", exchange.KERNELS]
            assert 0 == processes.run_limited(empty, timeout_s=30, cwd=directory).returncode
            strict = target.compiler.model_copy(update={"flags": (*target.compiler.flags, "-Wall", "-Wextra", "-Werror")})
            target = target.model_copy(update={"compiler": strict})
            images[name] = linking.link(directory, target, Harness.of(target), PRODUCT, timeout_s=60).executable
        return target, images[name]

    return image


@pytest.fixture
def run(boot: Callable[[str], tuple[Target, Path]], tmp_path: Path) -> Run:
    """Runs a target's image with these arguments, on these rows as `in.bin`."""

    def start(name: str, table: np.ndarray, *args: str) -> processes.Finished:
        target, image = boot(name)
        table.tofile(tmp_path / "in.bin")
        return processes.run_limited(target.command(image, args), timeout_s=60, cwd=tmp_path)

    return start


@pytest.mark.parametrize("name", FIRMWARE)
def test_every_sample_is_inferred(run: Run, tmp_path: Path, name: str):
    """Tensors of several types come from the file as they are, and the outputs go into one."""
    table = rows(1, 5, -3)

    done = run(name, table, "infer", "in.bin", "out.bin")

    assert (0, b"", "") == (done.returncode, done.stdout, done.stderr)
    np.testing.assert_array_equal(2 * table["x"] + 10, np.fromfile(tmp_path / "out.bin", "<f4").reshape(3, 3))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1000, "kernel call failed: 7"),
        (2000, "stack overflow: its size in bytes is 8192"),
        (3000, "stack overflow: its size in bytes is 8192"),
        (4000, "is the address of an instruction that trapped"),
    ],
    ids=["failed", "overflow", "leap", "trap"],
)
@pytest.mark.parametrize("name", FIRMWARE)
def test_what_goes_wrong_is_told(run: Run, name: str, value: int, told: str):
    """A kernel that fails, a stack that overflows step by step or far beyond its end, a trap: one line and status 2."""
    done = run(name, rows(1, value), "infer", "in.bin", "out.bin")

    assert 2 == done.returncode
    assert told in done.stderr
    assert 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["infer", "in.bin"], "expected one of: infer INPUTS OUTPUTS"),
        ([], "expected one of: infer INPUTS OUTPUTS"),
        (["infer", "nothing.bin", "out.bin"], "cannot read nothing.bin"),
        (["infer", "in.bin", "no/where/out.bin"], "cannot write no/where/out.bin"),
        (["count", "in.bin", "-1"], "N is not a whole number: -1"),
        (["count", "in.bin", "99999999999999999999"], "N is not a whole number"),
        (["profile", "in.bin", "r.bin", "1", "cycles"], "COUNTER is cycles, expected ns, instructions or none"),
        (["time", "in.bin", "s.bin", "1", "1", "1", "5", "1", "1", "2"], "MAX_COUNT is below MIN_COUNT"),
    ],
)
def test_wrong_arguments_are_told(run: Run, args: list[str], told: str):
    """Every refusal names what was given."""
    done = run("arm/cortex-m4", rows(1), *args)

    assert 2 == done.returncode
    assert told in done.stderr


def test_half_a_sample_is_refused(run: Run):
    """Inputs hold whole samples."""
    done = run("riscv/rv32imac", rows(1, 2).view(np.uint8)[:30], "infer", "in.bin", "out.bin")

    assert (2, "model: in.bin does not hold whole samples of this size in bytes: 17\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize("name", ["arm/cortex-m3", "riscv/rv64"])
def test_the_depth_of_the_stack_is_seen(run: Run, name: str):
    """Calls that need some 2300 bytes more show as such in what `memory` says."""
    depths = [json.loads(run(name, rows(value), "memory", "in.bin").stdout)["stack_bytes"] for value in (1, 5000)]

    assert 2000 < depths[1] - depths[0] < 4000
