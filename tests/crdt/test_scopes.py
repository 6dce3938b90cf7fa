"""Scopes: what is in them, how two are put together, and their bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import EVERYTHING, OWNER_COUNT_MAX, AccountId, MalformedBytes, PeerId, RecordKind
from crdt.frames import decode_request, encode_request
from crdt.operations import parse_operation
from crdt.partial import UNWANTED_COUNT_MAX, Partial
from crdt.scopes import Scope, decode_scoped, encode_scoped
from crdt.wire import encode
from tests.wire.hexdump import hexdump
from tests.writers import NETWORK, Writer

ANN, BEN = Writer("ann"), Writer("ben")
OWNERS = [AccountId(bytes([number]) * 32) for number in range(4)]
SCOPES = st.builds(
    Scope,
    st.sets(st.sampled_from(RecordKind), min_size=1).map(frozenset),
    st.none() | st.sets(st.sampled_from(OWNERS), min_size=1).map(frozenset),
)

SCOPE = hexdump("""
    95  # array of 5
    a5 73 63 6f 70 65  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    02  # agents
    91 c4 20 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01 01  # one owner
    01 01 01 01 01 01 01 01 01 01 01
""")
SCOPED = hexdump("""
    95  # array of 5
    a6 73 63 6f 70 65 64  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    03  # models and agents
    90  # of all owners
""")


def test_golden_bytes() -> None:
    scope = Scope(frozenset([RecordKind.AGENT]), frozenset([OWNERS[1]]))
    assert encode_request(scope, NETWORK) == SCOPE
    assert decode_request(SCOPE, NETWORK) == scope
    assert encode_scoped(EVERYTHING, NETWORK) == SCOPED
    assert decode_scoped(SCOPED, NETWORK) == EVERYTHING


@given(SCOPES)
def test_what_is_said_is_understood(scope: Scope) -> None:
    assert decode_request(encode_request(scope, NETWORK), NETWORK) == scope
    assert decode_scoped(encode_scoped(scope, NETWORK), NETWORK) == scope


@given(SCOPES, SCOPES)
def test_two_scopes_together_want_what_both_want(one: Scope, other: Scope) -> None:
    both = one.both(other)
    for writer in (ANN, BEN):
        for kind in RecordKind:
            subject = parse_operation(writer.put(kind=kind), NETWORK)
            for owner in OWNERS:
                asked = subject._replace(account=owner)
                assert both.wants(asked) == (one.wants(asked) and other.wants(asked))
    assert one.both(EVERYTHING) == EVERYTHING.both(one) == one.both(one) == one
    assert (one.name() == other.name()) == (one == other)


@pytest.mark.parametrize(
    "fields",
    [
        [0, []],
        [4, []],
        [1, [OWNERS[1], OWNERS[0]]],
        [1, [OWNERS[1], OWNERS[1]]],
        [1, [b"short"]],
        [1, [bytes([1, number]) * 16 for number in range(256)] + [b"z" * 32]],
        [1],
        [1, [], 0],
        [True, []],
    ],
)
def test_a_scope_that_is_none_is_malformed(fields: list[object]) -> None:
    assert OWNER_COUNT_MAX == 256
    for tag, decoder in (("scope", decode_request), ("scoped", decode_scoped)):
        with pytest.raises(MalformedBytes):
            decoder(encode([tag, 0, NETWORK, *fields]), NETWORK)  # type: ignore[list-item]


def test_what_was_left_is_remembered_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    partial = Partial(NETWORK, Scope(owners=frozenset([ANN.account])))
    mine, other = ANN.put(), BEN.put()
    assert list(partial.wanted([ANN.genesis, BEN.genesis, mine, other])) == [
        ANN.genesis,
        BEN.genesis,
        mine,
    ]
    assert partial.without_unwanted([mine.id, other.id]) == {mine.id}
    assert UNWANTED_COUNT_MAX >= 10_000
    monkeypatch.setattr("crdt.partial.UNWANTED_COUNT_MAX", 5)
    partial.wanted([BEN.put(b"%d" % number) for number in range(9)])
    assert len(partial._unwanted) == 5


def test_cursors_of_two_scopes_are_two() -> None:
    peer = PeerId("peer")
    names = {
        Partial(NETWORK, scope).cursor_name(peer)
        for scope in (EVERYTHING, Scope(frozenset([RecordKind.AGENT])), Scope(owners=None))
    }
    assert len(names) == 2
    assert peer in names
