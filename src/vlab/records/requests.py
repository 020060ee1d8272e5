"""What is asked for, handed to boards, and reported back."""

from typing import Literal

from pydantic import Field

from vlab.records.artifacts import CompileOptions, ModelRef
from vlab.records.base import AssetRef, Name, Record, Sha256, TargetName, UtcTime
from vlab.records.evidence import Anchor
from vlab.records.results import BoardInfo, Plan


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
    kernel_profile: bool = Field(default=False, description="whether the kernels are profiled too, after the measurement")

    @property
    def job_id(self) -> str:
        """Names the job; the same job has the same id wherever it is tried again."""
        return self.digest()[:32]


class JobOutcome(Record):
    """What an edge run reports of one job; bytes are in the artifact store."""

    job_id: str
    result: AssetRef | None = None
    benchmark_bundle: AssetRef | None = None
    kernel_profile: AssetRef | None = None
    kernel_profile_trouble: str = Field(default="", description="why there is none although one was asked for")
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
    kernel_profile: bool = Field(default=False, description="whether boards profile the kernels too, after the measurement")
    nonces: dict[Name, Sha256] = Field(description="one for each board, single-use")
    tracking_run_id: str
    requested_on: UtcTime


PENDING = "pending: "
"""How the trouble of a board begins where resuming the request helps."""


class BoardOutcome(Record):
    """What became of one board of a request."""

    board: BoardInfo
    compile_cached: bool = False
    evidence: AssetRef | None = None
    anchor: Anchor | None = None
    kernel_profile: AssetRef | None = Field(default=None, description="where an inference spends its time; not evidence")
    kernel_profile_trouble: str = Field(default="", description="why there is none although one was asked for")
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
