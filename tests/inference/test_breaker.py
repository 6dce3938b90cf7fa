"""The breaker: opens after five failures in a row, probes after a minute, ramps up."""

from __future__ import annotations

from random import Random

import pytest

from inference import Breaker, BreakerLimits, CircuitState
from tests.inference.adverts import RECORD, peer_of

PEER = peer_of(1)
RNG = Random(1)


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    assert [breaker.failed(PEER, RECORD, at_s) for _ in range(5)] == [False] * 4 + [True]
    return breaker


def admit(breaker: Breaker, now_s: float) -> bool:
    return breaker.admit(PEER, RECORD, now_s, RNG)


def test_four_failures_and_a_success_keep_it_closed():
    breaker = Breaker()
    for _ in range(3):
        for _ in range(4):
            breaker.failed(PEER, RECORD, 0.0)
        breaker.succeeded(PEER, RECORD, 0.0)
    assert breaker.state(PEER, RECORD) is CircuitState.CLOSED
    assert admit(breaker, 0.0)


def test_open_lets_nothing_through_for_a_minute_then_one_probe():
    breaker = opened()
    assert breaker.share(PEER, RECORD, 59.9) == 0.0
    assert not admit(breaker, 59.9)
    assert breaker.share(PEER, RECORD, 60.0) == 1.0
    assert admit(breaker, 60.0)
    assert breaker.state(PEER, RECORD) is CircuitState.PROBING
    assert not admit(breaker, 60.1)
    assert admit(breaker, 90.1)  # the probe never came back


def test_a_failed_probe_opens_it_for_another_minute():
    breaker = opened()
    admit(breaker, 60.0)
    assert breaker.failed(PEER, RECORD, 61.0)
    assert not admit(breaker, 120.0)
    assert admit(breaker, 121.0)


def test_a_good_probe_ramps_up_and_closes():
    breaker = opened()
    admit(breaker, 60.0)
    breaker.succeeded(PEER, RECORD, 61.0)
    assert breaker.state(PEER, RECORD) is CircuitState.RAMPING
    shares = [breaker.share(PEER, RECORD, 61.0 + s) for s in (0, 15, 30)]
    assert shares == [0.1, 0.5, 1.0]
    early = sum(breaker.admit(PEER, RECORD, 62.0, Random(n)) for n in range(200))
    assert 5 <= early <= 60
    assert admit(breaker, 91.0)
    assert breaker.state(PEER, RECORD) is CircuitState.CLOSED


def test_a_failure_while_ramping_opens_it_at_once():
    breaker = opened()
    admit(breaker, 60.0)
    breaker.succeeded(PEER, RECORD, 61.0)
    assert breaker.failed(PEER, RECORD, 62.0)
    assert breaker.state(PEER, RECORD) is CircuitState.OPEN


def test_circuits_are_by_peer_and_record_and_bounded():
    breaker = Breaker(BreakerLimits(failure_count=1, circuit_count_max=3))
    for seed in range(1, 6):
        breaker.failed(peer_of(seed), RECORD, 0.0)
    states = [breaker.state(peer_of(seed), RECORD) for seed in range(1, 6)]
    assert states == [CircuitState.CLOSED] * 2 + [CircuitState.OPEN] * 3


@pytest.mark.parametrize("late", [0.0, 30.0])
def test_calls_that_began_before_it_opened_do_not_prolong_it(late):
    breaker = opened()
    assert not breaker.failed(PEER, RECORD, late)
    assert admit(breaker, 60.0)
