"""Statements: their shape, their strict reading, and that every field is held against the files in hand."""

import json
import re
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import MANIFEST, MANIFEST_SHA256, MODEL, PLAN, RESULT, digest
from vlab import provenance
from vlab.errors import EvidenceError
from vlab.records import Result
from vlab.signing import BundleCode

RESULT_BYTES = RESULT.to_json()
ROOT = digest("samples")
RUN = "prefect:flow-run/0190c0de"

COMPILE = provenance.compile_statement(
    MANIFEST, MANIFEST_SHA256, started_on="2026-01-01T00:00:00Z", finished_on="2026-01-01T00:01:00Z", invocation_id=RUN
)
BENCHMARK = provenance.benchmark_statement(RESULT, RESULT_BYTES, ROOT)


def edited(payload: bytes, *place: str | int, value: Any) -> bytes:
    """The statement with one value replaced."""
    statement = json.loads(payload)
    inner = statement
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return json.dumps(statement).encode()


def test_compile_statement_has_the_shape_of_slsa_provenance() -> None:
    """Only fields of SLSA provenance v1 and in-toto resource descriptors, all required ones, digests well formed."""
    statement = json.loads(COMPILE)
    predicate = statement["predicate"]
    definition, details = predicate["buildDefinition"], predicate["runDetails"]

    assert {"_type", "subject", "predicateType", "predicate"} == statement.keys()
    assert "https://in-toto.io/Statement/v1" == statement["_type"]
    assert "https://slsa.dev/provenance/v1" == statement["predicateType"]
    assert {"buildDefinition", "runDetails"} == predicate.keys()
    assert {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"} == definition.keys()
    assert {"model", "target", "options"} == definition["externalParameters"].keys()
    assert {"builder", "metadata"} == details.keys()
    assert {"id"} == details["builder"].keys()
    assert {"invocationId", "startedOn", "finishedOn"} == details["metadata"].keys()
    for descriptor in [*statement["subject"], *definition["resolvedDependencies"]]:
        assert descriptor.keys() <= {"uri", "digest", "name", "downloadLocation", "mediaType", "content", "annotations"}
        assert descriptor.keys() & {"uri", "digest", "content"}
        assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in descriptor.get("digest", {}).values())
    uris = [one["uri"] for one in definition["resolvedDependencies"] if "uri" in one]
    assert "pkg:pypi/apache-tvm@0.27.0%2Blocal" in uris


def test_compile_statement_is_about_the_manifest_and_every_file() -> None:
    """The subjects of a compile statement are manifest.json and the files it lists."""
    statement = provenance.read_statement(COMPILE, provenance.SLSA_PROVENANCE)

    assert {"manifest.json": MANIFEST_SHA256, "model": digest("executable"), "weights.bin": digest("weights")} == {
        subject.name: subject.sha256 for subject in statement.subjects
    }


def test_benchmark_statement_binds_everything_together() -> None:
    """A benchmark statement names result, artifact, model, plan, nonce, data set, samples, outputs and compile statement."""
    statement = provenance.read_statement(BENCHMARK, provenance.EDGE_BENCHMARK)
    predicate = statement.predicate

    assert sha256(RESULT_BYTES).hexdigest() == statement.subject("result.json")
    assert MANIFEST_SHA256 == statement.subject("manifest.json")
    assert MODEL.sha256 == statement.subject("model")
    assert PLAN.digest() == predicate["plan"]["digest"]["sha256"]
    assert RESULT.nonce == predicate["challenge"]["nonce"]
    assert RESULT.dataset.sha256 == predicate["dataset"]["digest"]["sha256"]
    assert RESULT.compile_bundle_sha256 == predicate["compileStatement"]["sha256"]
    assert RESULT.measurement.outputs_sha256 == predicate["outputsDigest"]["sha256"]
    assert "self_attested" == predicate["assuranceLevel"]
    assert {
        "merkleRoot": ROOT,
        "hash": "sha256",
        "leafEncoding": "uint64-big-endian-ns",
        "count": "3",
    } == predicate["samples"]


