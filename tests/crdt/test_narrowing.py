"""Ranges of a set, asked for until nothing is left to ask, and what a peer can make of that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crdt.reconcile.narrowing
from crdt import ItemId, MalformedBytes, sha3
from crdt.frames import decode_request, encode_request
from crdt.ids import NetworkId
from crdt.reconcile.frames import (
    AskRanges,
    Hashed,
    Held,
    Listed,
    Part,
    Take,
    decode_ranged,
    encode_ranged,
)
from crdt.reconcile.idset import IdSet, digest_of, merged, without
from crdt.reconcile.keys import (
    DEPTH_MAX,
    LIST_COUNT_MAX,
    RANGE_COUNT_MAX,
    TooDifferent,
    comparison_key,
)
from crdt.reconcile.narrowing import Narrowing
from crdt.reconcile.ranges import Ranges, all_starts, parts_of, taken

NETWORK = NetworkId(sha3(b"network"))
KEY = comparison_key(NETWORK, b"a" * 16, b"b" * 16)
NONCE = b"n" * 16
HELD = Held(b"e" * 16, 7, 3, b"d" * 16)
# Ids that begin alike for two, seven or eight bytes: some of these ranges cannot be cut small.
IDS = st.sets(
    st.binary(min_size=32, max_size=32)
    | st.binary(min_size=30, max_size=30).map(lambda rest: b"ab" + rest)
    | st.binary(min_size=1, max_size=2).map(lambda last: b"1234567" + last.rjust(25, b"\0"))
    | st.binary(min_size=1, max_size=1).map(lambda last: bytes(31) + last),
    max_size=120,
)
Lie = Callable[[Part], Part]


def ids_of(numbers: Iterable[int]) -> list[ItemId]:
    return [ItemId(sha3(b"%d" % number)) for number in numbers]


def ranges_of(ids: Iterable[bytes]) -> Ranges:
    return Ranges.of(IdSet(b"".join(ids)).rows())


def narrowed(
    mine: Ranges, theirs: Ranges, *, depth: int = 0, lie: Lie | None = None
) -> tuple[Narrowing, list[ItemId], int]:
    """Play both sides over real frames; return what came and how many requests that took."""
    narrowing = Narrowing(mine, KEY, depth=depth)
    got: list[ItemId] = []
    requests = 0
    while (request := narrowing.ask(NONCE, 7 if requests else 0)) is not None:
        requests += 1
        arrived = decode_request(encode_request(request, NETWORK), NETWORK)
        assert arrived == request
        if isinstance(arrived, AskRanges):
            parts, _ = parts_of(theirs, KEY, arrived.depth, arrived.starts)
            told = [lie(part) for part in parts] if lie else parts
            answer = decode_ranged(encode_ranged(HELD, told, NETWORK), NETWORK)
            assert answer.held == HELD
            narrowing.told(answer.parts)
        else:
            assert isinstance(arrived, Take)
            ids, absent = taken(theirs, KEY, arrived.depth, arrived.places)
            narrowing.came(ids, absent)
            got += ids
    return narrowing, got, requests


def until_it_raises(step: Callable[[], None]) -> None:
    """Do the same again and again, but not for ever."""
    for _ in range(1000):
        step()


def deep_crowds(*sides: set[bytes]) -> bool:
    """Whether more ids than are listed share their first fifteen steps, which hashes never do."""
    return any(
        sum(other[:7] == id_[:7] and other[7] >> 4 == id_[7] >> 4 for other in side)
        > LIST_COUNT_MAX
        for side in sides
        for id_ in side
    )


@settings(max_examples=100, deadline=None)
@given(IDS, IDS, IDS, st.integers(0, 3))
def test_ranges_name_exactly_what_one_side_has(
    both: set[bytes], mine: set[bytes], theirs: set[bytes], depth: int
) -> None:
    left, right = both | mine, both | theirs
    if deep_crowds(left, right):
        return
    narrowing, got, _ = narrowed(ranges_of(left), ranges_of(right), depth=depth)
    assert sorted(got) == sorted(right - left)
    assert sorted(narrowing.ours) == sorted(left - right)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 6000), st.integers(0, 1500), st.integers(0, 1500), st.sampled_from([0, 1, 2]))
def test_any_number_of_differences_is_found_and_the_digest_says_so(
    shared: int, mine: int, theirs: int, depth: int
) -> None:
    both, ours = ids_of(range(shared)), ids_of(range(-mine, 0))
    others = ids_of(range(9000, 9000 + theirs))
    left, right = ranges_of(both + ours), ranges_of(both + others)

    narrowing, got, _ = narrowed(left, right, depth=depth)

    assert sorted(got) == sorted(others)
    assert sorted(narrowing.ours) == sorted(ours)
    rows = merged(without(left.rows, narrowing.ours), got)
    assert digest_of(rows, KEY) == digest_of(right.rows, KEY)


def test_equal_sets_take_one_request_and_ten_differences_in_many_few_more() -> None:
    both = ids_of(range(30_000))
    same = ranges_of(both)
    assert narrowed(same, same)[2] == 1
    few = ranges_of(both[:-10])
    narrowing, got, requests = narrowed(few, same)
    assert (sorted(got), narrowing.ours) == (sorted(both[-10:]), [])
    assert requests <= 6
    assert narrowed(same, few)[0].ours == sorted(both[-10:])


def test_a_crowd_that_nothing_tells_apart_is_told_in_part_and_the_digest_shows_it() -> None:
    """Whoever made 2**65 hashes for it gets his peers to read each other by cursor."""
    crowd = [b"12345678" + bytes(22) + number.to_bytes(2, "big") for number in range(100)]
    left, right = ranges_of(crowd[:10]), ranges_of(crowd)
    narrowing, got, requests = narrowed(left, right)
    assert requests <= DEPTH_MAX + 2
    assert len(got) < 90
    rows = merged(without(left.rows, narrowing.ours), got)
    assert digest_of(rows, KEY) != digest_of(right.rows, KEY)


def test_parts_are_the_hashes_of_the_ids_that_begin_alike_and_nothing_else() -> None:
    """Said once more in the plainest way, one id at a time."""
    from blake3 import blake3

    ids = sorted(ids_of(range(3000)))
    parts, hashed = parts_of(ranges_of(ids), KEY, 1, list(all_starts(1)))
    for nibble, part in enumerate(parts):
        mine = [id_ for id_ in ids if id_[0] >> 4 == nibble]
        assert isinstance(part, Hashed)
        assert part.hashes == tuple(
            blake3(b"".join(id_ for id_ in mine if id_[0] & 15 == low), key=KEY.raw).digest(8)
            for low in range(16)
        )
    assert hashed == 3000


def test_the_last_range_ends_with_the_last_id_there_can_be() -> None:
    last, first = ItemId(b"\xff" * 32), ItemId(bytes(32))
    ranges = ranges_of([first, last])
    for depth in range(DEPTH_MAX + 1):
        starts = all_starts(depth)
        assert ranges.bounds(depth, [starts[0], starts[-1]])[0][0] == 0
        assert ranges.bounds(depth, [starts[-1]])[0][1] == 2


# A peer that lies


def noise(part: Part) -> Part:
    rng = random.Random(repr(part))
    return Hashed(tuple(rng.randbytes(8) for _ in range(16)))


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> int:
    """The bounds, low enough to be reached in a moment."""
    for name in ("ASKED_COUNT_MAX", "FOUND_COUNT_MAX"):
        assert vars(crdt.reconcile.narrowing)[name] == 2**17
        monkeypatch.setattr(crdt.reconcile.narrowing, name, 2**11)
    return 2**11


@pytest.mark.usefixtures("fewer")
def test_a_peer_that_cuts_for_ever_comes_to_an_end() -> None:
    with pytest.raises((TooDifferent, MalformedBytes)):
        narrowed(ranges_of(ids_of(range(100))), ranges_of([]), lie=noise)


def test_a_peer_whose_ranges_all_differ_is_not_asked_without_end(fewer: int) -> None:
    """However it lies, each range is asked for once, and at most so many."""
    narrowing = Narrowing(ranges_of([]), KEY, depth=0)
    asked: list[tuple[int, int]] = []
    cut = Hashed(tuple(b"%08d" % number for number in range(16)))

    def asked_and_told() -> None:
        request = narrowing.ask(NONCE, 1)
        assert isinstance(request, AskRanges)
        assert len(request.starts) <= RANGE_COUNT_MAX
        asked.extend((request.depth, start) for start in request.starts)
        # All differ down to depth 6; there, nothing is held.
        narrowing.told([cut if request.depth < 6 else Listed(())] * len(request.starts))

    with pytest.raises(TooDifferent):
        until_it_raises(asked_and_told)
    assert len(set(asked)) == len(asked) <= fewer


def test_a_range_cut_below_the_deepest_is_malformed() -> None:
    narrowing = Narrowing(ranges_of([]), KEY, depth=0)
    one = Hashed((b"differs!", *narrowing._mine.hashed(0, 0, KEY).hashes[1:]))

    def asked_and_told() -> None:
        request = narrowing.ask(NONCE, 1)
        assert isinstance(request, AskRanges)
        narrowing.told([one] * len(request.starts))

    with pytest.raises(MalformedBytes, match="once more"):
        until_it_raises(asked_and_told)


def test_ids_that_do_not_exist_are_not_waited_for() -> None:
    narrowing = Narrowing(ranges_of([]), KEY, depth=0)
    narrowing.ask(NONCE, 0)
    narrowing.told([Listed((3, 5))])
    request = narrowing.ask(NONCE, 1)
    assert request == Take(NONCE, 0, ((0, 3), (0, 5)))
    with pytest.raises(TooDifferent):
        narrowing.came([], [3, 5])


def test_what_was_not_asked_for_is_malformed() -> None:
    theirs = ids_of(range(4))
    ranges = ranges_of(theirs)

    def asked() -> Narrowing:
        narrowing = Narrowing(ranges_of([]), KEY, depth=0)
        narrowing.ask(NONCE, 0)
        narrowing.told(parts_of(ranges, KEY, 0, [0])[0])
        assert isinstance(narrowing.ask(NONCE, 1), Take)
        return narrowing

    for ids, absent in (
        (ids_of([99]), []),  # another item
        ([], [12345]),  # another's absence
        ([], []),  # nothing
        ([theirs[0], theirs[0]], []),  # one twice
    ):
        with pytest.raises(MalformedBytes):
            asked().came(ids, absent)
    narrowing = asked()
    narrowing.came(theirs[:3], [])
    narrowing.ask(NONCE, 1)
    with pytest.raises(MalformedBytes):
        narrowing.came(theirs[:1], [])  # once more
    # and too many or too few ranges
    for count in (0, 2):
        narrowing = Narrowing(ranges_of([]), KEY, depth=0)
        narrowing.ask(NONCE, 0)
        with pytest.raises(MalformedBytes):
            narrowing.told([Listed(())] * count)


def test_an_id_that_is_listed_where_it_cannot_be_is_not_taken() -> None:
    id_ = ids_of([1])[0]
    wrong = next(at for at in range(16) if at != id_[0] >> 4)
    ((short,),) = [ranges_of([id_]).marks(0, 1, KEY)]
    narrowing = Narrowing(ranges_of([]), KEY, depth=1)
    narrowing.ask(NONCE, 0)
    parts: list[Part] = [Listed((short,)) if at == wrong else Listed(()) for at in range(16)]
    narrowing.told(parts)
    assert narrowing.ask(NONCE, 1) == Take(NONCE, 1, ((wrong << 60, short),))
    with pytest.raises(MalformedBytes, match="another range"):
        narrowing.came([id_], [])
    twice = Narrowing(ranges_of([]), KEY, depth=1)
    twice.ask(NONCE, 0)
    with pytest.raises(MalformedBytes, match="two ranges"):
        twice.told([Listed((short,))] * 16)


def test_too_many_ids_of_one_side_are_left_to_the_cursor(fewer: int) -> None:
    ours = [ItemId(number.to_bytes(4, "big") * 8) for number in range(0, 2**32, 2**20)]
    narrowing = Narrowing(ranges_of(ours), KEY, depth=2)
    requests = 0

    def asked_and_told() -> None:
        nonlocal requests
        requests += 1
        request = narrowing.ask(NONCE, 1)
        assert isinstance(request, AskRanges)
        narrowing.told([Listed(())] * len(request.starts))

    with pytest.raises(TooDifferent):
        until_it_raises(asked_and_told)
    assert requests == 1
    assert len(ours) > fewer


def test_frames_of_ranges_out_of_order_are_malformed() -> None:
    size = 1 << 60
    for starts in ((size, 0), (0, 0), (1,), (size // 2,)):
        raw = encode_request(AskRanges(NONCE, 0, 1, starts), NETWORK)
        with pytest.raises(MalformedBytes):
            decode_request(raw, NETWORK)
    for places in (((size, 5), (0, 5)), ((0, 5), (0, 5)), ((0, 6), (0, 5)), ((1, 5),)):
        raw = encode_request(Take(NONCE, 1, places), NETWORK)
        with pytest.raises(MalformedBytes):
            decode_request(raw, NETWORK)
    for part in (Listed((3, 3)), Listed(tuple(range(33))), Hashed((b"8 bytes.",) * 15)):
        with pytest.raises(MalformedBytes):
            decode_ranged(encode_ranged(HELD, [part], NETWORK), NETWORK)
    raw = encode_ranged(HELD, [Listed((3, 5))], NETWORK)
    marks = [number.to_bytes(8, "little") for number in (3, 5)]
    with pytest.raises(MalformedBytes, match="ascending"):
        decode_ranged(raw.replace(b"".join(marks), b"".join(reversed(marks))), NETWORK)
    with pytest.raises(MalformedBytes, match="kind"):
        decode_ranged(raw.replace(b"\x01" + marks[0], b"\x02" + marks[0]), NETWORK)


def test_taking_looks_through_no_more_than_a_list() -> None:
    """A place in a range as wide as the whole set costs no more than any other."""
    ids = ids_of(range(5000))
    ranges = ranges_of(ids)
    last = ranges.marks(4999, 5000, KEY)
    found, absent = taken(ranges, KEY, 0, [(0, last[0])])
    assert (found, absent) == ([], last)
    assert np.array_equal(ranges.firsts, np.sort(ranges.firsts))
