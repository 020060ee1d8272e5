"""Statements: what VLab claims about an artifact and about a measurement, as in-toto Statement v1 (pure).

A statement is built once as canonical JSON (RFC 8785) and from then on only its bytes count: they are signed, logged and
stored, and never serialised again. Both builders are deterministic, so a verifier does not interpret a predicate: it builds
the statement again from the bytes in hand (manifest.json, result.json) and compares field by field.

    payload = compile_statement(manifest, sha256, started_on=..., finished_on=..., invocation_id=...)
    statement = read_statement(payload, SLSA_PROVENANCE)
    check_compile_statement(statement, manifest, sha256)

The formats are described in docs/format.md. Type URIs are never changed; a new meaning gets a new version.
"""

import json
import math
import re
from decimal import Decimal
from hashlib import sha256
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import quote

import rfc8785
from pydantic import StringConstraints

from vlab.errors import EvidenceError
from vlab.records import ArtifactManifest, Percentile, Record, Result, Sha256

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""DSSE payload type of every statement."""
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
SLSA_PROVENANCE: Final = "https://slsa.dev/provenance/v1"
"""Predicate type of a compile statement."""

DOMAIN: Final = "https://vlab.daiedge.eu"
EDGE_BENCHMARK: Final = f"{DOMAIN}/attestation/edge-benchmark/v0.1"
"""Predicate type of a benchmark statement."""
COMPILE_BUILD_TYPE: Final = f"{DOMAIN}/buildtypes/tvm-compile/v1"
COMPILE_BUILDER: Final = f"{DOMAIN}/builders/lab/v1"

MANIFEST_NAME: Final = "manifest.json"
RESULT_NAME: Final = "result.json"
SAMPLE_ENCODING: Final = "uint64-big-endian-ns"
"""How one latency becomes a leaf of the samples tree: 8 bytes, big endian, nanoseconds."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STATEMENT_FIELDS = frozenset({"_type", "subject", "predicateType", "predicate"})
_SUBJECT_FIELDS = frozenset({"name", "digest"})


class Subject(Record):
    """What a statement is about, by content."""

    name: Annotated[str, StringConstraints(min_length=1)]
    sha256: Sha256


class Statement(Record):
    """A statement as read from its exact bytes."""

    predicate_type: str
    subjects: tuple[Subject, ...]
    predicate: dict[str, Any]

    def subject(self, name: str) -> str:
        """The digest of the subject of that name.

        Raises:
            EvidenceError: the statement has no such subject.
        """
        for subject in self.subjects:
            if subject.name == name:
                return subject.sha256
        names = ", ".join(subject.name for subject in self.subjects)
        raise EvidenceError(f"the statement has no subject {name!r}, only: {names}")


def compile_statement(
    manifest: ArtifactManifest, manifest_sha256: str, *, started_on: str, finished_on: str, invocation_id: str
) -> bytes:
    """SLSA provenance v1 for one artifact; subjects are manifest.json and every file of the artifact.

    Args:
        manifest: what compiling gave.
        manifest_sha256: digest of the stored bytes of manifest.json.
        started_on: RFC 3339, UTC.
        finished_on: RFC 3339, UTC.
        invocation_id: the run that compiled, such as `prefect:flow-run/<uuid>`.

    Source: https://slsa.dev/spec/v1.0/provenance.
    """
    tools = manifest.toolchain
    predicate = {
        "buildDefinition": {
            "buildType": COMPILE_BUILD_TYPE,
            "externalParameters": {
                "model": {"name": manifest.model.name, "digest": {"sha256": manifest.model.sha256}},
                "target": manifest.target,
                "options": manifest.options.model_dump(mode="json"),
            },
            "internalParameters": {},
            "resolvedDependencies": [
                {"name": "model", "digest": {"sha256": manifest.model.sha256}},
                {"name": "target", "digest": {"sha256": manifest.target_sha256}},
                {"name": "compiling", "digest": {"sha256": tools.compiling_sha256}},
                _package("tvm", f"pkg:pypi/apache-tvm@{quote(tools.tvm, safe='')}", tools.tvm),
                _package("tvm-ffi", f"pkg:pypi/apache-tvm-ffi@{quote(tools.tvm_ffi, safe='')}", tools.tvm_ffi),
                _package("llvm", f"pkg:generic/llvm@{quote(tools.llvm, safe='')}", tools.llvm),
                _package("cc", "pkg:generic/cc", tools.cc),
            ],
        },
        "runDetails": {
            "builder": {"id": COMPILE_BUILDER},
            "metadata": {"invocationId": invocation_id, "startedOn": started_on, "finishedOn": finished_on},
        },
    }
    subjects = [(MANIFEST_NAME, manifest_sha256), *((file.name, file.sha256) for file in manifest.files)]
    return _statement(SLSA_PROVENANCE, subjects, predicate)