def test_benchmark_measurements_are_decimal_strings_and_unsupported_ones_are_absent() -> None:
    """No number is a JSON number; a percentile the sample cannot support is not claimed."""
    predicate = json.loads(BENCHMARK)["predicate"]
    by_name = {(one["metric"], one["statistic"]): one for one in predicate["measurements"]}

    assert {"mean", "std", "min", "max", "p50"} == {statistic for metric, statistic in by_name if metric == "latency"}
    assert "0.0000001" == by_name["max_abs_err", "max"]["value"]
    assert {
        "metric": "latency",
        "unit": "ns",
        "statistic": "p50",
        "value": "1050000",
        "sampleSize": "3",
        "ciLow": "1000000",
        "ciHigh": "1100000",
        "confidence": "0.99",
        "method": "order-statistics",
    } == by_name["latency", "p50"]
    json.loads(BENCHMARK, parse_int=pytest.fail, parse_float=pytest.fail)


def test_building_is_deterministic() -> None:
    """The same record gives the same bytes, which is what lets a verifier build a statement again."""
    assert BENCHMARK == provenance.benchmark_statement(Result.from_json(RESULT_BYTES), RESULT_BYTES, ROOT)


def test_benchmark_statement_refuses_other_bytes() -> None:
    """The record and the bytes it is signed with have to be the same result."""
    other = RESULT.model_copy(update={"request_id": "request-2"})

    with pytest.raises(EvidenceError, match="not what its bytes say"):
        provenance.benchmark_statement(other, RESULT_BYTES, ROOT)


@pytest.mark.parametrize("root", ["", "ab", digest("samples").upper()])
def test_statements_cannot_be_built_wrong(root: str) -> None:
    """A subject or root that is not a lowercase SHA-256 cannot enter a statement."""
    with pytest.raises(EvidenceError):
        provenance.benchmark_statement(RESULT, RESULT_BYTES, root)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "not a statement"),
        (b"[]", "expected an object"),
        (b"\xff", "not a statement"),
        (b"[" * 100_000, "not a statement"),
        (COMPILE[:-1] + b',"extra":1}', "expected an object"),
        (COMPILE[:-1] + b',"_type":"https://in-toto.io/Statement/v1"}', "given twice"),
        (COMPILE.replace(b'"digest":', b'"digest":{"sha256":"00"},"digest":', 1), "given twice"),
        (edited(COMPILE, "_type", value="https://in-toto.io/Statement/v0.1"), "of type"),
        (edited(COMPILE, "predicateType", value=provenance.EDGE_BENCHMARK), "expected 'https://slsa.dev"),
        (edited(COMPILE, "predicate", value=[]), "not an object"),
        (edited(COMPILE, "predicate", "x", value=float("nan")), "NaN"),
        (edited(COMPILE, "subject", value=[]), "no subject"),
        (edited(COMPILE, "subject", value={}), "no subject"),
        (edited(COMPILE, "subject", 0, value="manifest.json"), "subject 0"),
        (edited(COMPILE, "subject", 0, "name", value=""), "subject 0"),
        (edited(COMPILE, "subject", 0, "name", value="model"), "one name"),
        (edited(COMPILE, "subject", 0, "uri", value="x"), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", value={}), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", "sha512", value="00"), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", "sha256", value="zz" * 32), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", "sha256", value="ab"), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", "sha256", value=MANIFEST_SHA256.upper()), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", "sha256", value=MANIFEST_SHA256 + "\n"), "subject 0"),
        (edited(COMPILE, "subject", 0, "digest", "sha256", value=7), "subject 0"),
    ],
)
def test_reading_is_strict(payload: bytes, message: str) -> None:
    """What is not exactly such a statement is refused with the rule it breaks."""
    with pytest.raises(EvidenceError, match=message):
        provenance.read_statement(payload, provenance.SLSA_PROVENANCE)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_reading_anything_raises_only_our_error(payload: bytes) -> None:
    """Foreign bytes never end in another exception."""
    with pytest.raises(EvidenceError):
        provenance.read_statement(payload, provenance.SLSA_PROVENANCE)


def test_unknown_subject_is_refused() -> None:
    """Asking for a subject the statement does not have is an error that names those it has."""
    with pytest.raises(EvidenceError, match=r"only: manifest\.json, model, weights\.bin"):
        provenance.read_statement(COMPILE, provenance.SLSA_PROVENANCE).subject("result.json")


