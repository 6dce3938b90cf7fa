"""The decoders' short cuts change nothing: the same bytes are accepted, with the same meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack  # noqa: TID251 - what crdt/wire.py is held to
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes, RecordKind, RemoteFault, decode
from registry import decode_record, encode_record, validate
from tests.wire.encoding_again import Refused, decode_plainly, decode_record_plainly

BYTES_MAX = 65536
VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("records.json").read_text())
ID, OTHER_ID = "ab" * 32, "cd" * 32
SHARED = {
    "name": "x", "description": "naïve \u05d0", "tags": ["a", "b"], "capabilities": ["chat"],
    "created_at": -5, "price": {"input": 3, "output": 4, "cached_input": 1}, "royalty_bps": 300,
    "splits": [{"account": ID, "weight": 2}, {"account": OTHER_ID}],
    "base_models": [{"record": ID, "share_bps": 5}, {"record": OTHER_ID}],
    "regions": ["eu-west", "us"], "segments": ["general", "medical"], "builds": [OTHER_ID, ID],
    "dependencies": ["abcdef01/x@^1", f"{ID}@1.2.3"], "homepage": "https://example.org/x",
    "framework": {"Other": "Mine"}, "pricing_tier": "paid",
}  # fmt: skip
MODEL = validate(
    RecordKind.MODEL,
    SHARED | {
        "model_type": {"Other": "Speech"}, "quantization": "BF16", "parameters": 2**20,
        "context_length": 1, "resource_requirements": {"requires_gpu": True, "min_vram_gb": 1},
    },
)  # fmt: skip
AGENT = validate(
    RecordKind.AGENT,
    SHARED | {
        "agent_type": "Researcher", "tools": ["t", "u"],
        "compatible_model_types": ["LLM", "Embedding", {"Other": "a"}, {"Other": "b"}],
        "preferred_models": ["abcdef01/y"],
    },
)  # fmt: skip
BARE = validate(RecordKind.MODEL, {"name": "x"})
BODIES = [
    (RecordKind.MODEL, encode_record(MODEL)),
    (RecordKind.MODEL, encode_record(BARE)),
    (RecordKind.AGENT, encode_record(AGENT)),
]

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.integers(-2, 2),
    st.text(max_size=4), st.binary(max_size=4),
    st.sampled_from(["LLM", "general", "paid", "active", ID, "a", "b", ""]),
)  # fmt: skip
BANNED = st.one_of(
    st.floats(),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    st.builds(msgpack.Timestamp, st.integers(0, 2**40), st.integers(0, 10**9 - 1)),
    st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=2),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
ANY = st.recursive(
    SCALARS | BANNED, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8
)


def agree(raw: bytes) -> None:
    try:
        plain = decode_plainly(raw, BYTES_MAX)
    except Refused:
        with pytest.raises(MalformedBytes):
            decode(raw, bytes_max=BYTES_MAX)
    else:
        assert repr(decode(raw, bytes_max=BYTES_MAX)) == repr(plain)


def agree_on_record(kind: RecordKind, body: bytes) -> bool:
    try:
        plain = decode_record_plainly(kind, body)
    except Refused:
        with pytest.raises(RemoteFault):
            decode_record(kind, body)
        return False
    record = decode_record(kind, body)
    assert repr(record) == repr(plain)
    assert encode_record(record) == body
    return True


@given(st.lists(ANY, max_size=5))
def test_any_array(values: list[Any]) -> None:
    agree(msgpack.packb(values))


@given(ANY)
def test_any_value(value: Any) -> None:
    agree(msgpack.packb(value))


@given(st.binary(max_size=40))
def test_any_bytes(raw: bytes) -> None:
    agree(raw)


@given(st.lists(ANY, max_size=5), st.data())
def test_mutated_bytes(values: list[Any], data: st.DataObject) -> None:
    agree(mutated(msgpack.packb(values), data))


@pytest.mark.parametrize("depth", [1, 2, 15, 16, 17, 18, 510, 511, 512, 1024, 5000])
@pytest.mark.parametrize("core", [b"\x90", b"\x91\x01", b"\x92\x90\x01", b"\x91\xcb" + bytes(8)])
def test_depth(depth: int, core: bytes) -> None:
    agree(b"\x91" * (depth - 1) + core)


@pytest.mark.parametrize(
    "long",
    [
        "cc01", "cd0001", "ce00000001", "cf0000000000000001", "d001", "d0ff", "d2ffffffff",
        "d3ffffffffffffffff", "d90161", "da000161", "db0000000161", "c500016f", "c60000000161",
        "dc0000", "dc000101", "dd00000000", "ca3f800000", "cb3ff0000000000000", "d6ff00000000",
        "d7ff0000000000000000", "c70cff000000000000000000000000", "c700ff", "c1", "80", "d40100",
    ],
)  # fmt: skip
def test_longer_spellings_and_banned_types(long: str) -> None:
    agree(b"\x91" + bytes.fromhex(long))
    agree(b"\x91\x91" + bytes.fromhex(long))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["what"])
def test_golden_records(vector: dict[str, Any]) -> None:
    for kind in RecordKind:
        accepted = agree_on_record(kind, bytes.fromhex(vector["bytes"]))
        assert accepted is (kind is RecordKind[vector["kind"]])


@given(st.sampled_from(BODIES), st.data())
def test_mutated_records(body: tuple[RecordKind, bytes], data: st.DataObject) -> None:
    agree_on_record(body[0], mutated(body[1], data))


@given(st.sampled_from(BODIES), st.data())
def test_records_with_another_value_in_a_field(
    body: tuple[RecordKind, bytes], data: st.DataObject
) -> None:
    parts = list(decode(body[1], bytes_max=BYTES_MAX))
    at = data.draw(st.integers(0, len(parts) - 1))
    parts[at] = changed(parts[at], data)
    agree_on_record(body[0], msgpack.packb(parts))


@pytest.mark.parametrize("body", BODIES, ids=["model", "bare", "agent"])
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        1,
        1.0,
        "",
        b"",
        (),
        ((),),
        (None,),
        (1, 2),
        ("a", "a"),
        ("b", "a"),
        ("a", 1.0),
        msgpack.Timestamp(0),
        (((((((((((((((((((),),),),),),),),),),),),),),),),),),),
    ],
    ids=repr,
)
def test_every_field_with_what_looks_alike(body: tuple[RecordKind, bytes], value: Any) -> None:
    """False equals 0, True equals 1, and () is as false as None: none may pass for the other."""
    parts = decode(body[1], bytes_max=BYTES_MAX)
    for at, part in enumerate(parts):
        agree_on_record(body[0], msgpack.packb([*parts[:at], value, *parts[at + 1 :]]))
        for inner in range(len(part) if type(part) is tuple else 0):
            changed_part = (*part[:inner], value, *part[inner + 1 :])
            agree_on_record(body[0], msgpack.packb([*parts[:at], changed_part, *parts[at + 1 :]]))


def mutated(raw: bytes, data: st.DataObject) -> bytes:
    """Return `raw` with some bytes replaced, left out, doubled or put in."""
    changed_raw = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(changed_raw)))
        changed_raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    return bytes(changed_raw)


def changed(value: Any, data: st.DataObject) -> Any:
    """Return another value: any at all, or an array with its parts moved, doubled or changed."""
    if type(value) is not tuple or not value or data.draw(st.booleans()):
        return data.draw(VALUES)
    match data.draw(st.integers(0, 3)):
        case 0:
            return tuple(data.draw(st.permutations(value)))
        case 1:
            return (*value, data.draw(st.sampled_from(value)))
        case 2:
            return (*value, data.draw(VALUES))
        case _:
            at = data.draw(st.integers(0, len(value) - 1))
            return (*value[:at], changed(value[at], data), *value[at + 1 :])
