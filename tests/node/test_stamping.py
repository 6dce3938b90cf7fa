"""Finding stamps in threads: those found are good, and a search that is stopped ends."""

from __future__ import annotations

from crdt import STAMP_BYTES, WorkRule, is_good_stamp, stamp_bytes
from node.stamping import StampSearch

CHALLENGE = bytes(32)


def test_a_stamp_that_is_found_does_the_work() -> None:
    rule = WorkRule(3)
    with StampSearch(CHALLENGE, rule) as search:
        stamp = search.wait()
    assert stamp is not None
    assert len(stamp) == STAMP_BYTES
    assert is_good_stamp(CHALLENGE, stamp, rule.bits)


def test_one_thread_finds_the_first_there_is_so_a_lost_stamp_is_found_again() -> None:
    rule = WorkRule(2)
    first = next(
        one for one in map(stamp_bytes, range(999)) if is_good_stamp(CHALLENGE, one, rule.bits)
    )
    with StampSearch(CHALLENGE, rule, thread_count=1) as search:
        assert search.wait() == first
    assert search.tried == int.from_bytes(first, "big")


def test_a_search_that_is_stopped_finds_nothing_and_ends() -> None:
    with StampSearch(CHALLENGE, WorkRule(32), thread_count=2) as search:
        assert search.wait(0.01) is None
        search.stop()
        assert search.wait() is None


def test_how_long_it_takes_is_known_once_every_thread_has_tried() -> None:
    with StampSearch(CHALLENGE, WorkRule(32), thread_count=2) as search:
        while search.tried < 2:
            search.wait(0.01)
        mean_s = search.mean_s
    assert mean_s is not None
    assert mean_s > 3600, "four thousand million tries are more than an hour anywhere"
