"""Compile a model for a target: the model's bytes in, a static executable that was checked against a reference runtime out.

    compiled = compile_model(Path("digits.onnx"), targets.load("riscv/rv64gc-linux"), cache=Path("cache"))
    compiled.manifest.kernels        # what was compiled, and whether the schedule applied
    pack(compiled.directory)         # the same bytes wherever the same thing was compiled

The way of a model: `models` tells what the file is, and `gathering` puts weights from other files into it; `building` looks
into the `cache` and otherwise starts a `worker` process. In there `outlining` and `limits` refuse what is too large,
`importing` reads the model into TVM's Relax, `lowering` and `schedule` turn it into kernels, while `lineage` remembers which
nodes of the model those come from and `workload` what they have to do; `generating` writes the C around them, and the
reference runtime says what the model computes for the inputs of `probing`. Back in the caller's process `linking` makes the
executable and `checking` compares it. TVM is only ever imported in the worker.
"""

from vlab.compiling.batch import Outcome, compile_all
from vlab.compiling.building import Compiled, compile_model
from vlab.compiling.gathering import gather
from vlab.compiling.limits import survey_model
from vlab.compiling.models import inspect_model
from vlab.compiling.packing import pack

__all__ = ["Compiled", "Outcome", "compile_all", "compile_model", "gather", "inspect_model", "pack", "survey_model"]
