"""What is compiled, and what comes of it."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from vlab.records.base import FileRef, Record, Sha256, TargetName


class ModelFormat(StrEnum):
    """Formats a model may come in; told by content, never by file name."""

    onnx = "onnx"
    tflite = "tflite"


class ModelRef(Record):
    """A model by digest."""

    name: str
    sha256: Sha256
    format: ModelFormat
    size_bytes: int = Field(gt=0)


class TensorSpec(Record):
    """One input or output of a model."""

    name: str
    shape: tuple[int, ...]
    dtype: str = Field(description="numpy name, such as float32")
    step: float | None = Field(
        default=None, gt=0, description="of a quantised output: the difference between neighbouring values, 1 where it is whole"
    )
    precision: str | None = Field(
        default=None, description="of an output: the least precise float type it was computed in, where that is not its own"
    )


class Kernel(Record):
    """One compiled kernel and whether the schedule rule made for its kind applied."""

    name: str
    scheduled: bool
    reason: str = Field(default="", description="why it fell back: to general tiles, to plain loops, or to float32")
    workspace_bytes: int = Field(default=0, ge=0, description="temporary memory, at most")


class Toolchain(Record):
    """Everything besides model, target and options that the bytes of an artifact depend on."""

    tvm: str
    tvm_ffi: str
    llvm: str
    cc: str = Field(description="first line of the C compiler's --version")
    libc_sha256: Sha256 | None = Field(default=None, description="digest of the static C libraries that were linked in")
    compiling_sha256: Sha256 = Field(description="digest of VLab's own compile stage: schedule, code generator, harness")


MOST_THREADS = 64
"""Of an executable: more than boards have cores."""


class CompileOptions(Record):
    """What a requester may choose about compiling."""

    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict, description="shapes for inputs with free dimensions")
    threads: int = Field(
        default=1, ge=1, le=MOST_THREADS, description="that share the loops of large kernels; the results are the same bits"
    )


class OutputNumerics(Record):
    """One output against the reference runtime."""

    name: str
    max_abs_err: float = Field(ge=0, description="of the sample that comes nearest to its tolerance")
    tolerance: float = Field(gt=0, description="largest error allowed in that sample")
    within: float = Field(ge=0, le=1, description="share of the elements within the tolerance")
    required: float = Field(ge=0.99, le=1, description="share that must be: 1, or less for quantised outputs")
    unsettled: float = Field(
        default=0.0, ge=0, le=1, description="share left out, because the reference itself moves when its input is rounded"
    )


class CheckCase(Record):
    """One kind of input that an artifact was checked on."""

    name: str = Field(description="such as `random, seed 1`, `zeros` or `large`")
    inputs: int = Field(ge=1)
    max_abs_err: float = Field(ge=0, description="of the output that comes nearest to its tolerance")
    tolerance: float = Field(gt=0)


class Numerics(Record):
    """An artifact's outputs against the reference runtime, over all compared elements."""

    reference: str = Field(description="runtime and version, such as onnxruntime 1.32.0")
    inputs: int = Field(ge=1, description="number of compared inputs, edge cases aside")
    max_abs_err: float = Field(ge=0, description="of the output and sample that come nearest to their tolerance")
    tolerance: float = Field(gt=0, description="allowed error of that output and sample")
    within: float = Field(default=1.0, ge=0, le=1, description="share of that output's elements within the tolerance")
    required: float = Field(default=1.0, ge=0.99, le=1, description="share that must be: 1, or less for quantised outputs")
    rmse: float = Field(ge=0)
    cosine: float
    top1_agreement: float = Field(ge=0, le=1)
    outputs: tuple[OutputNumerics, ...] = Field(default=(), description="each output by itself")
    cases: tuple[CheckCase, ...] = Field(
        default=(), description="of the compile stage's check: every kind of input, edge cases too"
    )

    @property
    def holds(self) -> bool:
        """Whether the figures are within what they themselves say is allowed."""
        return self.within >= self.required and (self.required < 1 or self.max_abs_err <= self.tolerance)


class MemorySection(Record):
    """A part of a microcontroller's memory, named after the image's section."""

    name: str
    size_bytes: int = Field(ge=0)


class MemoryRegion(Record):
    """One memory of a microcontroller, and what an image takes of it."""

    name: Literal["flash", "ram"]
    limit_bytes: int = Field(gt=0, description="what the board has")
    used_bytes: int = Field(ge=0, description="sum of the sections")
    sections: tuple[MemorySection, ...] = Field(description="in the order of their addresses; initialised data is in both")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.used_bytes != sum(section.size_bytes for section in self.sections):
            raise ValueError(f"used_bytes of {self.name} is {self.used_bytes}, expected the sum of its sections")
        return self


class ArtifactManifest(Record):
    """What compiling gave: written as manifest.json into the artifact's directory. Its digest is the artifact's digest."""

    format: Literal["vlab-artifact/v1"] = "vlab-artifact/v1"
    model: ModelRef
    target: TargetName
    target_sha256: Sha256 = Field(description="digest of the target's record")
    options: CompileOptions
    toolchain: Toolchain
    executable: str = Field(description="name of the file to run")
    files: tuple[FileRef, ...] = Field(description="every other file of the directory, sorted by name")
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kernels: tuple[Kernel, ...]
    arena_bytes: int = Field(ge=0)
    workspace_bytes: int = Field(ge=0)
    weights_bytes: int = Field(ge=0)
    artifact_bytes: int = Field(gt=0, description="size of the executable")
    memory: tuple[MemoryRegion, ...] = Field(default=(), description="flash and RAM of a microcontroller; empty with Linux")
    stack_used_bytes: int | None = Field(
        default=None, ge=0, description="deepest use of a microcontroller's stack over two inferences; its size is in `memory`"
    )
    notices: tuple[str, ...] = Field(default=(), description="what the requester should know about how the model was taken")
    numerics: Numerics = Field(description="the check against the reference runtime that let this artifact pass")
