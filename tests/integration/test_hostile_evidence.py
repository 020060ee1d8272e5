"""Evidence made by those who may sign: every signature holds, and what was signed must still not pass for more than it is."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.run_on_board import bring_home
from tests.integration.conftest import SigstoreProcess
from tests.samples import MANIFEST, MANIFEST_SHA256, NUMERICS, RESULT
from vlab import merkle, provenance, statistics, tracking, verifying
from vlab.client import Lab, Run
from vlab.errors import DeployError, EvidenceError
from vlab.journal import Journal
from vlab.ledger import Ledger
from vlab.records import (
    Anchor,
    AssetRef,
    BoardInfo,
    BoardOutcome,
    ChainPin,
    Evidence,
    FileRef,
    Job,
    JobOutcome,
    KernelProfile,
    LabProfile,
    Quality,
    Report,
    Result,
)
from vlab.verifying import Verification

ORIGIN = "test.example/ledger"
SAMPLES = tuple(range(1_000_000, 1_000_064))


@dataclass
class Makers:
    """A lab and a partner that sign whatever they are handed."""

    sigstore: SigstoreProcess
    folder: Path
    compile_bundle: bytes

    @property
    def profile(self) -> Path:
        """What the verifier pins."""
        return self.folder / "lab.json"

    def evidence(self, result: Result, text: bytes | None = None) -> Evidence:
        """Evidence of a result (or of other bytes that read as it), signed by the partner, in a ledger of its own."""
        data = text or result.to_json()
        root = merkle.root([merkle.leaf_hash(sample.to_bytes(8, "big")) for sample in result.measurement.samples_ns]).hex()
        bundle = self.sigstore.signer("partner-a").sign(provenance.benchmark_statement(result, data, root))
        return self.entered(data, bundle)

    def entered(self, data: bytes, bundle: bytes) -> Evidence:
        """Result and bundle with places in the ledger and an anchor."""
        digests = [sha256(part).hexdigest() for part in (self.compile_bundle, bundle)]
        ledger = Ledger(self.folder / "ledger.db", ORIGIN)
        ledger.append(digests)
        head = ledger.head()
        places = [ledger.inclusion(digest, head.size) for digest in digests]
        return Evidence(
            result=data.decode(),
            compile_bundle=self.compile_bundle.decode(),
            benchmark_bundle=bundle.decode(),
            compile_inclusion=places[0],
            benchmark_inclusion=places[1],
            anchor=Anchor(
                chain_id=1,
                contract="0x" + "11" * 20,
                tx_hash="0x" + "22" * 32,
                block_number=1,
                block_hash="0x" + "33" * 32,
                head=head,
            ),
        )

    def result(self, **measured: Any) -> Result:
        """An honest result, but for the fields of the measurement given."""
        measurement = RESULT.measurement.model_copy(
            update={
                "samples_ns": SAMPLES,
                "latency": statistics.latency(measured.get("samples_ns", SAMPLES), RESULT.plan.confidence),
                "quality": Quality.valid,
                "quality_reasons": (),
                **measured,
            }
        )
        digest = sha256(self.compile_bundle).hexdigest()
        return RESULT.model_copy(update={"measurement": measurement, "compile_bundle_sha256": digest})

    def verify(self, evidence: Evidence | bytes) -> Verification:
        """Verify without a chain."""
        data = evidence if isinstance(evidence, bytes) else evidence.to_json()
        return verifying.verify_evidence(data, self.profile, offline=True)


@pytest.fixture(scope="module")
def makers(sigstore_local: SigstoreProcess, tmp_path_factory: pytest.TempPathFactory) -> Makers:
    """The lab's compile bundle and the profile are made once."""
    folder = tmp_path_factory.mktemp("makers")
    statement = provenance.compile_statement(
        MANIFEST, MANIFEST_SHA256, started_on=RESULT.started_on, finished_on=RESULT.started_on, invocation_id="test"
    )
    profile = LabProfile(
        name="test",
        trust="embedded",
        trust_config=str(sigstore_local.trust),
        lab_identity=sigstore_local.identity("lab"),
        worker_identities={partner: sigstore_local.identity(partner) for partner in ("partner-a", "partner-b")},
        ledger_origin=ORIGIN,
        chain=ChainPin(rpc_url="http://127.0.0.1:9", chain_id=1, contract="0x" + "11" * 20, code_sha256="44" * 32),
        prefect_api_url="http://127.0.0.1:9/api",
        tracking_url="http://127.0.0.1:9",
    )
    (folder / "lab.json").write_bytes(profile.to_json())
    return Makers(sigstore_local, folder, sigstore_local.signer("lab").sign(statement))


