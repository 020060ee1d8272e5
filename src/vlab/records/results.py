"""What is measured, where, and what came of it."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vlab.errors import EvidenceError
from vlab.records.artifacts import MOST_THREADS, ArtifactManifest, ModelRef, Numerics
from vlab.records.base import FileRef, Name, Record, Sha256, TargetName, UtcTime

LONGEST_NS = 3_600_000_000_000
"""Of each part of a plan, an hour: a plan comes over the network and holds a board."""


class Plan(Record):
    """What is measured and how; fixed before the run; docs/measuring.md explains each."""

    name: Literal["smoke", "standard"]
    threads: int = Field(default=1, ge=1, le=MOST_THREADS, description="of the executable; part of how it is compiled")
    warmup_min_count: int = Field(default=10, ge=1)
    warmup_min_ns: int = Field(default=1_000_000_000, ge=0)
    warmup_max_ns: int = Field(default=60_000_000_000, gt=0, le=LONGEST_NS)
    samples_min_count: int = Field(ge=1)
    samples_min_ns: int = Field(ge=0)
    samples_max_ns: int = Field(
        default=120_000_000_000, gt=0, le=LONGEST_NS, description="measuring ends here even when short of samples"
    )
    samples_max_count: int = Field(
        default=16_384, ge=1, le=100_000, description="where more inferences fit into samples_min_ns, only every k-th is timed"
    )
    confidence: float = Field(default=0.99, gt=0.5, lt=1)

    @classmethod
    def named(cls, name: str, *, threads: int = 1) -> Self:
        """The plan of a name: `smoke` supports p90, `standard` p99 (see docs/measuring.md).

        Raises:
            EvidenceError: no such plan.
        """
        if name == "smoke":
            return cls(
                name="smoke", threads=threads, warmup_min_ns=200_000_000, samples_min_count=64, samples_min_ns=1_000_000_000
            )
        if name == "standard":
            return cls(name="standard", threads=threads, samples_min_count=662, samples_min_ns=10_000_000_000)
        raise EvidenceError(f"plan {name!r} is unknown; expected one of: smoke, standard")


class Percentile(Record):
    """A latency percentile with its distribution-free interval; null where the sample cannot support it."""

    value: int | None
    lower: int | None
    upper: int | None
    confidence: float
    n: int = Field(ge=0)
    supported: bool
    needed: int = Field(ge=1, description="smallest sample that supports it")


class Latency(Record):
    """Statistics of the raw samples, all in nanoseconds, by the rules of docs/measuring.md."""

    n: int = Field(ge=1)
    mean_ns: float
    std_ns: float
    mad_ns: float
    min_ns: int
    max_ns: int
    p50_ns: Percentile
    p90_ns: Percentile
    p99_ns: Percentile
    outlier_count: int = Field(ge=0)


class Warmup(Record):
    """What came before the measured samples."""

    count: int = Field(ge=0)
    duration_ns: int = Field(ge=0)
    stable: bool


class Quality(StrEnum):
    """The verdict on a measurement."""

    valid = "valid"
    degraded = "degraded"
    invalid = "invalid"


class Measurement(Record):
    """One benchmark of one artifact on one board."""

    samples_ns: tuple[Annotated[int, Field(ge=0, lt=2**53)], ...] = Field(
        min_length=1, max_length=100_000, description="every measured latency in order, on the device's monotonic clock"
    )
    stride: int = Field(
        default=1, ge=1, description="one of every `stride` inferences was timed, fixed before the first sample"
    )
    latency: Latency
    warmup: Warmup
    first_inference_ns: int = Field(ge=0)
    load_ns: int = Field(ge=0, description="entry of the program to ready for the first inference")
    clock_resolution_ns: int = Field(ge=0)
    instructions_per_inference: int | None = Field(default=None, description="exact, from the emulator; null on hardware")
    instructions_reason: str = Field(default="", description="why there is no instruction count, or how it was taken")
    ram_peak_bytes: int | None
    ram_peak_reason: str = Field(default="", description="why ram_peak_bytes is null, or how it was taken")
    accuracy: float | None = Field(default=None, ge=0, le=1, description="top-1 over the whole data set, on the board")
    accuracy_inputs: int = Field(default=0, ge=0)
    numerics: Numerics | None = Field(default=None, description="the board's outputs against the reference runtime")
    outputs_sha256: Sha256 = Field(description="digest of the raw outputs over the whole input set")
    quality: Quality
    quality_reasons: tuple[str, ...] = Field(description="machine-readable, such as warmup_unstable")


class Environment(Record):
    """What the worker saw of the machine that ran the artifact."""

    machine: str
    os: str
    cpu: str
    emulator: str = Field(default="", description="emulator and version; empty on hardware")
    load_avg_start: float
    load_avg_end: float


class BoardInfo(Record):
    """A board as it is named in results."""

    name: Name
    partner: Name
    target: TargetName
    emulated: bool


class Board(Record):
    """A board as its worker reaches it."""

    info: BoardInfo
    transport: Literal["local", "qemu-user", "qemu-system"] = Field(
        description="local: the worker's own machine; qemu-user: its emulator of Linux programs; qemu-system: of whole boards"
    )

    @model_validator(mode="after")
    def _emulated_means_emulator(self) -> Self:
        if self.info.emulated != (self.transport != "local"):
            raise ValueError(f"transport {self.transport} and emulated={self.info.emulated} contradict each other")
        return self

    @property
    def name(self) -> str:
        """Name of the board."""
        return self.info.name

    @property
    def partner(self) -> str:
        """Who lends it."""
        return self.info.partner

    @property
    def target(self) -> str:
        """The kind of board."""
        return self.info.target


class Result(Record):
    """What a worker signs: result.json, the subject of the benchmark statement."""

    format: Literal["vlab-result/v1"] = "vlab-result/v1"
    request_id: Name
    nonce: Sha256
    board: BoardInfo
    environment: Environment
    model: ModelRef
    manifest: ArtifactManifest
    manifest_sha256: Sha256
    compile_bundle_sha256: Sha256
    dataset: FileRef
    plan: Plan
    plan_sha256: Sha256
    measurement: Measurement
    started_on: UtcTime
    finished_on: UtcTime
