"""Routing: what fits, what is better, why, and that equals share the load."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import OperationId
from inference import Candidate, Endpoint, NoOffer, Requirement, Task, Workload, choose, rank
from tests.inference.adverts import RECORD, an_offer, peer_of

AT = (Endpoint("127.0.0.1", 1, bytes(32)),)
WORK = Workload(input_tokens=100, output_tokens=100)


def candidate(seed: int, **changes) -> Candidate:
    known = {"rtt_ms", "in_flight", "share", "local", "endpoints"}
    own = {name: changes.pop(name) for name in list(changes) if name in known}
    return Candidate(peer_of(seed), an_offer(**changes), **({"endpoints": AT} | own))


def chosen(*candidates: Candidate, requirement: Requirement | None = None, seed: int = 0, **more):
    return choose(candidates, requirement or Requirement(), WORK, Random(seed), **more).peer


@pytest.mark.parametrize(
    ("requirement", "changes", "reason"),
    [
        (Requirement(task=Task.EMBEDDINGS), {}, "cannot do embeddings"),
        (Requirement(context=2000), {}, "context too short: 1024 of 2000"),
        (Requirement(price_input_max=99), {}, "input price over the cap"),
        (Requirement(price_output_max=199), {}, "output price over the cap"),
        (Requirement(quantizations=frozenset({"FP16"})), {}, "quantization BF16"),
        (Requirement(regions=frozenset({"us"})), {}, "region eu"),
        (Requirement(version=OperationId(b"\x05" * 32)), {}, "another version"),
        (Requirement(), {"share": 0.0}, "breaker open"),
        (Requirement(), {"endpoints": ()}, "no address"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(requirement, changes, reason):
    ranked, refused = rank([candidate(1, **changes)], requirement, WORK)
    assert ranked == []
    assert reason in refused[0].reason
    with pytest.raises(NoOffer, match="none of 1 offers"):
        chosen(candidate(1, **changes), requirement=requirement)


def test_nobody_at_all_is_said_so():
    with pytest.raises(NoOffer, match="no node offers"):
        chosen()


def test_exact_caps_and_an_unknown_context_fit():
    fits = Requirement(price_input_max=100, price_output_max=200, context=1024)
    assert chosen(candidate(1), requirement=fits) == peer_of(1)
    assert chosen(candidate(1, context=0), requirement=Requirement(context=9)) == peer_of(1)


@pytest.mark.parametrize(
    "worse",
    [
        {"tokens_per_s_milli": 10_000},
        {"running": 16, "waiting": 20},
        {"rtt_ms": 5000.0},
        {"price_output": 10**9},
        {"ttft_ms": 9000},
        {"in_flight": 40},
        {"share": 0.1},
    ],
)
def test_the_worse_offer_is_not_chosen(worse):
    for seed in range(8):
        assert chosen(candidate(1, **worse), candidate(2), seed=seed) == peer_of(2)


def test_its_own_engine_needs_no_address():
    assert chosen(candidate(1, local=True, endpoints=())) == peer_of(1)


def test_what_failed_this_call_is_left_out():
    excluded = frozenset({(peer_of(1), RECORD)})
    assert chosen(candidate(1), candidate(2), excluded=excluded) == peer_of(2)
    with pytest.raises(NoOffer, match="failed this call already"):
        chosen(candidate(1), excluded=excluded)


def test_equals_share_the_calls_and_the_busier_gets_none_of_a_pair():
    equal = [candidate(seed) for seed in range(1, 5)]
    counts = Counter(choose(equal, Requirement(), WORK, Random(n)).peer for n in range(200))
    assert set(counts) == {c.peer for c in equal}
    assert min(counts.values()) > 25
    pair = [candidate(1, running=9), candidate(2, running=1)]
    assert {choose(pair, Requirement(), WORK, Random(n)).peer for n in range(20)} == {peer_of(2)}


def test_the_route_explains_itself():
    route = choose([candidate(1), candidate(2, share=0.0)], Requirement(), WORK, Random(0))
    terms = {term.name: term.value for term in route.terms}
    assert terms["decode"] == 2000.0
    assert terms["prefill"] == 40
    assert terms["cost"] == 100 * 100 + 100 * 200
    shown = sum(term.value for term in route.terms if term.unit == "ms")
    assert route.score_ms == pytest.approx(shown)
    assert route.near_count == 1
    assert [refusal.peer for refusal in route.refused] == [peer_of(2)]


@given(st.permutations(range(1, 7)), st.integers(0, 50))
def test_the_order_of_the_offers_decides_nothing(order, seed):
    def offer(n: int) -> Candidate:
        return candidate(n, running=n % 3, ttft_ms=30 + 40 * (n % 4))

    expected = choose([offer(n) for n in range(1, 7)], Requirement(), WORK, Random(seed))
    found = choose([offer(n) for n in order], Requirement(), WORK, Random(seed))
    assert found.peer == expected.peer
    assert found.considered == expected.considered


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 64))
def test_more_load_never_scores_better(load, more, slots):
    def scored(running: int) -> float:
        return rank([candidate(1, running=running, slots=slots)], Requirement(), WORK)[0][
            0
        ].score_ms

    assert scored(load) <= scored(load + more)