def test_statements_hold_against_the_files_they_are_about() -> None:
    """What was built from the files in hand passes the check against them."""
    compiled = provenance.read_statement(COMPILE, provenance.SLSA_PROVENANCE)
    measured = provenance.read_statement(BENCHMARK, provenance.EDGE_BENCHMARK)

    provenance.check_compile_statement(compiled, MANIFEST, MANIFEST_SHA256)
    provenance.check_benchmark_statement(measured, RESULT, RESULT_BYTES, ROOT)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("predicate", "buildDefinition", "externalParameters", "target"), "arm/cortex-m55"),
        (("predicate", "buildDefinition", "externalParameters", "unknown"), "1"),
        (("predicate", "buildDefinition", "resolvedDependencies", 0, "digest", "sha256"), digest("other model")),
        (("predicate", "buildDefinition", "resolvedDependencies"), []),
        (("predicate", "buildDefinition", "buildType"), "https://example.com/other"),
        (("predicate", "runDetails", "builder", "id"), "https://example.com/builder"),
        (("predicate", "runDetails", "metadata"), {}),
        (("predicate", "runDetails"), "now"),
        (("predicate", "more"), "1"),
        (("subject", 1, "digest", "sha256"), digest("other executable")),
        (("subject", 1, "name"), "other"),
    ],
)
def test_compile_statement_of_something_else_is_refused(place: tuple[str | int, ...], value: Any) -> None:
    """Any field of a compile statement that the manifest does not give is found."""
    statement = provenance.read_statement(edited(COMPILE, *place, value=value), provenance.SLSA_PROVENANCE)

    with pytest.raises(EvidenceError, match="compile statement"):
        provenance.check_compile_statement(statement, MANIFEST, MANIFEST_SHA256)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("predicate", "measurements", 0, "value"), "1"),
        (("predicate", "challenge", "nonce"), digest("another nonce")),
        (("predicate", "samples", "merkleRoot"), digest("other samples")),
        (("predicate", "compileStatement", "sha256"), digest("other bundle")),
        (("predicate", "device", "emulated"), False),
        (("predicate", "device", "emulated"), 1),
        (("predicate", "assuranceLevel"), "third_party"),
        (("predicate", "harness"), None),
        (("predicate", "device", "name"), 2**70),
        (("predicate", "device", "name"), "\ud800"),
        (("subject", 0, "digest", "sha256"), digest("other result")),
    ],
)
def test_benchmark_statement_of_something_else_is_refused(place: tuple[str | int, ...], value: Any) -> None:
    """Any field of a benchmark statement that result.json does not give is found."""
    statement = provenance.read_statement(edited(BENCHMARK, *place, value=value), provenance.EDGE_BENCHMARK)

    with pytest.raises(EvidenceError, match="benchmark statement"):
        provenance.check_benchmark_statement(statement, RESULT, RESULT_BYTES, ROOT)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_decimal_strings_read_back_as_the_same_number(number: float) -> None:
    """A decimal string has no exponent and loses nothing."""
    text = provenance.decimal(number)

    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)
    assert Decimal(text) == Decimal(repr(number))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    """Not a number and infinity are never signed."""
    with pytest.raises(EvidenceError, match="finite"):
        provenance.decimal(number)


def test_every_field_and_code_is_documented() -> None:
    """docs/format.md names every field of both predicates, every metric, and every code a bundle is refused with."""
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    compiled, measured = json.loads(COMPILE)["predicate"], json.loads(BENCHMARK)["predicate"]
    words = {
        *compiled["buildDefinition"],
        *compiled["runDetails"]["metadata"],
        *(one["name"] for one in compiled["buildDefinition"]["resolvedDependencies"]),
        *measured,
        *(key for part in ("challenge", "procedure", "quality", "samples") for key in measured[part]),
        *(value for one in measured["measurements"] for value in (one["metric"], one["statistic"], *one)),
        *BundleCode,
        provenance.EDGE_BENCHMARK,
        provenance.SLSA_PROVENANCE,
        provenance.COMPILE_BUILD_TYPE,
        provenance.COMPILE_BUILDER,
        provenance.SAMPLE_ENCODING,
    }

    assert [] == sorted(word for word in words if word not in text)
