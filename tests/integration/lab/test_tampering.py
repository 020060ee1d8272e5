"""Attacks on an evidence file: whatever is changed, somebody notices, and says which check failed."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab.conftest import LabUnderTest
from vlab import verifying
from vlab.errors import TransientError
from vlab.records import Evidence, Result

SEED = 20


def changed(evidence: Path, **fields: Any) -> bytes:
    """The evidence with fields replaced, canonical as a careful forger would leave it."""
    return Evidence.from_json(evidence.read_bytes()).model_copy(update=fields).to_json()


def failed_code(lab: LabUnderTest, data: bytes) -> str | None:
    """The reason code of the first failed check."""
    failed = verifying.verify_evidence(data, lab.home / "lab.json").failed
    return failed.code if failed else None


def test_any_changed_byte_is_refused(lab: LabUnderTest, evidence: Path) -> None:
    """400 single-byte changes, spread over the whole file: none is accepted."""
    data = evidence.read_bytes()
    chance = random.Random(SEED)  # positions of a test
    accepted = []
    for _ in range(400):
        at = chance.randrange(len(data))
        forged = bytearray(data)
        forged[at] = chance.choice([byte for byte in b'0123456789abcdefABCDEF \n{}"' if byte != data[at]])
        if failed_code(lab, bytes(forged)) is None:
            accepted.append((at, data[max(0, at - 30) : at + 10]))

    assert [] == accepted


def test_command_line_refuses_with_reason_code(lab: LabUnderTest, evidence: Path, tmp_path: Path) -> None:
    """Exit code 1 and the code of the failed check, for people and for programs."""
    forged = tmp_path / "forged.json"
    forged.write_bytes(
        evidence.read_bytes().replace(b'"samples_ns', b'"samples_nS', 1).replace(b'samples_ns\\"', b'samples_nS\\"', 1)
    )
    told = lab.vlab("verify", forged, check=False)

    assert 1 == told.returncode
    assert "REFUSED: FORMAT" in told.stdout
    assert "FORMAT" == lab.json("verify", forged, check=False)[str(forged)]["failed"]


def test_better_number_is_refused(lab: LabUnderTest, evidence: Path) -> None:
    """A result with another accuracy, re-serialised with care, is not what the worker signed."""
    record = Evidence.from_json(evidence.read_bytes())
    result = Result.from_json(record.result)
    better = result.model_copy(update={"measurement": result.measurement.model_copy(update={"accuracy": 1.0})})

    assert "BENCHMARK_STATEMENT" == failed_code(lab, changed(evidence, result=better.to_json().decode()))


@pytest.mark.parametrize(("part", "field", "value"), [("board", "emulated", False), ("environment", "emulator", "")])
def test_emulated_figures_do_not_pass_as_hardware(
    lab: LabUnderTest, benchmarked: dict[str, Any], part: str, field: str, value: object
) -> None:
    """Neither by the board's declaration alone nor by leaving out the emulator."""
    evidence = Path(benchmarked["evidence_files"]["rv64gcv-0"])
    result = Result.from_json(Evidence.from_json(evidence.read_bytes()).result)
    forged = result.model_copy(update={part: getattr(result, part).model_copy(update={field: value})})

    assert "LINKS" == failed_code(lab, changed(evidence, result=forged.to_json().decode()))


def test_statistics_that_do_not_follow_from_the_samples_are_refused(evidence: Path) -> None:
    """Also a signed result must state what its raw samples give."""
    result = Result.from_json(Evidence.from_json(evidence.read_bytes()).result)
    measurement = result.measurement
    faster = measurement.latency.model_copy(update={"min_ns": measurement.latency.min_ns - 1})
    forged = result.model_copy(update={"measurement": measurement.model_copy(update={"latency": faster})})

    with pytest.raises(verifying.EvidenceError, match="min_ns"):
        verifying.check_statistics(forged)


