"""Records are valid or cannot be built, and their bytes are canonical."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlab import records
from vlab.errors import EvidenceError
from vlab.records import Anchor, Inclusion, LogHead, Plan, request_id_of

hex_digest = st.binary(min_size=32, max_size=32).map(bytes.hex)
inclusions = st.builds(Inclusion, index=st.integers(0, 2**53 - 1), hashes=st.lists(hex_digest, max_size=64).map(tuple))


@given(inclusions)
def test_json_reads_back_as_the_same_record(record: Inclusion) -> None:
    """The law of every record: from_json(to_json(r)) == r, and the bytes come out the same again."""
    assert record == Inclusion.from_json(record.to_json())
    assert record.to_json() == Inclusion.from_json(record.to_json()).to_json()


@given(inclusions)
def test_json_is_canonical(record: Inclusion) -> None:
    """Sorted keys, no white space: one record, one byte string."""
    data = record.to_json()

    assert json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == data


def test_a_format_names_one_record() -> None:
    """What reads a file by its format field can be sure what it is."""
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, records.Record)]
    defaults = [kind.model_fields["format"].default for kind in kinds if "format" in kind.model_fields]
    formats = [name for name in defaults if isinstance(name, str)]  # that of a model's file is no format of a record

    assert len(formats) > 4
    assert sorted(set(formats)) == sorted(formats)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"origin":"o","size":0,"root":"' + "a" * 64 + '"}', "size"),
        ('{"origin":"o","size":1,"root":"' + "A" * 64 + '"}', "root"),
        ('{"origin":"o","size":1,"root":"' + "a" * 63 + '"}', "root"),
        ('{"origin":"o","size":1,"root":"' + "a" * 64 + '","extra":1}', "extra"),
        ('{"origin":"o","size":1}', "root"),
        ("[]", "the file"),
        ("", "the file"),
    ],
)
def test_wrong_field_is_named(text: str, field: str) -> None:
    """Strict parsing, one clear refusal that names the first wrong field."""
    with pytest.raises(EvidenceError, match=field):
        LogHead.from_json(text)


def test_a_record_is_frozen() -> None:
    """Nobody changes a record after it was checked."""
    head = LogHead(origin="o", size=1, root="a" * 64)

    with pytest.raises(ValueError, match="frozen"):
        head.size = 2  # type: ignore[misc]


@pytest.mark.parametrize("limit", ["warmup_max_ns", "samples_max_ns"])
def test_a_plan_cannot_hold_a_board_for_ever(limit: str) -> None:
    """Warm-up and measuring end within an hour each, whoever wrote the plan."""
    plan = Plan.named("smoke").model_copy(update={limit: 3_600_000_000_001})

    with pytest.raises(EvidenceError, match=limit):
        Plan.from_json(plan.to_json())


def test_unknown_plan_lists_the_known_ones() -> None:
    """The message carries the choice."""
    with pytest.raises(EvidenceError, match=r"thorough.*smoke, standard"):
        Plan.named("thorough")


def test_plans_ask_for_what_their_percentiles_need() -> None:
    """64 samples support p90 and 662 support p99, at 99 % confidence."""
    assert (64, 662) == (Plan.named("smoke").samples_min_count, Plan.named("standard").samples_min_count)


def test_addresses_on_chain_have_one_form() -> None:
    """A transaction hash in capitals would be a second spelling of the same evidence."""
    fields = {"chain_id": 1, "contract": "0x" + "1" * 40, "block_number": 1, "head": LogHead(origin="o", size=1, root="a" * 64)}

    with pytest.raises(ValueError, match="tx_hash"):
        Anchor(**fields, tx_hash="0x" + "A" * 64, block_hash="0x" + "b" * 64)


def test_a_flow_run_names_its_request() -> None:
    """The same run always names the same request, in a form that is safe in paths."""
    assert "r-0123456789ab" == request_id_of("01234567-89ab-cdef-0123-456789abcdef")
