"""Signed requests: everything that is bound, and everything that is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import AccountId, SigningKey, network_id
from node.signing import (
    NONCE_BYTES,
    WINDOW_S,
    BadRequestSignature,
    NonceCache,
    ReplayedRequest,
    RequestFacts,
    TooManyRequests,
    Unsigned,
    authorization,
    check_authorization,
    from_header,
    read_account,
    read_operation,
    to_header,
)

KEY, NODE = SigningKey(b"k" * 32), SigningKey(b"n" * 32)
ACCOUNT = AccountId(b"a" * 32)
NOW_S = 1_700_000_000
FACTS = RequestFacts(
    network_id("test"), NODE.public, "POST", "/v1/models", "a=1", b'{"name":"x"}', b"operation"
)


def signed(facts=FACTS, *, now_s=NOW_S, nonce=b"1" * NONCE_BYTES):
    return authorization(facts, ACCOUNT, KEY, now_s=now_s, nonce=nonce)


def test_a_signed_request_names_its_signer():
    signer = check_authorization(signed(), FACTS, NonceCache(), now_s=NOW_S + 5)
    assert (signer.account, signer.key) == (ACCOUNT, KEY.public)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"}, {"path": "/v1/agents"}, {"query": "a=2"}, {"body": b"{}"},
        {"operation": b"other"}, {"node": KEY.public}, {"network": network_id("main")},
    ],
)  # fmt: skip
def test_a_signature_is_for_one_request_to_one_node(change):
    with pytest.raises(BadRequestSignature):
        check_authorization(signed(), replace(FACTS, **change), NonceCache(), now_s=NOW_S)


@pytest.mark.parametrize("away_s", [WINDOW_S + 1, -WINDOW_S - 1])
def test_an_old_or_future_request_is_refused(away_s):
    with pytest.raises(BadRequestSignature, match="clock"):
        check_authorization(signed(), FACTS, NonceCache(), now_s=NOW_S + away_s)


def test_a_replay_is_refused_for_as_long_as_it_would_be_accepted():
    nonces = NonceCache()
    check_authorization(signed(), FACTS, nonces, now_s=NOW_S - WINDOW_S)
    for now_s in (NOW_S - WINDOW_S, NOW_S, NOW_S + WINDOW_S):
        with pytest.raises(ReplayedRequest):
            check_authorization(signed(), FACTS, nonces, now_s=now_s)


def test_a_forged_request_takes_no_room_in_the_cache():
    nonces = NonceCache()
    with pytest.raises(BadRequestSignature):
        check_authorization(signed(), replace(FACTS, body=b"x"), nonces, now_s=NOW_S)
    assert len(nonces) == 0


def test_the_cache_is_bounded_and_forgets_what_is_over():
    nonces = NonceCache(count_max=2)
    nonces.take(b"1", 100, now_s=90)
    nonces.take(b"2", 110, now_s=90)
    with pytest.raises(TooManyRequests):
        nonces.take(b"3", 110, now_s=95)
    nonces.take(b"3", 170, now_s=105)
    with pytest.raises(ReplayedRequest):
        nonces.take(b"2", 170, now_s=106)


@given(st.text(max_size=200))
def test_garbage_in_headers_is_never_a_crash(text):
    for given_ in (text, f"Hansa {text}"):
        with pytest.raises((Unsigned, BadRequestSignature)):
            check_authorization(given_, FACTS, NonceCache(), now_s=NOW_S)
    with pytest.raises(Unsigned):
        read_operation(text)
    with pytest.raises(Unsigned):
        read_account(text)


@given(st.binary(max_size=300))
def test_headers_carry_any_bytes(raw):
    assert from_header(to_header(raw)) == raw


def test_the_bytes_of_a_request_signature_are_these():
    """Golden: docs/wire.md, Signed HTTP requests."""
    from node.signing import _content, _parse

    signer, _ = _parse(signed()[6:])
    raw = _content(FACTS, signer)
    assert raw[:16].hex() == "9d" + "ad" + b"hansa/request".hex() + "00"
    assert raw[-17:].hex() == "10" + "31" * 16
