"""What is to be measured, piece by piece: each piece's rows are kept on disk, so that an interrupted run goes on."""

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from benchmarks.bars import Row
from vlab import settings
from vlab.errors import EvidenceError, MissingToolError, VlabError
from vlab.journal import write_whole
from vlab.records import Record, Sha256, digest_file, utc_now

_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "onnx", "onnxruntime", "ai-edge-litert", "numpy")
_SOURCES = (
    "src/vlab/*.py",
    "src/vlab/compiling/**/*.py",
    "src/vlab/measuring/**/*.py",
    "src/vlab/records/*.py",
    "targets/**/*",
    "benchmarks/**/*.py",
    "benchmarks/**/*.c",
)


@dataclass(frozen=True)
class Figure:
    """What a row is completed with."""

    value: float | None
    detail: str = ""
    lower: float | None = None
    upper: float | None = None

    def complete(self, row: Row) -> Row:
        """The row with this figure."""
        return row.model_copy(update={name: getattr(self, name) for name in ("value", "detail", "lower", "upper")})


@dataclass(frozen=True)
class Task:
    """A piece of the benchmark."""

    section: str
    name: str
    """Unique within the section."""
    rows: Sequence[Row]
    """What it gives, without values."""
    measure: Callable[[], Sequence[Figure]]
    """A figure for each row."""
    seconds: float
    """About how long it takes; for the time that is left."""
    depends_on: Mapping[str, str] = field(default_factory=dict)
    """What the rows depend on beyond sources and packages, such as the machine's CPU."""


class Outcome(Record):
    """What came of a task."""

    rows: tuple[Row, ...]
    commit: str
    measured_on: str
    seconds: float


class _Key(Record):
    section: str
    name: str
    depends_on: dict[str, str]
    sources: Sha256
    packages: dict[str, str]


class Kept:
    """Outcomes on disk, by digest of everything they depend on."""

    def __init__(self, directory: Path, commit: str) -> None:
        self._directory = directory
        self._commit = commit
        self._sources = _sources_sha256(settings.checkout())
        self._packages = {name: importlib.metadata.version(name) for name in _PACKAGES}

    def path(self, task: Task) -> Path:
        """Where a task's outcome is or would be."""
        key = _Key(
            section=task.section,
            name=task.name,
            depends_on=dict(task.depends_on),
            sources=self._sources,
            packages=self._packages,
        )
        return self._directory / f"{key.digest()}.json"

    def find(self, task: Task) -> Outcome | None:
        """The outcome of an earlier run, if nothing it depends on has changed."""
        try:
            return Outcome.from_json(self.path(task).read_bytes())
        except (OSError, EvidenceError):
            return None

    def measure(self, task: Task) -> Outcome:
        """Carry the task out and keep what came of it; what could not be measured is not kept."""
        started = time.monotonic()
        try:
            figures = task.measure()
        except VlabError as error:
            return self._outcome(tuple(_without_value(row, error) for row in task.rows), started)
        outcome = self._outcome(tuple(figure.complete(row) for figure, row in zip(figures, task.rows, strict=True)), started)
        write_whole(self.path(task), outcome.to_json())
        return outcome

    def _outcome(self, rows: tuple[Row, ...], started: float) -> Outcome:
        return Outcome(rows=rows, commit=self._commit, measured_on=utc_now(), seconds=round(time.monotonic() - started, 1))


def _without_value(row: Row, error: VlabError) -> Row:
    """What is not on this machine could not be measured; whatever else went wrong is a failure of what was to be measured."""
    failed = not isinstance(error, MissingToolError)
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return row.model_copy(update={"failed": failed, "detail": f"{'failed' if failed else 'not measured'}: {reason}"})


def _sources_sha256(root: Path) -> str:
    """Digest over every file that a figure may depend on, by name and content."""
    digest = sha256()
    for path in sorted({path for pattern in _SOURCES for path in root.glob(pattern) if path.is_file()}):
        digest.update(f"{digest_file(path)}  {path.relative_to(root)}\n".encode())
    return digest.hexdigest()