def test_bundle_of_another_board_is_refused(lab: LabUnderTest, benchmarked: dict[str, Any], evidence: Path) -> None:
    """A genuine signature over another result does not carry over, nor does another partner's."""
    files = benchmarked["evidence_files"]
    same_partner = Evidence.from_json(Path(files["rv64gcv-0"]).read_bytes()).benchmark_bundle
    other_partner = Evidence.from_json(Path(files["aarch64-0"]).read_bytes()).benchmark_bundle

    assert "BENCHMARK_STATEMENT" == failed_code(lab, changed(evidence, benchmark_bundle=same_partner))
    assert "BENCHMARK_IDENTITY" == failed_code(lab, changed(evidence, benchmark_bundle=other_partner))


def test_compile_bundle_must_be_the_labs(lab: LabUnderTest, evidence: Path) -> None:
    """What a partner signed is not taken for the lab's."""
    record = Evidence.from_json(evidence.read_bytes())

    assert "COMPILE_IDENTITY" == failed_code(lab, changed(evidence, compile_bundle=record.benchmark_bundle))


def test_wrong_place_in_the_ledger_is_refused(lab: LabUnderTest, evidence: Path) -> None:
    """Neither another index nor a missing hash nor swapped places pass."""
    record = Evidence.from_json(evidence.read_bytes())
    compiled, measured = record.compile_inclusion, record.benchmark_inclusion
    short = measured.model_copy(update={"hashes": measured.hashes[:-1]})

    assert "LEDGER" == failed_code(lab, changed(evidence, benchmark_inclusion=short))
    assert "LEDGER" == failed_code(lab, changed(evidence, compile_inclusion=measured, benchmark_inclusion=compiled))


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("chain_id", 1, "ANCHOR"),
        ("contract", "0x" + "11" * 20, "ANCHOR"),
        ("tx_hash", "0x" + "22" * 32, "ANCHOR"),
        ("block_number", 0, "ANCHOR"),
        ("block_hash", "0x" + "33" * 32, "ANCHOR"),
    ],
)
def test_anchor_must_be_the_one_on_chain(lab: LabUnderTest, evidence: Path, field: str, value: object, code: str) -> None:
    """Each field of the anchor is held against the chain."""
    anchor = Evidence.from_json(evidence.read_bytes()).anchor.model_copy(update={field: value})

    assert code == failed_code(lab, changed(evidence, anchor=anchor))


def test_foreign_trust_root_is_refused(lab: LabUnderTest, evidence: Path, tmp_path: Path) -> None:
    """Another instance's trust root accepts nothing of ours."""
    trust = json.loads((lab.home / json.loads((lab.home / "lab.json").read_text())["trust_config"]).read_text())
    root = trust.get("trustedRoot", trust)
    root["certificateAuthorities"] = root["timestampAuthorities"]
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    profile = verifying.read_profile(lab.home / "lab.json").model_copy(update={"trust_config": "trust.json"})
    (tmp_path / "lab.json").write_bytes(profile.to_json())
    failed = verifying.verify_evidence(evidence.read_bytes(), tmp_path / "lab.json").failed

    assert failed is not None
    assert "COMPILE_SIGNATURE" == failed.code


def test_production_refuses_the_embedded_trust_root(lab: LabUnderTest, evidence: Path) -> None:
    """One operator holds every key of an embedded instance; production verification does not believe it."""
    assert "REFUSED: TRUST" in lab.vlab("verify", "--production", evidence, check=False).stdout


def test_offline_leaves_the_anchor_open(lab: LabUnderTest, evidence: Path) -> None:
    """Offline, everything but the anchor is checked, and the file is not called verified."""
    report = lab.json("verify", "--offline", evidence)[str(evidence)]

    assert (False, None) == (report["verified"], report["failed"])
    assert ["ANCHOR"] == [check["code"] for check in report["checks"] if check["passed"] is None]


def test_dead_chain_is_not_a_refusal(lab: LabUnderTest, evidence: Path, tmp_path: Path) -> None:
    """Where the chain does not answer nothing is said about the anchor: an error of its own, not a verdict."""
    profile = verifying.read_profile(lab.home / "lab.json")
    dead = profile.chain.model_copy(update={"rpc_url": "http://127.0.0.1:9"})
    (tmp_path / "lab.json").write_bytes(
        profile.model_copy(update={"chain": dead, "trust_config": str(lab.home / profile.trust_config)}).to_json()
    )

    with pytest.raises(TransientError):
        verifying.verify_evidence(evidence.read_bytes(), tmp_path / "lab.json")
