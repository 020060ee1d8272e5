"""One model compiled by us and the same model in ONNX Runtime, as two programs that read the same inputs."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.versus import building
from vlab import compiling, datasets, reference
from vlab.compiling import Compiled
from vlab.measuring.running import Program
from vlab.targets import Target

INPUTS = "inputs.bin"
_SAMPLES = 4


@dataclass(frozen=True)
class Contest:
    """Both programs, in one directory with their inputs."""

    compiled: Compiled
    ours: Program
    theirs: Program


def prepare(model: Path, target: Target, *, library: Path, their_target: Target | None = None, scratch: Path) -> Contest:
    """Compile the model, build ONNX Runtime's program, and write random inputs, the same every time.

    Args:
        model: ONNX file.
        target: of our executable.
        library: ONNX Runtime for the target's machine.
        their_target: how ONNX Runtime's program is run, where an emulator needs more for it than for ours.
        scratch: holds the compile cache and a directory for each model and target.

    Raises:
        VlabError: the model cannot be compiled, or a tool is missing.
    """
    compiled = compiling.compile_model(model, target, cache=scratch / "cache")
    manifest = compiled.manifest
    work = scratch / "versus" / f"{model.stem}-{target.name.replace('/', '-')}"
    program = building.build(
        model,
        library=library,
        inputs=manifest.inputs,
        outputs=manifest.outputs,
        target=target,
        directory=work,
    )
    datasets.write_rows(reference.random_rows(manifest.inputs, _SAMPLES), work / INPUTS)
    ours = Program(compiled.directory / manifest.executable, target, work)
    return Contest(compiled, ours, Program(program, their_target or target, work))