def benchmark_statement(result: Result, result_bytes: bytes, samples_root: str) -> bytes:
    """The numbers of one measurement, bound to plan, request, board, artifact, data set and compile statement.

    Args:
        result: the record.
        result_bytes: the stored bytes of result.json, from which `result` was read or into which it was written.
        samples_root: RFC 6962 root, lowercase hex, over the latencies in order, each leaf encoded as `SAMPLE_ENCODING`.

    Raises:
        EvidenceError: the bytes are not this result, or the root is not a digest.
    """
    if not _SHA256.fullmatch(samples_root):
        raise EvidenceError(f"samples root is {samples_root!r}, expected 64 lowercase hexadecimal characters")
    if Result.from_json(result_bytes) != result:
        raise EvidenceError("the result record is not what its bytes say; hand over the bytes of this very result.json")
    measured, plan, tools = result.measurement, result.plan, result.manifest.toolchain
    predicate = {
        "plan": {"digest": {"sha256": result.plan_sha256}},
        "challenge": {"nonce": result.nonce, "requestId": result.request_id},
        "device": result.board.model_dump(mode="json") | _strings(result.environment.model_dump(mode="json")),
        "runtime": [_package("tvm", f"pkg:pypi/apache-tvm@{quote(tools.tvm, safe='')}", tools.tvm)],
        "model": {"name": result.model.name, "digest": {"sha256": result.model.sha256}},
        "artifact": {"name": MANIFEST_NAME, "digest": {"sha256": result.manifest_sha256}},
        "compileStatement": {"sha256": result.compile_bundle_sha256},
        "dataset": {"name": result.dataset.name, "digest": {"sha256": result.dataset.sha256}},
        "harness": {"name": "compiling", "digest": {"sha256": tools.compiling_sha256}},
        "procedure": {
            "plan": plan.name,
            "clock": "device-monotonic",
            "clockResolutionNs": str(measured.clock_resolution_ns),
            "batchSize": "1",
            "warmupCount": str(measured.warmup.count),
            "warmupDurationNs": str(measured.warmup.duration_ns),
            "warmupStable": measured.warmup.stable,
        },
        "measurements": _measurements(result),
        "quality": {"verdict": measured.quality.value, "reasons": list(measured.quality_reasons)},
        "samples": {
            "merkleRoot": samples_root,
            "hash": "sha256",
            "leafEncoding": SAMPLE_ENCODING,
            "count": str(len(measured.samples_ns)),
        },
        "outputsDigest": {"sha256": measured.outputs_sha256},
        "startedOn": result.started_on,
        "finishedOn": result.finished_on,
        "assuranceLevel": "self_attested",
    }
    subjects = [
        (RESULT_NAME, sha256(result_bytes).hexdigest()),
        (MANIFEST_NAME, result.manifest_sha256),
        ("model", result.model.sha256),
    ]
    return _statement(EDGE_BENCHMARK, subjects, predicate)


