"""Rates, points and bans, in given time."""

from __future__ import annotations

from node.network.standing import BAN_S, PEER_COUNT_MAX, POINTS_MAX, Standing, TokenBucket


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(rate_s=2, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_s(10.0) == 0.5
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(rate_s=1, burst=1)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)


def standing() -> Standing:
    return Standing(gossip_rate_s=10, request_rate_s=5)


def test_a_hundred_points_are_a_ban_and_a_ban_ends() -> None:
    book = standing()
    assert not book.penalise("p", POINTS_MAX - 1, 0.0)
    assert book.penalise("p", 1, 0.0)
    assert book.is_banned("p", BAN_S - 1)
    assert book.banned(1.0) == {"p": BAN_S}
    assert not book.is_banned("p", BAN_S)
    assert not book.is_banned("somebody else", 0.0)


def test_points_are_forgotten_with_time() -> None:
    book = standing()
    assert not any(book.penalise("p", 1, float(second)) for second in range(1000))


def test_one_peers_requests_and_gossip_do_not_spend_anothers() -> None:
    book = standing()
    assert sum(book.may_request("p", 0.0) for _ in range(100)) == 20
    assert sum(book.may_gossip("p", 0.0) for _ in range(100)) == 10
    assert book.may_request("q", 0.0)


def test_the_longest_unseen_peer_is_forgotten_first() -> None:
    book = standing()
    book.ban("first", 9.0)
    book.ban("second", 9.0)
    book.may_gossip("first", 0.0)
    for number in range(PEER_COUNT_MAX - 1):
        book.may_gossip(str(number), 0.0)
    assert book.is_banned("first", 0.0)
    assert not book.is_banned("second", 0.0)
