"""What all sections share: where things are, on what they run, and how thoroughly."""

import os
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks import models
from vlab import compiling, datasets, reference, targets
from vlab.compiling import Compiled
from vlab.errors import MeasureError, MissingToolError, TargetError
from vlab.measuring import counting
from vlab.measuring.running import Program
from vlab.targets import Target

INPUTS = "inputs.bin"
_LOG_LIMIT_S = 600.0


@dataclass(frozen=True)
class Bench:
    """One run of the benchmark."""

    scratch: Path
    """For models, compile cache and programs; absolute."""
    trained: Path
    """Where trained models lie, if there are any."""
    core: int
    """That times are measured on."""
    quick: bool

    @cached_property
    def host(self) -> Target:
        """The target that fits this machine best: of those that run here, the one with the widest vectors.

        Raises:
            TargetError: there is none.
        """
        fitting = self.hosts
        if not fitting:
            raise TargetError(f"no target runs natively on this {platform.machine()}; see docs/targets.md for how to add one")
        return fitting[0]

    @cached_property
    def hosts(self) -> list[Target]:
        """Every target that runs natively on this machine, the best first."""
        native = [target for target in targets.known().values() if target.native]
        return sorted(native, key=lambda target: (-target.lanes, -target.accumulators, target.name))

    def model(self, name: str) -> Path:
        """A generated model's file, or a trained model's by its file name.

        Raises:
            MissingToolError: the trained model is not there.
        """
        if name in models.NAMES:
            return models.write(name, self.scratch / "models")
        path = self.trained / name
        if not path.is_file():
            raise MissingToolError(f"{name} is not in {self.trained}; point --trained to the tiny suite's trained models")
        return path

    def compile(self, model: Path, target: Target) -> Compiled:
        """Compile, or take what an earlier run compiled."""
        return compiling.compile_model(model, target, cache=self.scratch / "cache", timeout_s=1800)

    def program(self, compiled: Compiled, target: Target) -> Program:
        """The executable in a directory with random inputs, the same every time."""
        work = self.scratch / "work" / compiled.manifest_sha256[:24]
        work.mkdir(parents=True, exist_ok=True)
        datasets.write_rows(reference.random_rows(compiled.manifest.inputs, 4), work / INPUTS)
        return Program((compiled.directory / compiled.manifest.executable).absolute(), target, work)

    def instructions(self, program: Program) -> int:
        """Exact guest instructions of one inference.

        Raises:
            MeasureError: they could not be counted.
            MissingToolError: the emulator is missing.
        """
        emulator = program.target.emulator
        if emulator is None or not program.target.emulated:
            raise MeasureError(f"{program.target.name} runs natively here, and instructions are counted under emulators only")
        counted = counting.count(program, INPUTS, emulator, self.plugins, log_limit_s=_LOG_LIMIT_S)
        if counted.per_inference is None:
            raise MeasureError(f"instructions could not be counted: {counted.how}")
        return counted.per_inference

    @property
    def plugins(self) -> Path:
        """Directory of built counting plugins."""
        return self.scratch / "plugins"


def default_core() -> int:
    """The last core this process may use: the first serves most interrupts."""
    return max(os.sched_getaffinity(0))


def load(name: str) -> Target:
    """A target whose tools are installed.

    Raises:
        TargetError: it is unknown.
        MissingToolError: a tool is missing; names the command that installs it.
    """
    target = targets.load(name)
    for tool in target.tools:
        tool.find()
    return target
