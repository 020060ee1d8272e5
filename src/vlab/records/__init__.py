"""The frozen values that pass between steps, machines and files.

A record is either valid or cannot be built. Times are integers in nanoseconds (`_ns`), sizes in bytes (`_bytes`), digests
lowercase hex SHA-256 of stored bytes. `to_json` gives the canonical bytes (RFC 8785): the same record, the same bytes.

Modules: `base` (what every record is made of), `artifacts` (compiled), `results` (measured), `profiles` (kernel by kernel),
`evidence` (verified and pinned), `requests` (asked for and reported). Import the names from here.
"""

from vlab.records.artifacts import (
    MOST_THREADS,
    ArtifactManifest,
    CheckCase,
    CompileOptions,
    Kernel,
    MemoryRegion,
    MemorySection,
    ModelFormat,
    ModelRef,
    Numerics,
    OutputNumerics,
    TensorSpec,
    Toolchain,
)
from vlab.records.base import AssetRef, FileRef, Name, Record, Sha256, TargetName, UtcTime, digest_file, request_id_of, utc_now
from vlab.records.evidence import Anchor, ChainPin, Evidence, Identity, Inclusion, LabProfile, LogHead
from vlab.records.profiles import CallProfile, Calls, KernelCall, Profile
from vlab.records.requests import PENDING, BoardOutcome, Job, JobOutcome, Report, Request
from vlab.records.results import (
    LONGEST_NS,
    Board,
    BoardInfo,
    Environment,
    Latency,
    Measurement,
    Percentile,
    Plan,
    Quality,
    Result,
    Warmup,
)

__all__ = [
    "LONGEST_NS",
    "MOST_THREADS",
    "PENDING",
    "Anchor",
    "ArtifactManifest",
    "AssetRef",
    "Board",
    "BoardInfo",
    "BoardOutcome",
    "CallProfile",
    "Calls",
    "ChainPin",
    "CheckCase",
    "CompileOptions",
    "Environment",
    "Evidence",
    "FileRef",
    "Identity",
    "Inclusion",
    "Job",
    "JobOutcome",
    "Kernel",
    "KernelCall",
    "LabProfile",
    "Latency",
    "LogHead",
    "Measurement",
    "MemoryRegion",
    "MemorySection",
    "ModelFormat",
    "ModelRef",
    "Name",
    "Numerics",
    "OutputNumerics",
    "Percentile",
    "Plan",
    "Profile",
    "Quality",
    "Record",
    "Report",
    "Request",
    "Result",
    "Sha256",
    "TargetName",
    "TensorSpec",
    "Toolchain",
    "UtcTime",
    "Warmup",
    "digest_file",
    "request_id_of",
    "utc_now",
]
