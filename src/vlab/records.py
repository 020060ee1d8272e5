"""The frozen values that pass between steps, machines and files.

A record is either valid or cannot be built. Times are integers in nanoseconds (`_ns`), sizes in bytes (`_bytes`), digests
lowercase hex SHA-256 of stored bytes. `to_json` gives the canonical bytes (RFC 8785): the same record, the same bytes.
"""

from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal, Self
from uuid import UUID

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from vlab.errors import EvidenceError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""Lowercase hex SHA-256."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name that is safe in paths, Prefect keys and identities."""

TargetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+/[a-z0-9_-]+$")]
"""Family and kind of board, as under `targets/`: `riscv/rv64gc-linux`."""

UtcTime = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
"""RFC 3339 in UTC, to the second."""


def utc_now() -> str:
    """The current time as `UtcTime`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def digest_file(path: Path) -> str:
    """Lowercase hex SHA-256 of a file's bytes."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def request_id_of(flow_run_id: UUID | str) -> str:
    """The request that a flow run opens when nobody named one."""
    return f"r-{UUID(str(flow_run_id)).hex[:12]}"


class Record(BaseModel):
    """A frozen value; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785). Law: `from_json(r.to_json()) == r`.

        Raises:
            EvidenceError: a number that canonical JSON does not know: not finite, or a whole one beyond 2**53.
        """
        try:
            return rfc8785.dumps(self.model_dump(mode="json"))
        except rfc8785.CanonicalizationError as error:
            raise EvidenceError(f"a {type(self).__name__} record holds what canonical JSON does not know: {error}") from error

    def digest(self) -> str:
        """SHA-256 of the canonical bytes."""
        return sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Parse strictly.

        Raises:
            EvidenceError: the text is not JSON or not such a record; names the first wrong field.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise EvidenceError(f"this is no {cls.__name__} record: {where}: {first['msg']}") from error

    @classmethod
    def from_canonical(cls, text: bytes | str) -> Self:
        """Parse what must be canonical: no byte of it is free, and every reader sees the same values.

        Raises:
            EvidenceError: not such a record, or in another form than `to_json` gives.
        """
        record = cls.from_json(text)
        if record.to_json() != (text.encode() if isinstance(text, str) else text):
            raise EvidenceError(f"a {cls.__name__} record is not in canonical form, so some byte of it is not what was written")
        return record


class FileRef(Record):
    """One file by content."""

    name: str = Field(description="relative POSIX path, no `..`")
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class AssetRef(Record):
    """Bytes in the artifact store."""

    uri: str = Field(description="where the store keeps them")
    file: FileRef


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
    libc_sha256: Sha256 | None = Field(default=None, description="digest of the static C library that was linked in")
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


LONGEST_NS = 3_600_000_000_000
"""Of each part of a plan, an hour: a plan comes over the network and holds a board."""


class Plan(Record):
    """What is measured and how; fixed before the run; docs/measuring.md explains the profiles."""

    profile: Literal["smoke", "standard"]
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
    def named(cls, profile: str) -> Self:
        """The plan of a profile: `smoke` supports p90, `standard` p99 (see docs/measuring.md).

        Raises:
            EvidenceError: no such profile.
        """
        if profile == "smoke":
            return cls(profile="smoke", warmup_min_ns=200_000_000, samples_min_count=64, samples_min_ns=1_000_000_000)
        if profile == "standard":
            return cls(profile="standard", samples_min_count=662, samples_min_ns=10_000_000_000)
        raise EvidenceError(f"plan {profile!r} is unknown; expected one of: smoke, standard")


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
    transport: Literal["local", "qemu-user"] = Field(description="local: the worker's own machine; qemu-user: its emulator")

    @model_validator(mode="after")
    def _emulated_means_emulator(self) -> Self:
        if self.info.emulated != (self.transport == "qemu-user"):
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


