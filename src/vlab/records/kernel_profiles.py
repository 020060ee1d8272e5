"""Where an inference spends its time: kernel by kernel, in the words of the model."""

from typing import ClassVar, Literal

from pydantic import Field

from vlab.records.artifacts import ModelRef
from vlab.records.base import Record, Sha256, TargetName
from vlab.records.results import Environment


class KernelCall(Record):
    """One call of a kernel in every inference, and what it has to do."""

    kernel: str = Field(description="name in the manifest's kernels")
    threads: int = Field(default=1, ge=1, description="that share its loops")
    nodes: tuple[str, ...] = Field(description="the model's nodes that it computes, in the model's order")
    macs: int = Field(ge=0, description="multiply-accumulates that it performs, with what it pads its tiles with")
    weight_bytes: int = Field(ge=0, description="of constants that it reads, each once")
    input_bytes: int = Field(ge=0, description="of tensors that it reads, each once")
    output_bytes: int = Field(ge=0, description="of tensors that it writes")

    @property
    def moved_bytes(self) -> int:
        """Bytes that it moves at the least: weights, inputs and outputs."""
        return self.weight_bytes + self.input_bytes + self.output_bytes

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each byte moved."""
        return self.macs / self.moved_bytes if self.moved_bytes else 0.0


class Calls(Record):
    """The kernel calls of an inference in order."""

    FILE: ClassVar[str] = "calls.json"
    """In an artifact's directory."""
    format: Literal["vlab-calls/v1"] = "vlab-calls/v1"
    calls: tuple[KernelCall, ...]


class CallProfile(Record):
    """What one kernel call took."""

    call: KernelCall
    median_ns: float | None = Field(ge=0, description="over the repetitions; null under an emulator")
    min_ns: float | None = Field(ge=0, description="over the repetitions; null under an emulator")
    instructions: int | None = Field(ge=0, description="null where they cannot be counted")
    share: float | None = Field(ge=0, le=1, description="of the inference: of its time, under an emulator of its instructions")
    gmacs_per_s: float | None = Field(ge=0, description="10^9 multiply-accumulates a second at the median; hardware only")
    instructions_per_mac: float | None = Field(ge=0, description="null without multiply-accumulates")


class KernelProfile(Record):
    """An artifact's kernel calls on one machine. Taken in runs of their own, so no measurement contains any of it."""

    format: Literal["vlab-kernel-profile/v1"] = "vlab-kernel-profile/v1"
    model: ModelRef
    target: TargetName
    manifest_sha256: Sha256 = Field(description="digest of the artifact whose executable was run")
    emulated: bool
    environment: Environment
    threads: int = Field(default=1, ge=1)
    repetitions: int = Field(ge=0, description="timed inferences; 0 under an emulator")
    time_reason: str = Field(default="", description="why there are no times")
    instructions_reason: str = Field(default="", description="how instructions were counted, or why they were not")
    calls: tuple[CallProfile, ...] = Field(description="in the order of execution")
