"""Comparing two replicas: sets, sketches, and what a peer that lies can do."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.diff import compare
from crdt import ItemId, MalformedBytes, PeerId, answered_items, sha3
from crdt.frames import decode_request, encode_caught_up, encode_fetched, encode_request
from crdt.ids import NetworkId
from crdt.reconcile.comparing import Answers, Comparison
from crdt.reconcile.frames import AskSketch, Compare, Held, Pick, encode_compared, encode_picked
from crdt.reconcile.idset import IdSet, digest_of, merged, without
from crdt.reconcile.keys import CELL_COUNT_MAX, TooDifferent, comparison_key
from crdt.reconcile.sketches import (
    apart,
    cells_for,
    estimated,
    joined,
    short_of,
    shorts_of,
    signs_of,
    sketch,
    unpack_cells,
)
from tests.writers import NETWORK as WRITERS
from tests.writers import Writer

NETWORK = NetworkId(sha3(b"network"))
KEY = comparison_key(NETWORK, b"a" * 16, b"b" * 16)
PEER = PeerId("peer")
# Ids that begin alike are what a set of hashes need not expect, and must get right.
IDS = st.sets(
    st.binary(min_size=32, max_size=32)
    | st.binary(min_size=1, max_size=1).map(lambda last: bytes(31) + last)
    | st.binary(min_size=24, max_size=24).map(lambda rest: b"12345678" + rest),
    max_size=40,
)


def ids_of(numbers: Iterable[int]) -> list[ItemId]:
    return [ItemId(sha3(b"%d" % number)) for number in numbers]


def set_of(ids: Iterable[bytes]) -> IdSet:
    return IdSet(b"".join(ids))


def rows_in(ids: IdSet) -> list[bytes]:
    return [row.tobytes() for row in ids.rows()]


@given(IDS, IDS, IDS)
def test_a_set_is_sorted_and_holds_each_id_once(
    first: set[bytes], added: set[bytes], gone: set[bytes]
) -> None:
    ids = set_of([*first, *first])
    ids.add(map(ItemId, added))
    ids.discard(map(ItemId, gone & (first | added)))
    assert rows_in(ids) == sorted((first | added) - gone)
    ids.add(map(ItemId, gone))
    assert rows_in(ids) == sorted(first | added | gone)


@given(IDS, IDS)
def test_what_is_taken_out_and_put_back_gives_the_same_digest(
    ids: set[bytes], others: set[bytes]
) -> None:
    rows = set_of(ids | others).rows()
    assert rows_in(set_of(ids - others)) == [row.tobytes() for row in without(rows, others)]
    again = merged(without(rows, others), others)
    assert digest_of(again, KEY) == digest_of(rows, KEY)


@given(IDS, IDS)
def test_digests_are_equal_just_when_the_sets_are(one: set[bytes], other: set[bytes]) -> None:
    equal = digest_of(set_of(one).rows(), KEY) == digest_of(set_of(other).rows(), KEY)
    assert equal == (one == other)


@settings(max_examples=60)
@given(st.integers(0, 3000), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**32))
def test_a_sketch_names_exactly_what_one_side_has(
    shared: int, mine: int, theirs: int, salt: int
) -> None:
    key = comparison_key(NETWORK, salt.to_bytes(16, "big"), b"b" * 16)
    both, a, b = ids_of(range(shared)), ids_of(range(-mine, 0)), ids_of(range(9000, 9000 + theirs))
    left, right = shorts_of(set_of(both + a).rows(), key), shorts_of(set_of(both + b).rows(), key)
    count = 40 + 3 * (mine + theirs)

    found = apart(sketch(left, key, count), sketch(right, key, count), key)

    assert found == ({short_of(id_, key) for id_ in a}, {short_of(id_, key) for id_ in b})


def test_cells_go_on_where_they_stopped() -> None:
    shorts = shorts_of(set_of(ids_of(range(500))).rows(), KEY)
    whole = sketch(shorts, KEY, 100)
    parts = joined(unpack_cells(sketch(shorts, KEY, 40).pack()), unpack_cells(whole.pack(40)))
    assert parts.pack() == whole.pack()


def test_the_cells_of_a_short_id_are_the_same_by_numpy_and_by_hand() -> None:
    empty = np.zeros(0, np.uint64)
    for number in range(200):
        short = shorts_of(set_of(ids_of([number])).rows(), KEY)
        found = apart(sketch(short, KEY, 300), sketch(empty, KEY, 300), KEY)
        assert found == ({int(short[0])}, set())


@pytest.mark.parametrize("difference", [10, 100, 1000])
def test_the_estimate_and_its_margin_are_enough_as_a_rule(difference: int) -> None:
    both, apart_ = ids_of(range(5000)), ids_of(range(9000, 9000 + difference))
    left, right = set_of(both + apart_[::2]).rows(), set_of(both + apart_[1::2]).rows()
    enough = 0
    for salt in range(40):
        key = comparison_key(NETWORK, salt.to_bytes(16, "big"), b"b" * 16)
        mine, theirs = shorts_of(left, key), shorts_of(right, key)
        count = cells_for(estimated(signs_of(mine, key), signs_of(theirs, key)))
        enough += apart(sketch(mine, key, count), sketch(theirs, key, count), key) is not None
    assert enough >= 32


@given(st.binary(max_size=14 * 64), st.integers(0, 50))
def test_cells_that_are_no_sketch_come_to_an_end(raw: bytes, count: int) -> None:
    raw = raw[: len(raw) // 14 * 14]
    if not raw:
        with pytest.raises(MalformedBytes):
            unpack_cells(raw)
        return
    theirs = unpack_cells(raw)
    shorts = shorts_of(set_of(ids_of(range(count))).rows(), KEY)
    found = apart(sketch(shorts, KEY, len(theirs)), theirs, KEY)
    assert found is None or len(found[0]) + len(found[1]) <= len(theirs)


class Side:
    """One that answers, with a store that can change between answers."""

    def __init__(self, ids: Iterable[ItemId]) -> None:
        self.ids = set_of(ids)
        self.answers = Answers(NETWORK, b"s" * 32)

    @property
    def held(self) -> Held:
        return Held(b"e" * 16, 7, 0, b"")


def request_of(frame: Compare | AskSketch | Pick) -> Compare | AskSketch | Pick:
    """What arrives of a request."""
    arrived = decode_request(encode_request(frame, NETWORK), NETWORK)
    assert arrived == frame
    assert isinstance(arrived, Compare | AskSketch | Pick)
    return arrived


def missing_here(mine: IdSet, side: Side) -> tuple[Comparison, set[int]]:
    """Compare, up to what is to be picked."""
    comparison = Comparison(b"n" * 16, NETWORK)
    first = request_of(comparison.ask())
    assert isinstance(first, Compare)
    answer = side.answers.compare(PEER, first, side.held, side.ids.rows())
    request: AskSketch | Pick | None = comparison.compared(answer, mine)
    while isinstance(request, AskSketch):
        request_of(request)
        cells = side.answers.sketch(PEER, request, side.held, side.ids.rows())
        request = comparison.sketched(cells, mine)
    return comparison, set(request.shorts) if request else set()


@settings(max_examples=40)
@given(st.integers(0, 2000), st.integers(0, 80), st.integers(0, 80))
def test_two_sides_find_what_one_lacks(shared: int, mine: int, theirs: int) -> None:
    both, ours = ids_of(range(shared)), ids_of(range(-mine, 0))
    others = ids_of(range(9000, 9000 + theirs))
    side = Side(both + others)

    comparison, shorts = missing_here(set_of(both + ours), side)

    assert len(shorts) == theirs
    assert set(comparison.ours) == set(ours) or not theirs + mine
    if shorts:
        request = request_of(Pick(comparison.nonce, tuple(sorted(shorts))))
        assert isinstance(request, Pick)
        ids, absent = side.answers.picked(PEER, request, side.ids.rows())
        assert (sorted(ids), absent) == (sorted(others), [])
        assert not comparison.is_whole()
        comparison.got += ids
    assert comparison.is_whole()


def test_too_great_a_difference_is_left_to_the_cursor() -> None:
    with pytest.raises(TooDifferent):
        missing_here(set_of(ids_of([1])), Side(ids_of(range(CELL_COUNT_MAX))))
    # By the counts alone it does not show; by the signs it does.
    some, others = ids_of(range(9000)), ids_of(range(9000, 18_000))
    with pytest.raises(TooDifferent):
        missing_here(set_of(some), Side(others))


def test_too_few_cells_are_followed_by_more() -> None:
    both, theirs = ids_of(range(100)), ids_of(range(1000, 1300))
    side, mine = Side(both + theirs), set_of(both)
    comparison = Comparison(b"n" * 16, NETWORK)
    answer = side.answers.compare(PEER, comparison.ask(), side.held, side.ids.rows())
    request = comparison.compared(answer, mine)
    assert request is not None
    rows = side.ids.rows()
    few = AskSketch(request.nonce, b"", 0, 20)
    more = comparison.sketched(side.answers.sketch(PEER, few, side.held, rows), mine)
    sizes = [20]
    while isinstance(more, AskSketch):
        assert more.first == sizes[-1]
        sizes.append(more.count)
        try:
            more = comparison.sketched(side.answers.sketch(PEER, more, side.held, rows), mine)
        except TooDifferent:
            break
    assert sizes == [20, 38, 65]


def test_nonces_are_the_answerers_own_and_no_other_peers() -> None:
    side = Side(ids_of(range(5)))
    mine = side.answers.nonce(PEER, b"n" * 16)
    assert mine != side.answers.nonce(PeerId("other"), b"n" * 16)
    assert mine != Answers(NETWORK, b"t" * 32).nonce(PEER, b"n" * 16)


def test_what_it_takes_is_counted_in_bytes() -> None:
    """The bounds of the page, for what a test can make; `python -m bench diff` has a million."""
    for difference, bytes_max in ((0, 300), (10, 1024 + 256), (1000, 40 * 1024)):
        figures = compare(20_000, difference, salt=3)
        assert figures.missing == difference // 2
        assert figures.size <= bytes_max
        assert figures.rounds <= 4


def test_the_items_of_every_answer_are_found_by_who_looks_before_it_is_judged() -> None:
    item = Writer("ann").genesis
    held = Held(b"e" * 16, 1, 1, b"d" * 16)
    page = encode_caught_up(
        network=WRITERS, epoch=b"e" * 16, next_n=1, last_n=1, done=True, raws=[item.raw]
    )
    for raw in (
        page,
        encode_fetched([item.raw], [], WRITERS),
        encode_picked([item.raw], [], WRITERS),
    ):
        assert answered_items(raw, WRITERS) == (item,)
    with pytest.raises(MalformedBytes):
        answered_items(encode_compared(b"n" * 16, held, WRITERS), WRITERS)
