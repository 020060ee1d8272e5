"""What a compile and its worker process tell each other: two JSON files in a directory of their own."""

from pydantic import Field

from vlab.records import CompileOptions, Failure, Kernel, ModelRef, Record, TensorSpec
from vlab.targets import Target

REQUEST = "request.json"
RESPONSE = "response.json"

KERNELS = "kernels.o"
SOURCE = "model.c"
ASSEMBLY = "weights.S"
WEIGHTS = "weights.bin"
PROBE = "probe.bin"
"""Inputs of the reference check, raw: for each sample all inputs."""
REFERENCE = "reference.bin"
"""Outputs of the reference runtime for the probe, likewise."""
MOVED = "moved-{}.bin"
"""The same for inputs that were rounded, once for each seed, and of the runtime's own other way of computing."""

LOG = "worker.log"
"""What the worker and the libraries in it printed, with the stack traces that nobody is shown."""

STAGE = "stage: "
"""Begins the lines of the worker's standard error that say what it is about to do."""


class Order(Record):
    """What the worker is to compile."""

    path: str
    model: ModelRef
    target: Target
    options: CompileOptions
    probe_inputs: str | None = Field(description="file with real inputs, .npz")


class ProbeCase(Record):
    """One kind of input in the probe."""

    name: str
    inputs: int = Field(ge=1)
    edge: bool


class Product(Record):
    """What the worker wrote, beside the files."""

    notices: tuple[str, ...] = Field(description="what the requester should know about how the model was taken")
    llvm: str
    reference: str = Field(description="reference runtime and version")
    cases: tuple[ProbeCase, ...] = Field(min_length=1, description="what the probe holds, in order")
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: tuple[Kernel, ...]
    threads: int = Field(ge=1, description="that the program has to have")
    arena_bytes: int
    workspace_bytes: int
    weights_bytes: int


class Response(Record):
    """The worker's answer: one of the two."""

    product: Product | None = None
    failure: Failure | None = None