class Job(Record):
    """One thing for a board to do, as the lab hands it over."""

    request_id: Name
    nonce: Sha256 = Field(description="single-use; binds the result to the request")
    model: ModelRef
    artifact: AssetRef = Field(description="the packed artifact directory")
    manifest_sha256: Sha256
    compile_bundle: AssetRef
    dataset: AssetRef
    reference: AssetRef = Field(description="outputs of the reference runtime over the data set, .npz with key `y`")
    plan: Plan

    @property
    def job_id(self) -> str:
        """Names the job; the same job has the same id wherever it is tried again."""
        return self.digest()[:32]


class JobOutcome(Record):
    """What an edge run reports of one job; bytes are in the artifact store."""

    job_id: str
    result: AssetRef | None = None
    benchmark_bundle: AssetRef | None = None
    pending: str = Field(default="", description="the step that waits for a service, with the reason; the measurement is kept")
    error: str = Field(default="", description="why there is no result")


class Request(Record):
    """What a requester asked for, as the lab wrote it down before anything ran."""

    format: Literal["vlab-request/v1"] = "vlab-request/v1"
    request_id: Name
    model: ModelRef
    model_asset: AssetRef
    targets: tuple[TargetName, ...] = Field(min_length=1)
    dataset: AssetRef
    reference: AssetRef
    plan: Plan
    options: CompileOptions
    nonces: dict[Name, Sha256] = Field(description="one for each board, single-use")
    tracking_run_id: str
    requested_on: UtcTime


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


class Identity(Record):
    """Who signs, as it stands in the certificate."""

    san: str = Field(description="subject alternative name, a URI")
    issuer: str = Field(description="OIDC issuer that vouches for it")


class LogHead(Record):
    """A ledger's size and root."""

    origin: str
    size: int = Field(ge=1)
    root: Sha256


class Inclusion(Record):
    """A leaf's place in the ledger of a given head (RFC 9162 section 2.1.3)."""

    index: int = Field(ge=0)
    hashes: tuple[Sha256, ...]


class Anchor(Record):
    """A ledger head accepted by the contract, final and re-read."""

    chain_id: int
    contract: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
    tx_hash: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
    block_number: int = Field(ge=0)
    block_hash: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
    head: LogHead


PENDING = "pending: "
"""How the trouble of a board begins where resuming the request helps."""


class BoardOutcome(Record):
    """What became of one board of a request."""

    board: BoardInfo
    compile_cached: bool = False
    evidence: AssetRef | None = None
    anchor: Anchor | None = None
    trouble: str = Field(default="", description="why there is no evidence, or what is pending")


class Report(Record):
    """What became of a request."""

    format: Literal["vlab-report/v1"] = "vlab-report/v1"
    request_id: Name
    tracking_run_id: str
    boards: tuple[BoardOutcome, ...]

    @property
    def complete(self) -> bool:
        """Whether every board ended in evidence."""
        return all(board.evidence is not None for board in self.boards)


class Evidence(Record):
    """One file with everything needed to verify one result.

    Texts are kept exactly as they were signed; the file itself is canonical, so no byte of it is free.
    """

    format: Literal["vlab-evidence/v1"] = "vlab-evidence/v1"
    result: str = Field(description="result.json, exact text")
    compile_bundle: str = Field(description="Sigstore bundle of the compile statement, exact text")
    benchmark_bundle: str = Field(description="Sigstore bundle of the benchmark statement, exact text")
    compile_inclusion: Inclusion
    benchmark_inclusion: Inclusion
    anchor: Anchor


class ChainPin(Record):
    """The chain and contract that a verifier trusts, and where to ask."""

    rpc_url: str
    chain_id: int
    contract: Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]
    code_sha256: Sha256 = Field(description="SHA-256 of the contract's runtime code")


class LabProfile(Record):
    """What a verifier pins about a lab, and where its services are: lab.json."""

    format: Literal["vlab-profile/v1"] = "vlab-profile/v1"
    name: Name
    trust: Literal["embedded", "production"] = Field(description="embedded: one operator holds every key; development only")
    trust_config: str = Field(description="Sigstore client trust configuration, path beside this file")
    lab_identity: Identity
    worker_identities: dict[Name, Identity] = Field(description="one for each partner")
    ledger_origin: str
    chain: ChainPin
    prefect_api_url: str
    tracking_url: str
