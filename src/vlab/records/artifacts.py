"""What is compiled, and what comes of it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

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


class Kernel(Record):
    """One compiled kernel and whether the schedule rule applied."""

    name: str
    scheduled: bool
    reason: str = Field(default="", description="why it was left as it was; empty when scheduled")


class Toolchain(Record):
    """Everything besides model, target and options that the bytes of an artifact depend on."""

    tvm: str
    tvm_ffi: str
    llvm: str
    cc: str = Field(description="first line of the C compiler's --version")
    libc_sha256: Sha256 | None = Field(default=None, description="digest of the static C libraries that were linked in")
    compiling_sha256: Sha256 = Field(description="digest of VLab's own compile stage: schedule, code generator, harness")


class CompileOptions(Record):
    """What a requester may choose about compiling."""

    shapes: dict[str, tuple[int, ...]] = Field(default_factory=dict, description="shapes for inputs with free dimensions")


class Numerics(Record):
    """An artifact's outputs against the reference runtime, over all compared elements."""

    reference: str = Field(description="runtime and version, such as onnxruntime 1.32.0")
    inputs: int = Field(ge=1, description="number of compared inputs")
    max_abs_err: float = Field(ge=0)
    tolerance: float = Field(gt=0, description="largest max_abs_err allowed")
    rmse: float = Field(ge=0)
    cosine: float
    top1_agreement: float = Field(ge=0, le=1)


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
    numerics: Numerics = Field(description="the check against the reference runtime that let this artifact pass")
