"""From a result back to its model, the ledger and the chain: every check of an evidence file, failing closed.

The order is that of docs/verifying.md. A check that needs an earlier one is not run when that one failed, and counts as failed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from math import isclose
from pathlib import Path

from vlab import anchoring, merkle, provenance, signing, statistics
from vlab.errors import EvidenceError, TransientError, VlabError
from vlab.records import (
    BoardInfo,
    Evidence,
    Identity,
    Inclusion,
    Job,
    KernelProfile,
    LabProfile,
    Latency,
    LogHead,
    Quality,
    Result,
)

MAX_EVIDENCE_BYTES = 32 << 20
"""Largest file that is read as evidence; two bundles and a hundred thousand samples are a third of it."""


@dataclass(frozen=True)
class Check:
    """One line of a verification."""

    name: str
    """What was checked, in words."""
    code: str
    """Stable reason code of this check, such as BENCHMARK_SIGNATURE."""
    passed: bool | None
    """None: not checked, because it was asked so or because an earlier check failed."""
    detail: str
    """What was found."""


@dataclass
class Verification:
    """All checks of one evidence file."""

    checks: list[Check] = field(default_factory=list)
    result: Result | None = None
    """The verified result; None unless every check that ran has passed."""
    embedded: bool = False
    """The trust root is a local development instance: one operator holds every key."""

    @property
    def failed(self) -> Check | None:
        """The first failed check."""
        return next((check for check in self.checks if check.passed is False), None)

    @property
    def complete(self) -> bool:
        """Whether every check ran and passed."""
        return all(check.passed for check in self.checks)


def verify_evidence(data: bytes, profile_path: Path, *, offline: bool = False, production: bool = False) -> Verification:
    """Run every check on an evidence file's bytes.

    Args:
        data: the file.
        profile_path: the pinned lab profile (lab.json).
        offline: leave out the checks that ask the chain; they are then reported as not checked.
        production: refuse an embedded (development) trust root.

    Raises:
        TransientError: the chain does not answer; nothing can be said about the anchor.
        EvidenceError: the lab profile itself is unreadable, or its trust configuration is missing.
    """
    profile = read_profile(profile_path)
    trust_config = profile_path.parent / profile.trust_config
    if not trust_config.is_file():
        raise EvidenceError(f"{profile_path} needs its trust configuration {profile.trust_config} beside it; fetch it too")
    return _Verifier(profile, trust_config, offline=offline, production=production).run(data)


def read_profile(path: Path) -> LabProfile:
    """The lab profile in a file.

    Raises:
        EvidenceError: there is no such file, or it is not a lab profile.
    """
    try:
        return LabProfile.from_json(path.read_bytes())
    except OSError as error:
        raise EvidenceError(
            f"no lab profile at {path} ({error.strerror}); name the lab's with --profile, or start a local lab with: vlab up"
        ) from error
    except EvidenceError as error:
        raise EvidenceError(f"{path}: {error}") from error


def check_delivery(result: bytes, bundle: bytes, job: Job, board: BoardInfo, profile_path: Path) -> Result:
    """What the lab holds a worker's result against before it is logged or anchored: the job, the board, and its signature.

    Args:
        result: result.json as the worker handed it back.
        bundle: its benchmark bundle.
        job: what the lab asked for.
        board: the board it asked.
        profile_path: the lab's profile.

    Raises:
        EvidenceError: it answers something else, the partner's worker did not sign it, or its figures do not hold.
    """
    profile = read_profile(profile_path)
    found = Result.from_canonical(result)
    for what, got, expected in (
        ("request", found.request_id, job.request_id),
        ("nonce", found.nonce, job.nonce),
        ("board", found.board, board),
        ("model", found.model, job.model),
        ("manifest", found.manifest_sha256, job.manifest_sha256),
        ("compile bundle", found.compile_bundle_sha256, job.compile_bundle.file.sha256),
        ("data set", found.dataset, job.dataset.file),
        ("plan", found.plan, job.plan),
    ):
        _expect_equal(f"{what} of the result", got, expected)
    check_links(found)
    identity = profile.worker_identities.get(board.partner)
    if identity is None:
        raise _unknown_partner(profile)
    payload = signing.verify_bundle(bundle, profile_path.parent / profile.trust_config, identity)
    statement = provenance.read_statement(payload, provenance.EDGE_BENCHMARK)
    provenance.check_benchmark_statement(statement, found, result, samples_root(found))
    check_statistics(found)
    check_verdict(found)
    return found


def check_kernel_profile(data: bytes, job: Job, board: BoardInfo) -> KernelProfile:
    """What the lab holds a worker's kernel profile against before it is shown: that it is of this job's artifact and board.

    It is not signed and no evidence; it tells a user where to look.

    Raises:
        EvidenceError: it is none, or of something else.
    """
    found = KernelProfile.from_json(data)
    for what, got, expected in (
        ("model", found.model, job.model),
        ("manifest", found.manifest_sha256, job.manifest_sha256),
        ("target", found.target, board.target),
    ):
        _expect_equal(f"{what} of the kernel profile", got, expected)
    return found


class _StopError(Exception):
    """The remaining checks depend on the one that failed."""


class _Verifier:
    def __init__(self, profile: LabProfile, trust_config: Path, *, offline: bool, production: bool) -> None:
        self.profile = profile
        self.trust_config = trust_config
        self.offline = offline
        self.production = production
        self.verification = Verification()

    def run(self, data: bytes) -> Verification:
        with suppress(_StopError):
            self._run(data)
        ran = {check.code for check in self.verification.checks}
        self.verification.checks += [
            Check(name, code, None, "not checked: an earlier check failed") for code, name in CHECKS if code not in ran
        ]
        return self.verification

    def _run(self, data: bytes) -> None:
        with self._check("FORMAT") as found:
            if len(data) > MAX_EVIDENCE_BYTES:
                raise EvidenceError(f"the file has more bytes than any evidence, expected at most {MAX_EVIDENCE_BYTES}")
            evidence = Evidence.from_canonical(data)
            result = Result.from_canonical(evidence.result)
            found(f"{evidence.format}, board {result.board.name} of {result.board.partner}")
        with self._check("TRUST") as found:
            embedded = signing.trust_is_embedded(self.trust_config)
            self.verification.embedded = embedded
            if embedded and (self.production or self.profile.trust != "embedded"):
                raise EvidenceError("the trust root is an embedded development instance; production verification refuses it")
            found("embedded instance: development only, one operator holds every key" if embedded else "production instance")
        compiled = self._bundle("COMPILE", evidence.compile_bundle, self.profile.lab_identity)
        worker = self.profile.worker_identities.get(result.board.partner)
        measured = self._bundle("BENCHMARK", evidence.benchmark_bundle, worker)
        self._links(evidence, result)
        self._statements(evidence, result, compiled, measured)
        with self._check("STATISTICS") as found:
            check_statistics(result)
            check_verdict(result)
            found(f"{len(result.measurement.samples_ns)} raw samples give the stated figures")
        self._ledger(evidence)
        if self.offline:
            self._add("ANCHOR", None, "not checked: --offline")
        else:
            with self._check("ANCHOR") as found:
                anchoring.check_anchor(evidence.anchor, self.profile.chain)
                anchor = evidence.anchor
                found(f"block {anchor.block_number} of chain {anchor.chain_id}, contract {anchor.contract}")
        self.verification.result = result

    def _bundle(self, step: str, bundle: str, identity: Identity | None) -> bytes:
        """Signature and identity are two lines, because they are two questions."""
        if identity is None:
            self._add(f"{step}_SIGNATURE", None, "not checked: nobody to expect")
            with self._check(f"{step}_IDENTITY"):
                raise _unknown_partner(self.profile)
        try:
            payload = signing.verify_bundle(bundle.encode(), self.trust_config, identity)
        except signing.BundleError as error:
            if error.code != "IDENTITY":
                self._add(f"{step}_SIGNATURE", False, str(error))
                raise _StopError from error
            self._add(f"{step}_SIGNATURE", None, "not checked to the end: somebody else signed")
            self._add(f"{step}_IDENTITY", False, str(error))
            raise _StopError from error
        self._add(f"{step}_SIGNATURE", True, SIGNATURE_HOLDS)
        self._add(f"{step}_IDENTITY", True, identity.san)
        return payload

    def _statements(self, evidence: Evidence, result: Result, compiled: bytes, measured: bytes) -> None:
        with self._check("COMPILE_STATEMENT") as found:
            statement = provenance.read_statement(compiled, provenance.SLSA_PROVENANCE)
            provenance.check_compile_statement(statement, result.manifest, result.manifest_sha256)
            found(f"SLSA provenance of {len(statement.subjects)} files, model {result.model.sha256[:12]}…")
        with self._check("BENCHMARK_STATEMENT") as found:
            data = evidence.result.encode()
            statement = provenance.read_statement(measured, provenance.EDGE_BENCHMARK)
            provenance.check_benchmark_statement(statement, result, data, samples_root(result))
            found(f"result.json {sha256(data).hexdigest()[:12]}…, nonce {result.nonce[:12]}…")

    def _links(self, evidence: Evidence, result: Result) -> None:
        with self._check("LINKS") as found:
            _expect_equal(
                "digest of the compile bundle",
                sha256(evidence.compile_bundle.encode()).hexdigest(),
                result.compile_bundle_sha256,
            )
            check_links(result)
            found("result → artifact → compile → model")

    def _ledger(self, evidence: Evidence) -> None:
        head = evidence.anchor.head
        with self._check("LEDGER") as found:
            _expect_equal("ledger", head.origin, self.profile.ledger_origin)
            if evidence.compile_inclusion.index >= evidence.benchmark_inclusion.index:
                raise EvidenceError("the benchmark stands in the ledger before the compile it ran")
            _check_inclusion("compile", evidence.compile_bundle, evidence.compile_inclusion, head)
            _check_inclusion("benchmark", evidence.benchmark_bundle, evidence.benchmark_inclusion, head)
            found(f"leaves {evidence.compile_inclusion.index} and {evidence.benchmark_inclusion.index} of {head.size}")

    @contextmanager
    def _check(self, code: str) -> Iterator[Callable[[str], None]]:
        """Turn what the block found, or how it failed, into a line."""
        notes: list[str] = []
        try:
            yield notes.append
        except TransientError:
            raise
        except VlabError as error:
            self._add(code, False, str(error))
            raise _StopError from error
        self._add(code, True, " ".join(notes))

    def _add(self, code: str, passed: bool | None, detail: str) -> None:
        self.verification.checks.append(Check(dict(CHECKS)[code], code, passed, detail))


CHECKS = (
    ("FORMAT", "evidence file"),
    ("TRUST", "trust root"),
    ("COMPILE_SIGNATURE", "compile bundle: signature, certificate, time, log"),
    ("COMPILE_IDENTITY", "compile bundle: signed by the lab"),
    ("BENCHMARK_SIGNATURE", "benchmark bundle: signature, certificate, time, log"),
    ("BENCHMARK_IDENTITY", "benchmark bundle: signed by the partner's worker"),
    ("LINKS", "result leads back to its model"),
    ("COMPILE_STATEMENT", "compile statement names this artifact and model"),
    ("BENCHMARK_STATEMENT", "benchmark statement names this result"),
    ("STATISTICS", "figures follow from the raw samples"),
    ("LEDGER", "both bundles are in the ledger"),
    ("ANCHOR", "ledger head is final on the pinned chain"),
)
"""Every check in order: reason code, what it says."""

SIGNATURE_HOLDS = "holds, with timestamp and transparency-log proof"


def samples_root(result: Result) -> str:
    """RFC 6962 root over the raw samples, each an 8-byte big-endian leaf."""
    return merkle.root([merkle.leaf_hash(sample.to_bytes(8, "big")) for sample in result.measurement.samples_ns]).hex()


def check_links(result: Result) -> None:
    """Every digest and name that a result states twice is the same in both places.

    Raises:
        EvidenceError: the result contradicts itself.
    """
    _expect_equal("digest of the manifest", result.manifest.digest(), result.manifest_sha256)
    _expect_equal("digest of the plan", result.plan.digest(), result.plan_sha256)
    _expect_equal("model of the artifact", result.manifest.model, result.model)
    _expect_equal("target of the artifact", result.manifest.target, result.board.target)
    check_emulation(result)


def check_emulation(result: Result) -> None:
    """An emulator was used exactly where the board is declared as emulated.

    Raises:
        EvidenceError: the result contradicts itself.
    """
    board, emulator = result.board, result.environment.emulator
    if board.emulated != bool(emulator):
        declared = "emulated" if board.emulated else "hardware"
        raise EvidenceError(
            f"board {board.name} is declared as {declared}, and the emulator it ran under is {emulator or 'none'}"
        )


def check_statistics(result: Result) -> None:
    """Compute every figure again from the raw samples.

    Raises:
        EvidenceError: a figure differs.
    """
    stated = result.measurement.latency
    computed = statistics.latency(result.measurement.samples_ns, result.plan.confidence)
    for name in Latency.model_fields:
        left, right = getattr(stated, name), getattr(computed, name)
        same = isclose(left, right, rel_tol=1e-9, abs_tol=1e-9) if isinstance(right, float) else left == right
        if not same:
            raise EvidenceError(f"{name} is stated as {left}, the raw samples give {right}")


def check_verdict(result: Result) -> None:
    """The verdict on a measurement contradicts neither its own reasons nor the figures beside it.

    Raises:
        EvidenceError: it does.
    """
    measurement, plan = result.measurement, result.plan
    verdict, reasons = measurement.quality, measurement.quality_reasons
    if (verdict is Quality.valid) != (not reasons):
        raise EvidenceError(f"the verdict is {verdict} for the reasons {list(reasons)}, expected reasons unless it is valid")
    if verdict is Quality.valid and len(measurement.samples_ns) < plan.samples_min_count:
        raise EvidenceError(
            f"the verdict is valid with {len(measurement.samples_ns)} samples, the plan asks for {plan.samples_min_count}"
        )
    for what, numerics in (("artifact", result.manifest.numerics), ("board", measurement.numerics)):
        if verdict is not Quality.invalid and numerics is not None and not numerics.holds:
            raise EvidenceError(
                f"the verdict is {verdict}, and the outputs of the {what} are off by {numerics.max_abs_err}, "
                f"expected at most {numerics.tolerance} for {numerics.required:.1%} of them"
            )


def _check_inclusion(what: str, bundle: str, inclusion: Inclusion, head: LogHead) -> None:
    leaf = merkle.leaf_hash(sha256(bundle.encode()).digest())
    hashes = [bytes.fromhex(value) for value in inclusion.hashes]
    if not merkle.verify_inclusion(bytes.fromhex(head.root), leaf, inclusion.index, head.size, hashes):
        raise EvidenceError(f"the {what} bundle is not leaf {inclusion.index} of the ledger with root {head.root[:12]}…")


def _unknown_partner(profile: LabProfile) -> EvidenceError:
    known = ", ".join(sorted(profile.worker_identities))
    return EvidenceError(f"the lab profile knows no worker of this partner; it knows those of {known}")


def _expect_equal(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise EvidenceError(f"{what} is {got}, expected {expected}")
