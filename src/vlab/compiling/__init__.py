"""Compile a model for a target: the model's bytes in, a static executable that was checked against a reference runtime out.

    compiled = compile_model(Path("digits.onnx"), targets.load("riscv/rv64gc-linux"), cache=Path("cache"))
    compiled.manifest.kernels        # what was compiled, and whether the schedule applied
    pack(compiled.directory)         # the same bytes wherever the same thing was compiled

The way of a model: `reading` tells what the file is, puts weights from other files into it and refuses what is too large;
`building` looks into the `cache` and otherwise starts a `worker` process. In there `importing` reads the model into TVM's
Relax, `integer` and `kernels` put computations of our own in place of TVM's, and `lowering` and `schedule` turn all into
loops, while `lineage` remembers which nodes of the model those come from and `workload` what they have to do; `generating`
writes the C around them, and the reference runtime says what the model computes for the inputs of `probing`. Back in the
caller's process `linking` makes the executable and `checking` compares it. TVM is only ever imported in the worker.
"""

from vlab.compiling.batch import Outcome, compile_all
from vlab.compiling.building import Compiled, compile_model
from vlab.compiling.packing import pack
from vlab.compiling.reading.gathering import gather
from vlab.compiling.reading.limits import survey_model
from vlab.compiling.reading.models import inspect_model

__all__ = ["Compiled", "Outcome", "compile_all", "compile_model", "gather", "inspect_model", "pack", "survey_model"]