def read_statement(payload: bytes, predicate_type: str) -> Statement:
    """Read a statement strictly from its exact bytes.

    Refused: another `_type` or predicate type, unknown or missing fields, a key given twice, no subject, a subject without a
    name or without exactly a lowercase-hex SHA-256, two subjects of one name.

    Raises:
        EvidenceError: the first rule that does not hold.

    Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
    """
    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"not a statement: {error}; expected in-toto Statement v1 as JSON") from error
    if not isinstance(value, dict) or value.keys() != _STATEMENT_FIELDS:
        got = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise EvidenceError(f"not a statement: got {got}, expected an object with {sorted(_STATEMENT_FIELDS)}")
    if value["_type"] != STATEMENT_TYPE:
        raise EvidenceError(f"statement of type {value['_type']!r}, expected {STATEMENT_TYPE!r}")
    if value["predicateType"] != predicate_type:
        raise EvidenceError(f"statement about {value['predicateType']!r}, expected {predicate_type!r}")
    if not isinstance(value["predicate"], dict):
        raise EvidenceError("the statement's predicate is not an object")
    return Statement(predicate_type=predicate_type, subjects=_subjects(value["subject"]), predicate=value["predicate"])


def check_compile_statement(statement: Statement, manifest: ArtifactManifest, manifest_sha256: str) -> None:
    """Hold a compile statement against the manifest: all but run id and times must follow from it.

    Raises:
        EvidenceError: names the first field that says something else, or a run without its id and times.
    """
    details = statement.predicate.get("runDetails")
    metadata = details.get("metadata") if isinstance(details, dict) else None
    if not isinstance(metadata, dict) or not all(
        isinstance(metadata.get(key), str) for key in ("invocationId", "startedOn", "finishedOn")
    ):
        raise EvidenceError("the compile statement does not say which run compiled and when")
    expected = compile_statement(
        manifest,
        manifest_sha256,
        started_on=metadata["startedOn"],
        finished_on=metadata["finishedOn"],
        invocation_id=metadata["invocationId"],
    )
    _same("compile statement", statement, read_statement(expected, SLSA_PROVENANCE))


def check_benchmark_statement(statement: Statement, result: Result, result_bytes: bytes, samples_root: str) -> None:
    """Hold a benchmark statement against result.json: every field must follow from it.

    Raises:
        EvidenceError: names the first field that says something else.
    """
    expected = benchmark_statement(result, result_bytes, samples_root)
    _same("benchmark statement", statement, read_statement(expected, EDGE_BENCHMARK))


def decimal(number: float) -> str:
    """A number as a decimal string without exponent that reads back as the same number.

    Raises:
        EvidenceError: not a finite number.
    """
    if not math.isfinite(number):
        raise EvidenceError(f"a measured number is {number}, expected a finite one")
    return format(Decimal(repr(number)), "f")


def _statement(predicate_type: str, subjects: list[tuple[str, str]], predicate: dict[str, Any]) -> bytes:
    payload = rfc8785.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )
    read_statement(payload, predicate_type)
    return payload


def _package(name: str, uri: str, version: str) -> dict[str, Any]:
    return {"name": name, "uri": uri, "annotations": {"version": version}}


