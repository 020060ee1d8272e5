"""What tests do with artifacts, and the models they compile."""

import os
from collections.abc import Sequence
from pathlib import Path

from vlab import processes, settings
from vlab.compiling import Compiled
from vlab.datasets import Array, read_rows, write_rows
from vlab.records import Calls, KernelCall
from vlab.targets import Target

DIGITS = settings.checkout() / "examples" / "digits" / "digits.onnx"
DIGITS_TEST = DIGITS.with_name("digits-test.npz")
TRAINED = Path(os.environ.get("VLAB_SHARED") or settings.checkout().parent / "shared") / "models"
"""Trained MLPerf Tiny models, where this machine has them."""


def infer(compiled: Compiled, target: Target, rows: Sequence[Array], work: Path) -> list[Array]:
    """Outputs of an artifact for rows of each input, natively or under the target's emulator."""
    write_rows(rows, work / "in.bin")
    command = target.command(compiled.directory / compiled.manifest.executable, ["infer", "in.bin", "out.bin"])
    done = processes.run_limited(command, timeout_s=60, cwd=work)
    assert 0 == done.returncode, done.stderr
    return read_rows(work / "out.bin", compiled.manifest.outputs, len(rows[0]))


def calls_of(compiled: Compiled) -> tuple[KernelCall, ...]:
    """The kernel calls of an artifact."""
    return Calls.from_json((compiled.directory / Calls.FILE).read_bytes()).calls