def refusal(verification: Verification) -> tuple[str | None, str]:
    """Reason code of the first failed check, and its words."""
    failed = verification.failed
    return (failed.code, failed.detail) if failed else (None, "")


def test_honest_evidence_holds(makers: Makers) -> None:
    """What the attacks below start from passes every check."""
    assert (None, "") == refusal(makers.verify(makers.evidence(makers.result())))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"accuracy":0.875,', b'"accuracy":0.999,"accuracy":0.875,'),
        (b'"accuracy":0.875', b'"accuracy":8.75e-1'),
        (b'"accuracy_inputs":200', b'"accuracy_inputs":"200"'),
        (b'{"board"', b'{ "board"'),
    ],
    ids=["key-twice", "other-number", "text-for-number", "white-space"],
)
def test_result_that_reads_in_two_ways_is_refused(makers: Makers, old: bytes, new: bytes) -> None:
    """A signed result.json has one form, so that every reader sees the figures that were checked."""
    result = makers.result()
    data = result.to_json()
    assert old in data

    code, words = refusal(makers.verify(makers.evidence(result, data.replace(old, new, 1))))

    assert "FORMAT" == code
    assert "canonical" in words


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'\\"samples_ns\\":[1000000,', b'\\"samples_ns\\":[-1,'),
        (b'\\"samples_ns\\":[1000000,', b'\\"samples_ns\\":[99999999999999999999,'),
        (b'\\"samples_ns\\":[1000000,', b'\\"samples_ns\\":[' + b"9" * 5000 + b","),
        (b'\\"arena_bytes\\":65536', b'\\"arena_bytes\\":99999999999999999999'),
        (b'\\"cosine\\":1', b'\\"cosine\\":NaN'),
        (b'\\"cosine\\":1', b'\\"cosine\\":1e999'),
        (b'"block_number":1', b'"block_number":99999999999999999999'),
        (b'"index":0', b'"index":99999999999999999999'),
        (b'"chain_id":1', b'"chain_id":-99999999999999999999'),
    ],
)
def test_numbers_beyond_all_measure_are_refused_with_a_reason(makers: Makers, old: bytes, new: bytes) -> None:
    """Negative, huge and not-a-number: a failed check, never a crash."""
    data = makers.evidence(makers.result()).to_json()
    assert old in data

    assert "FORMAT" == refusal(makers.verify(data.replace(old, new)))[0]


def test_samples_all_taken_away_are_refused(makers: Makers) -> None:
    """No raw samples, no figures."""
    data = makers.evidence(makers.result()).to_json()
    start = data.index(b'\\"samples_ns\\":[')
    end = data.index(b"]", start)

    assert "FORMAT" == refusal(makers.verify(data[:start] + b'\\"samples_ns\\":[' + data[end:]))[0]


def test_endless_file_is_refused(makers: Makers) -> None:
    """A file larger than any evidence is not even parsed."""
    code, words = refusal(makers.verify(b" " * (verifying.MAX_EVIDENCE_BYTES + 1)))

    assert "FORMAT" == code
    assert "at most" in words


@pytest.mark.parametrize(
    "change",
    [
        lambda makers: makers.result(samples_ns=SAMPLES[:63]),
        lambda makers: makers.result(quality_reasons=("drift",)),
        lambda makers: makers.result(quality=Quality.degraded),
        lambda makers: makers.result(numerics=NUMERICS.model_copy(update={"max_abs_err": 1.0})),
    ],
    ids=["too-few-samples", "valid-with-reasons", "degraded-without-reason", "wrong-outputs"],
)
def test_verdict_that_the_figures_contradict_is_refused(makers: Makers, change: Callable[[Makers], Result]) -> None:
    """Samples left out, outputs beyond the tolerance: whoever signs cannot call that valid."""
    assert "STATISTICS" == refusal(makers.verify(makers.evidence(change(makers))))[0]


def test_model_under_another_name_is_refused(makers: Makers) -> None:
    """The model is the artifact's in every field, its name too."""
    result = makers.result()
    renamed = result.model_copy(update={"model": result.model.model_copy(update={"name": "a-better-one"})})

    assert "LINKS" == refusal(makers.verify(makers.evidence(renamed)))[0]