def _strings(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        key: decimal(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        for key, value in fields.items()
    }


def _measurements(result: Result) -> list[dict[str, str]]:
    measured, latency = result.measurement, result.measurement.latency
    entries = [
        _entry("latency", "ns", "mean", latency.mean_ns, latency.n),
        _entry("latency", "ns", "std", latency.std_ns, latency.n),
        _entry("latency", "ns", "min", latency.min_ns, latency.n),
        _entry("latency", "ns", "max", latency.max_ns, latency.n),
    ]
    for name, percentile in (("p50", latency.p50_ns), ("p90", latency.p90_ns), ("p99", latency.p99_ns)):
        if percentile.supported and percentile.value is not None:
            entries.append(_entry("latency", "ns", name, percentile.value, percentile.n) | _interval(percentile))
    entries += [
        _entry("first_inference", "ns", "value", measured.first_inference_ns),
        _entry("load", "ns", "value", measured.load_ns),
    ]
    if measured.instructions_per_inference is not None:
        entries.append(_entry("instructions_per_inference", "1", "value", measured.instructions_per_inference))
    if measured.ram_peak_bytes is not None:
        entries.append(_entry("ram_peak", "By", "max", measured.ram_peak_bytes))
    if measured.accuracy is not None:
        entries.append(_entry("accuracy_top1", "1", "mean", measured.accuracy, measured.accuracy_inputs))
    if measured.numerics is not None:
        numerics = measured.numerics
        entries += [
            _entry("max_abs_err", "1", "max", numerics.max_abs_err, numerics.inputs),
            _entry("rmse", "1", "value", numerics.rmse, numerics.inputs),
            _entry("top1_agreement", "1", "mean", numerics.top1_agreement, numerics.inputs),
        ]
    return entries


def _entry(metric: str, unit: str, statistic: str, value: float, sample_size: int | None = None) -> dict[str, str]:
    entry = {"metric": metric, "unit": unit, "statistic": statistic, "value": decimal(value)}
    return entry if sample_size is None else entry | {"sampleSize": str(sample_size)}


def _interval(percentile: Percentile) -> dict[str, str]:
    if percentile.lower is None or percentile.upper is None:
        return {}
    return {
        "ciLow": decimal(percentile.lower),
        "ciHigh": decimal(percentile.upper),
        "confidence": decimal(percentile.confidence),
        "method": "order-statistics",
    }


def _subjects(value: object) -> tuple[Subject, ...]:
    if not isinstance(value, list) or not value:
        raise EvidenceError("the statement has no subject")
    subjects: list[Subject] = []
    for number, item in enumerate(value):
        if not isinstance(item, dict) or item.keys() != _SUBJECT_FIELDS:
            raise EvidenceError(f"subject {number} is {item!r}, expected an object with exactly {sorted(_SUBJECT_FIELDS)}")
        if not isinstance(item["digest"], dict) or item["digest"].keys() != {"sha256"}:
            raise EvidenceError(f"subject {number} has digest {item['digest']!r}, expected exactly one, sha256")
        try:
            subjects.append(Subject(name=item["name"], sha256=item["digest"]["sha256"]))
        except ValueError as error:
            raise EvidenceError(
                f"subject {number} is {item!r}, expected a name and 64 lowercase hexadecimal characters"
            ) from error
    names = [subject.name for subject in subjects]
    if len(set(names)) != len(names):
        raise EvidenceError(f"two subjects have one name: {', '.join(names)}")
    return tuple(subjects)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"a key is given twice: {next(key for key in keys if keys.count(key) > 1)!r}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _same(what: str, got: Statement, expected: Statement) -> None:
    try:
        if got.to_json() == expected.to_json():  # bytes, because Python holds True == 1 == 1.0
            return
    except (EvidenceError, RecursionError) as error:
        raise EvidenceError(f"the {what} holds values that canonical JSON does not know: {error}") from error
    place, here, there = _first_difference(got.model_dump(mode="json"), expected.model_dump(mode="json"), "")
    raise EvidenceError(f"the {what} says {place.lstrip('.')} = {here!r}, the files in hand give {there!r}")


def _first_difference(got: Any, expected: Any, place: str) -> tuple[str, Any, Any]:
    if isinstance(got, dict) and isinstance(expected, dict):
        for key in sorted(got.keys() | expected.keys()):
            if key not in got or key not in expected or got[key] != expected[key]:
                return _first_difference(got.get(key), expected.get(key), f"{place}.{key}")
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for number, (one, other) in enumerate(zip(got, expected, strict=True)):
            if one != other:
                return _first_difference(one, other, f"{place}[{number}]")
    return place, got, expected
