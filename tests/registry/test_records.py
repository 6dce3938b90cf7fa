"""Records: every bad field at once, canonical bytes, and bodies from strangers."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes, RecordKind, RemoteFault, decode, encode
from registry import (
    AIAgent,
    AIModel,
    BadRecord,
    InvalidRecord,
    RegistryRules,
    SearchRow,
    content_hash,
    decode_record,
    encode_record,
    projection,
    readable,
    validate,
)
from registry.wire import AGENT_FIELDS, MODEL_FIELDS
from tests.writers import Writer

MODEL, AGENT = RecordKind.MODEL, RecordKind.AGENT
ID = "ab" * 32


def faults(kind: RecordKind = MODEL, **data: Any) -> dict[str, str]:
    with pytest.raises(InvalidRecord) as caught:
        validate(kind, {"name": "x", **data})
    return {problem.field: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("data", "field", "says"),
    [
        ({"name": ""}, "name", "at least 1"),
        ({"name": "a\x00b"}, "name", "control"),
        ({"name": 5}, "name", "string"),
        ({"name": "x" * 129}, "name", "128"),
        ({"version": "1.0"}, "version", "MAJOR.MINOR.PATCH"),
        ({"version": "01.0.0"}, "version", "MAJOR.MINOR.PATCH"),
        ({"description": "\ud800"}, "description", "Unicode"),
        ({"description": "x" * 50_000}, "description", "49152"),
        ({"license": "Foo-1.0"}, "license", "not an SPDX"),
        ({"license": "mit"}, "license", "'MIT'"),
        ({"license": "MIT OR"}, "license", "too early"),
        ({"license": "(MIT"}, "license", "too early"),
        ({"license": "MIT Apache-2.0"}, "license", "AND, OR or WITH"),
        ({"model_type": "llm"}, "model_type", "none of"),
        ({"model_type": {"Other": "LLM"}}, "model_type", "is known"),
        ({"model_type": {"Other": "a", "b": 1}}, "model_type.b", "not a field"),
        ({"parameters": -1}, "parameters", "0"),
        ({"parameters": 2**64}, "parameters", str(2**64 - 1)),
        ({"parameters": 1.0}, "parameters", "integer"),
        ({"parameters": True}, "parameters", "integer"),
        ({"context_length": 2**32}, "context_length", str(2**32 - 1)),
        ({"tags": "chat"}, "tags", "list"),
        ({"tags": ["a", 1]}, "tags[1]", "string"),
        ({"unknown": 1}, "unknown", "not a field"),
        ({"royalty_bps": 10_001}, "royalty_bps", "10000"),
        ({"price": {"input": -1}}, "price.input", "0"),
        ({"price": {"input": 1, "per_request": 1}}, "price", "one way"),
        ({"price": {"input": 1}, "pricing_tier": "free"}, "pricing_tier", "asks for a price"),
        ({"splits": [{"account": "0" * 64}]}, "splits[0].account", "all-zero"),
        ({"splits": [{"account": ID}, {"account": ID}]}, "splits", "2 times"),
        ({"base_models": [{"record": ID, "share_bps": 10_001}]},
         "base_models[0].share_bps", "1000"),
        ({"builds": ["xyz"]}, "builds[0]", "hex"),
        ({"builds": [ID, ID]}, "builds", "twice"),
        ({"dependencies": ["a/b"]}, "dependencies[0]", "owner"),
        ({"segments": ["military"]}, "segments[0]", "none of"),
        ({"regions": ["EU West"]}, "regions[0]", "region"),
        ({"homepage": "javascript:alert(1)"}, "homepage", "URL"),
        ({"status": "gone"}, "status", "none of"),
        ({"model_id": "0" * 64}, "model_id", "all zeroes"),
        ({"owner_id": "me"}, "owner_id", "hex"),
        ({"resource_requirements": {"min_vcpus": 1025}}, "resource_requirements.min_vcpus", "1024"),
        ({"resource_requirements": {"min_vcpus": 8}},
         "resource_requirements.recommended_vcpus", "below"),
        ({"resource_requirements": {"min_vram_gb": 8}},
         "resource_requirements.min_vram_gb", "requires_gpu"),
        ({"parameters": 8 * 10**9, "quantization": "BF16"},
         "resource_requirements.min_memory_mb", "weights"),
    ],
)  # fmt: skip
def test_a_bad_field_is_named_with_its_bound(data: dict[str, Any], field: str, says: str) -> None:
    found = faults(**data)

    assert says in found[field], found


def test_every_bad_field_is_named_at_once_also_those_between_fields() -> None:
    found = faults(
        version="x",
        license="Foo-9",
        tags="a",
        royalty_bps=-1,
        extra=1,
        resource_requirements={"min_vcpus": 4, "min_disk_gb": 30},
    )

    assert set(found) == {
        "version", "license", "tags", "royalty_bps", "extra",
        "resource_requirements.recommended_vcpus", "resource_requirements.recommended_disk_gb",
    }  # fmt: skip


def test_a_deep_value_is_refused_without_being_walked() -> None:
    deep: Any = []
    for _ in range(50_000):
        deep = [deep]

    assert faults(tags=deep)["tags[0]"]
    assert faults(description=deep)["description"]


def test_a_record_of_more_than_64_kib_is_refused_with_the_bound() -> None:
    found = faults(tags=[f"{n:060}" for n in range(500)], description="x" * 40_000)

    assert "65536" in found["record"]


def test_the_ids_are_derived_and_may_be_repeated_but_not_chosen() -> None:
    writer = Writer("ada")
    shown = readable(
        validate(MODEL, {"name": "x"}), record_id=writer.record(), owner=writer.account
    )

    assert validate(MODEL, shown, record=writer.record(), owner=writer.account).name == "x"
    with pytest.raises(InvalidRecord, match="derived"):
        validate(MODEL, shown | {"owner_id": ID}, owner=writer.account)


def test_sets_have_one_spelling() -> None:
    one = validate(MODEL, {"name": "x", "tags": ["b", "a", "b"]})
    other = validate(MODEL, {"name": "x", "tags": ["a", "b"]})

    assert encode_record(one) == encode_record(other)
    assert content_hash(one) == content_hash(other)


def test_every_field_is_on_the_wire() -> None:
    assert set(MODEL_FIELDS) == set(AIModel.model_fields)
    assert set(AGENT_FIELDS) == set(AIAgent.model_fields)


WORDS = st.lists(st.text("abc xyzé", min_size=1, max_size=8).filter(lambda t: t == t.strip()))
RECORDS = st.fixed_dictionaries(
    {"name": st.just("x")},
    optional={
        "tags": WORDS,
        "description": st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        "parameters": st.integers(0, 10**6),
        "created_at": st.integers(-(2**63), 2**63 - 1),
        "model_type": st.sampled_from(["LLM", {"Other": "Speech"}]),
        "quantization": st.sampled_from(["BF16", "GGUF", {"Other": "EXL2"}, None]),
        "price": st.builds(
            lambda i, o: {"output": o, "input": i}, st.integers(0, 10**12), st.integers(0, 10**12)
        ),
        "splits": st.lists(
            st.binary(min_size=32, max_size=32).filter(any).map(lambda b: {"account": b.hex()}),
            unique_by=lambda s: s["account"],
            max_size=3,
        ),
        "resource_requirements": st.just({"recommended_vcpus": 9, "min_vcpus": 3}),
        "homepage": st.just("https://example.org/x"),
    },
)


@given(RECORDS)
def test_encode_and_decode_are_inverse_and_so_is_readable_json(data: dict[str, Any]) -> None:
    record = validate(MODEL, data)
    raw = encode_record(record)

    assert decode_record(MODEL, raw) == record
    assert encode_record(validate(MODEL, readable(record))) == raw
    row = projection(record)
    assert all(-(2**63) <= getattr(row, f.name) < 2**63 for f in dataclass_fields(SearchRow)
               if isinstance(getattr(row, f.name), int))  # fmt: skip


GOOD = encode_record(validate(MODEL, {"name": "x", "tags": ["a", "b"]}))


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_another_record_or_a_remote_fault(at: int, flip: int) -> None:
    raw = bytearray(GOOD)
    raw[at] ^= flip
    try:
        record = decode_record(MODEL, bytes(raw))
    except RemoteFault:
        return
    assert encode_record(record) == bytes(raw) != GOOD


@given(st.binary(max_size=64))
def test_garbage_is_a_remote_fault(raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        decode_record(AGENT, raw)


def _with(at: int, value: Any) -> bytes:
    parts = list(decode(GOOD, bytes_max=65536))
    parts[at] = value
    return encode(parts)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_with(0, 1), id="another schema version"),
        pytest.param(_with(1, 2), id="another kind"),
        pytest.param(_with(2 + 4, ["b", "a"]), id="a set out of order"),
        pytest.param(_with(2 + 4, ["a", "a"]), id="a set with a duplicate"),
        pytest.param(_with(2, ""), id="an empty name"),
        pytest.param(_with(2 + 9, [1, 2]), id="a short price"),
        pytest.param(_with(2 + 9, 5), id="a price that is a number"),
        pytest.param(_with(2 + 21, ["LLM"]), id="a known kind written as another"),
        pytest.param(_with(2 + 21, ["a", "b"]), id="two other kinds"),
        pytest.param(encode(list(decode(GOOD, bytes_max=65536))[:-1]), id="a field too few"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_body_that_is_no_record_is_never_effective(body: bytes) -> None:
    operation = Writer("ada").opened(Writer("ada").put(body))

    with pytest.raises((BadRecord, MalformedBytes)):
        RegistryRules().check_put(operation, body)


def test_an_unknown_licence_stops_the_writer_but_not_the_replica() -> None:
    """Identifiers grow with each SPDX release: an old node must not refuse what a new one takes."""
    record = validate(MODEL, {"name": "x"}).model_copy(update={"license": "Future-7.0"})

    assert decode_record(MODEL, encode_record(record)).license == "Future-7.0"
    assert "license" in faults(license="Future-7.0")