def test_nothing_is_said_of_a_signature_by_somebody_else(makers: Makers) -> None:
    """A stranger ends the check early: its log proof was not looked at, so no line says that it holds."""
    evidence = makers.evidence(makers.result())
    bundle = json.loads(evidence.benchmark_bundle)
    bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["rootHash"] = "A" * 43 + "="
    checks = makers.verify(evidence.model_copy(update={"compile_bundle": json.dumps(bundle)})).checks

    assert ("COMPILE_IDENTITY", False) in {(check.code, check.passed) for check in checks}
    assert ("COMPILE_SIGNATURE", None) in {(check.code, check.passed) for check in checks}


def test_head_of_another_ledger_is_refused(makers: Makers) -> None:
    """Places and root that fit each other, in a ledger of another name."""
    evidence = makers.evidence(makers.result())
    head = evidence.anchor.head.model_copy(update={"origin": "other.example/ledger"})
    foreign = evidence.model_copy(update={"anchor": evidence.anchor.model_copy(update={"head": head})})

    assert "LEDGER" == refusal(makers.verify(foreign))[0]


# ---------------------------------------------------------------- what a worker hands back to the lab


def job_of(result: Result) -> Job:
    """The job that a result honestly answers."""
    kept = FileRef(name="some.file", sha256="55" * 32, size_bytes=1)
    bundle = FileRef(name="compile.sigstore.json", sha256=result.compile_bundle_sha256, size_bytes=1)
    return Job(
        request_id=result.request_id,
        nonce=result.nonce,
        model=result.model,
        artifact=AssetRef(uri="store:artifact", file=kept),
        manifest_sha256=result.manifest_sha256,
        compile_bundle=AssetRef(uri="store:bundle", file=bundle),
        dataset=AssetRef(uri="store:dataset", file=result.dataset),
        reference=AssetRef(uri="store:reference", file=kept),
        plan=result.plan,
    )


@dataclass
class Home:
    """A store and a request's journal, and what a worker hands back into them."""

    makers: Makers
    store: str
    journal: Journal

    def deliver(
        self,
        result: Result,
        job: Job,
        *,
        signer: str = "partner-a",
        text: bytes | None = None,
        kernels: KernelProfile | None = None,
    ) -> None:
        """Sign as a partner's worker, store, and let the lab take it in."""
        data = text or result.to_json()
        signed = self.makers.sigstore.signer(signer).sign(
            provenance.benchmark_statement(result, data, verifying.samples_root(result))
        )
        outcome = JobOutcome(
            job_id=job.job_id,
            result=tracking.store_put(data, "request.json", url=self.store),  # the worker chooses the names
            benchmark_bundle=tracking.store_put(signed, "evidence.json", url=self.store),
            kernel_profile=tracking.store_put(kernels.to_json(), "result.json", url=self.store) if kernels else None,
        )
        bring_home(outcome, job, RESULT.board, self.journal, store=self.store, profile=self.makers.profile)

    def refusal(self, result: Result, job: Job, **how: Any) -> str:
        """Why it is not taken in; and nothing of it may be kept."""
        with pytest.raises(EvidenceError) as refused:
            self.deliver(result, job, **how)
        assert not self.journal.directory.exists()
        return str(refused.value)


@pytest.fixture
def home(makers: Makers, tmp_path: Path) -> Home:
    """Nothing is there yet."""
    return Home(makers, str(tmp_path / "store"), Journal(tmp_path / "boards" / RESULT.board.name))


