"""Grants alone: what is signed is what is admitted, once, until it expires; nothing else is."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import NetworkId, RemoteFault, SigningKey, encode, peer_id_of
from node.peer import (
    GrantRefused,
    GrantReplayed,
    GrantVerifier,
    ReplayCache,
    make_grant,
    open_grant,
)
from node.peer.grants import LIFE_S, WINDOW_S

CALLER = SigningKey(b"\x02" * 32)
SERVER = SigningKey(b"\x01" * 32)
NETWORK = NetworkId(b"\xaa" * 32)
NOW = 1_000_000


def grant(**changes: Any) -> str:
    facts: dict[str, Any] = {
        "key": CALLER, "network": NETWORK, "server": SERVER.public, "purpose": "GET /peer/v1/x",
        "body": b"", "now_s": NOW, "nonce": b"n" * 16, **changes,
    }  # fmt: skip
    return make_grant(**facts)


def verifier() -> GrantVerifier:
    return GrantVerifier(NETWORK, SERVER.public)


def test_a_grant_admits_its_caller_once() -> None:
    judge = verifier()
    header = grant()
    assert judge.check(header, "GET /peer/v1/x", b"", now_s=NOW) == peer_id_of(CALLER.public)
    with pytest.raises(GrantReplayed):
        judge.check(header, "GET /peer/v1/x", b"", now_s=NOW + 1)


@pytest.mark.parametrize("late", [0, 1, LIFE_S - 1])
def test_a_replay_is_refused_as_long_as_the_grant_lives(late: int) -> None:
    judge = verifier()
    header = grant(now_s=NOW + LIFE_S)  # from a clock that is a minute ahead
    judge.check(header, "GET /peer/v1/x", b"", now_s=NOW)
    for number in range(3):  # others come meanwhile, so generations change places
        other = grant(now_s=NOW + late, nonce=bytes([number]) * 16)
        judge.check(other, "GET /peer/v1/x", b"", now_s=NOW + late)
    with pytest.raises(GrantReplayed):
        judge.check(header, "GET /peer/v1/x", b"", now_s=NOW + late)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no Hansa-Grant"),
        ("", "not a valid grant"),
        ("ä", "not a valid grant"),
        ("A" * 9000, "too long"),
        (grant(network=NetworkId(b"\xbb" * 32)), "another network"),
        (grant(server=CALLER.public), "another server"),
        (grant(purpose="POST /peer/v1/x"), "is for 'POST"),
        (grant(purpose="GET /peer/v1/x?y=1"), "is for 'GET /peer/v1/x\\?y"),
        (grant(body=b"x"), "another request body"),
        (grant(now_s=NOW - LIFE_S), "expires at"),
        (grant(now_s=NOW + LIFE_S + 1), "expires at"),
    ],
)
def test_a_grant_for_anything_else_is_refused(header: str | None, message: str) -> None:
    with pytest.raises(GrantRefused, match=message):
        verifier().check(header, "GET /peer/v1/x", b"", now_s=NOW)


@given(st.integers(0, 400), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_refused(at: int, bit: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(grant() + "=" * (-len(grant()) % 4)))
    raw[at % len(raw)] ^= 1 << bit
    header = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(RemoteFault):
        open_grant(header)


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200).map(lambda raw: raw.hex())))
def test_garbage_is_refused(header: str) -> None:
    with pytest.raises(GrantRefused):
        verifier().check(header, "GET /peer/v1/x", b"", now_s=NOW)


@pytest.mark.parametrize(
    "value",
    [
        [], [b"", b""], [b"x", b"y" * 64], [1, b"y" * 64], [encode([1] * 9), b"y" * 64],
        [encode(["hansa/grant", 1, *[b""] * 7]), b"y" * 64], ["x" * 10, b"y" * 64, 3],
    ],
)  # fmt: skip
def test_another_shape_is_refused(value: Any) -> None:
    header = base64.urlsafe_b64encode(encode(value)).rstrip(b"=").decode()
    with pytest.raises(RemoteFault):
        open_grant(header)


def test_a_full_cache_refuses_and_never_forgets() -> None:
    cache = ReplayCache(count_max=3)
    assert [cache.take(bytes([n]), now_s=NOW) for n in range(5)] == [True, True, True, False, False]
    assert not cache.take(b"\x00", now_s=NOW)
    assert cache.take(b"\x09", now_s=NOW + WINDOW_S)
    assert not cache.take(b"\x00", now_s=NOW + WINDOW_S)
    assert cache.take(b"\x00", now_s=NOW + 3 * WINDOW_S)
    assert len(cache) <= 6


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), max_size=60))
def test_a_nonce_is_never_taken_twice_within_its_window(steps: list[tuple[int, int]]) -> None:
    cache = ReplayCache()
    now = NOW
    taken: dict[int, int] = {}
    for nonce, wait in steps:
        now += wait
        accepted = cache.take(bytes([nonce]), now_s=now)
        if accepted:
            assert nonce not in taken or now - taken[nonce] >= WINDOW_S
            taken[nonce] = now