def test_honest_result_is_taken_in_under_the_labs_names(home: Home) -> None:
    """Whatever the worker called its files."""
    result = home.makers.result()
    home.deliver(result, job_of(result))

    assert result.to_json() == home.journal.read("result.json")
    assert {"result.json", "benchmark.sigstore.json"} == {path.name for path in home.journal.directory.iterdir()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nonce": "66" * 32}, "nonce"),
        ({"request_id": "another-request"}, "request"),
        ({"board": RESULT.board.model_copy(update={"name": "virt-1"})}, "board"),
        ({"board": RESULT.board.model_copy(update={"emulated": False})}, "board"),
        ({"board": RESULT.board.model_copy(update={"partner": "partner-b"})}, "board"),
        ({"compile_bundle_sha256": "66" * 32}, "compile bundle"),
        ({"dataset": RESULT.dataset.model_copy(update={"sha256": "66" * 32})}, "data set"),
        ({"model": RESULT.model.model_copy(update={"sha256": "66" * 32})}, "model"),
        ({"manifest": MANIFEST.model_copy(update={"arena_bytes": 1})}, "manifest"),
        ({"plan": RESULT.plan.model_copy(update={"samples_min_count": 1})}, "plan"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_result_that_answers_something_else_is_not_taken_in(home: Home, change: dict[str, Any], reason: str) -> None:
    """Another request's nonce, another board of the partner, another data set: well signed, and not what was asked."""
    asked = home.makers.result()

    assert reason in home.refusal(asked.model_copy(update=change), job_of(asked))


def kernel_profile(result: Result) -> KernelProfile:
    """One of the artifact that a result is about."""
    return KernelProfile(
        model=result.model,
        target=result.board.target,
        manifest_sha256=result.manifest_sha256,
        emulated=True,
        environment=result.environment,
        repetitions=0,
        calls=(),
    )


def test_kernel_profile_is_kept_beside_the_result(home: Home) -> None:
    """Under the lab's own name for it."""
    result = home.makers.result()
    home.deliver(result, job_of(result), kernels=kernel_profile(result))

    assert kernel_profile(result).to_json() == home.journal.read("kernel_profile.json")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"manifest_sha256": "66" * 32}, "manifest of the kernel profile"),
        ({"target": "host/x86_64"}, "target of the kernel profile"),
    ],
)
def test_kernel_profile_of_something_else_is_not_taken_in(home: Home, change: dict[str, Any], reason: str) -> None:
    """Of another artifact or another kind of board; the delivery as a whole is refused."""
    result = home.makers.result()

    assert reason in home.refusal(result, job_of(result), kernels=kernel_profile(result).model_copy(update=change))


def test_result_signed_by_another_partner_is_not_taken_in(home: Home) -> None:
    """The worker of the board's own partner must have signed."""
    result = home.makers.result()

    assert "IDENTITY" in home.refusal(result, job_of(result), signer="partner-b")


def test_result_whose_figures_do_not_hold_is_not_taken_in(home: Home) -> None:
    """What no verifier would accept is never logged or anchored."""
    result = home.makers.result(samples_ns=SAMPLES[:63])

    assert "samples" in home.refusal(result, job_of(result))


def test_result_with_the_bundle_of_another_is_not_taken_in(home: Home) -> None:
    """Result and bundle belong together."""
    result, other = home.makers.result(), home.makers.result(accuracy=1.0)
    job = job_of(result)
    signed = home.makers.sigstore.signer("partner-a").sign(
        provenance.benchmark_statement(other, other.to_json(), verifying.samples_root(other))
    )
    outcome = JobOutcome(
        job_id=job.job_id,
        result=tracking.store_put(result.to_json(), "result.json", url=home.store),
        benchmark_bundle=tracking.store_put(signed, "benchmark.sigstore.json", url=home.store),
    )

    with pytest.raises(EvidenceError, match="benchmark statement"):
        bring_home(outcome, job, RESULT.board, home.journal, store=home.store, profile=home.makers.profile)
    assert not home.journal.directory.exists()


def test_outcome_without_a_result_is_not_taken_for_one(home: Home) -> None:
    """Neither a result nor a reason why there is none."""
    job = job_of(home.makers.result())
    outcome = JobOutcome(job_id=job.job_id)

    with pytest.raises(DeployError, match="neither"):
        bring_home(outcome, job, RESULT.board, home.journal, store=home.store, profile=home.makers.profile)


# ---------------------------------------------------------------- what a lab hands back to a researcher


@pytest.mark.parametrize(
    ("request_id", "board", "reason"),
    [
        (RESULT.request_id, RESULT.board, None),
        ("r-mine", RESULT.board, "expected r-mine on virt-0"),
        (RESULT.request_id, RESULT.board.model_copy(update={"name": "virt-1"}), "expected request-1 on virt-1"),
    ],
    ids=["own", "another-request", "another-board"],
)
def test_evidence_of_another_run_is_not_taken_for_ones_own(
    makers: Makers, tmp_path: Path, request_id: str, board: BoardInfo, reason: str | None
) -> None:
    """Genuine evidence, but of an older request or of another board."""
    store = str(tmp_path / "store")
    profile = verifying.read_profile(makers.profile).model_copy(update={"tracking_url": store})
    (tmp_path / "lab.json").write_bytes(profile.to_json())
    data = makers.evidence(makers.result()).to_json()
    outcome = BoardOutcome(board=board, evidence=tracking.store_put(data, "evidence.json", url=store))
    report = Report(request_id=request_id, tracking_run_id="run", boards=(outcome,))
    run = Run(Lab(tmp_path / "lab.json"), request_id, uuid4(), report)

    if reason is None:
        assert {board.name: data} == run.evidence()
    else:
        with pytest.raises(EvidenceError, match=reason):
            run.evidence()
