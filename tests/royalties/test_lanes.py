"""Lanes under adversaries: lost, late, repeated, over-reported, under-reported, forked."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from royalties import (
    Agreed,
    Answer,
    BadReceipt,
    Call,
    CallMade,
    CallServed,
    CallsReported,
    ClaimAgreed,
    ClaimReceived,
    ConsumerLane,
    Countersign,
    DisputesReceived,
    Forked,
    KeepClaim,
    KeepDisputes,
    LaneForked,
    ProviderLane,
    Receipt,
    Tokens,
    countersign,
    open_agreed,
    sign_receipt,
)
from royalties.lanes import continued
from tests.royalties.parties import CONSUMER, NETWORK, NOON_S, PROVIDER, call, lane

LANE = lane()


CONCEDE_PICOS = 10**12


class Pair:
    """A consumer and a provider with a network between them that a test can cut."""

    def __init__(self) -> None:
        self.provider = ProviderLane(LANE)
        self.consumer = ConsumerLane(LANE)
        self.stored: dict[int, tuple[Receipt, tuple[Call, ...]]] = {}
        self.agreed: list[Agreed] = []
        self.disputes = 0

    def both_see(self, *calls: Call) -> None:
        for one in calls:
            self.provider.handle(CallServed(one))
            self.consumer.handle(CallMade(one))

    def settle(self, *, lose_answer: bool = False, lose_agreed: bool = False) -> None:
        if self.agreed and self.provider.agreed != self.agreed[-1].receipt:
            self.provider.handle(ClaimAgreed(self.agreed[-1]))  # it comes along with the report
        answer = None
        for effect in self.provider.handle(
            CallsReported(self.consumer.report(), NOON_S, CONCEDE_PICOS)
        ):
            match effect:
                case KeepClaim(receipt, calls):
                    assert receipt.sequence not in self.stored, "a number is never used twice"
                    self.stored[receipt.sequence] = (receipt, calls)
                case Answer():
                    answer = effect
                case _:
                    pass
        assert answer is not None
        self.disputes += len(answer.disputes)
        if lose_answer:
            return
        if answer.receipt is None:
            self.consumer.handle(DisputesReceived(answer.disputes))
            return
        claim = sign_receipt(answer.receipt, PROVIDER.key)
        event = ClaimReceived(answer.receipt, claim, answer.calls, answer.disputes)
        for effect in self.consumer.handle(event):
            if isinstance(effect, Countersign):
                self.agreed.append(open_agreed(countersign(effect.claim, CONSUMER.key), NETWORK))
                if not lose_agreed:
                    self.provider.handle(ClaimAgreed(self.agreed[-1]))

    def restart(self) -> None:
        """Both forget everything but what the effects told them to keep."""
        done = self.provider.agreed.sequence if self.provider.agreed else 0
        self.provider = ProviderLane(
            LANE,
            agreed=self.provider.agreed,
            open_calls=list(self.provider._calls.values()),
            claims=[kept for sequence, kept in self.stored.items() if sequence > done],
        )
        self.consumer = ConsumerLane(
            LANE, agreed=self.consumer.agreed, open_calls=list(self.consumer._calls.values())
        )


def total(calls: list[Call]) -> Tokens:
    tokens = Tokens()
    for one in calls:
        tokens += one.tokens
    return tokens


def test_calls_that_both_counted_alike_are_agreed() -> None:
    pair = Pair()
    pair.both_see(call(1), call(2))
    pair.settle()
    receipt = pair.agreed[-1].receipt
    assert (receipt.sequence, receipt.call_count) == (1, 2)
    assert receipt.tokens == total([call(1), call(2)])
    assert pair.provider.unsigned_count == pair.consumer.unsigned_count == 0
    assert pair.provider.unsigned_picos == 0


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_whatever_is_lost_the_totals_come_out_exact(seed: int, steps: int) -> None:
    rng, pair, made = Random(seed), Pair(), []
    for number in range(1, steps + 1):
        for _ in range(rng.randrange(3)):
            made.append(call(len(made) + 1, output=rng.randrange(50)))
            pair.both_see(made[-1])
        pair.settle(lose_answer=rng.random() < 0.4, lose_agreed=rng.random() < 0.4)
        if rng.random() < 0.2:
            pair.restart()
        assert number
    for _ in range(3):
        pair.settle()
    assert pair.disputes == 0
    assert pair.consumer.unsigned_count == pair.provider.unsigned_count == 0
    if made:
        assert pair.agreed[-1].receipt.tokens == total(made)
        assert pair.agreed[-1].receipt.call_count == len(made)
        assert pair.provider.agreed == pair.agreed[-1].receipt
    sequences = [one.receipt.sequence for one in pair.agreed]
    assert sequences == sorted(set(sequences)), "sequences only rise"
    amounts = [one.receipt.amount_picos for one in pair.agreed]
    assert amounts == sorted(amounts), "totals never fall"


def test_repeating_every_message_changes_nothing() -> None:
    pair = Pair()
    pair.both_see(call(1))
    pair.provider.handle(CallServed(call(1)))
    pair.consumer.handle(CallMade(call(1)))
    pair.settle(lose_answer=True)
    pair.settle(lose_answer=True)
    pair.settle()
    assert pair.provider.handle(ClaimAgreed(pair.agreed[-1])) == []
    assert len(pair.stored) == 1
    assert pair.agreed[-1].receipt.tokens == call(1).tokens


def test_a_provider_that_claims_more_than_was_received_is_not_signed_for() -> None:
    pair = Pair()
    pair.consumer.handle(CallMade(call(1, output=20)))
    more = call(1, output=21)
    receipt = Receipt(LANE, more.order, 1, 1, more.tokens, bytes(32), NOON_S)
    claim = sign_receipt(receipt, PROVIDER.key)
    with pytest.raises(BadReceipt, match="counted here"):
        pair.consumer.handle(ClaimReceived(receipt, claim, (more,), ()))
    assert pair.consumer.unsigned_count == 1


def test_a_provider_whose_totals_do_not_follow_from_its_calls_is_not_signed_for() -> None:
    pair = Pair()
    pair.consumer.handle(CallMade(call(1)))
    receipt = Receipt(LANE, call(1).order, 1, 1, Tokens(10, 2, 999), bytes(32), NOON_S)
    claim = sign_receipt(receipt, PROVIDER.key)
    with pytest.raises(BadReceipt, match="counted here"):
        pair.consumer.handle(ClaimReceived(receipt, claim, (call(1),), ()))


def test_a_call_that_was_never_made_is_not_signed_for() -> None:
    consumer = ConsumerLane(LANE)
    receipt = Receipt(LANE, call(1).order, 1, 1, call(1).tokens, bytes(32), NOON_S)
    claim = sign_receipt(receipt, PROVIDER.key)
    with pytest.raises(BadReceipt, match="not made from here"):
        consumer.handle(ClaimReceived(receipt, claim, (call(1),), ()))


@pytest.mark.parametrize(
    "reported",
    [
        call(1, output=19),
        call(1, output=21),
        replace(call(1), response_hash=bytes(32)),
        replace(call(1), request_hash=bytes(32)),
        replace(call(1), order=bytes(32)),
        call(1, output=21, finish="cut"),
    ],
)
def test_a_consumer_that_reports_something_else_gets_no_receipt(reported: Call) -> None:
    provider = ProviderLane(LANE)
    provider.handle(CallServed(call(1)))
    answer = provider.handle(CallsReported((reported,), NOON_S))[-1]
    assert isinstance(answer, Answer)
    assert answer.receipt is None
    assert answer.disputes[0].mine == call(1).tokens
    assert provider.unsigned_count == 1, "it still counts against the consumer's exposure"


def test_a_cut_call_pays_for_what_arrived() -> None:
    pair = Pair()
    pair.provider.handle(CallServed(call(1, output=20, finish="cut", response=b"sent")))
    pair.consumer.handle(CallMade(call(1, output=17, finish="cut", response=b"arrived")))
    pair.settle()
    assert pair.agreed[-1].receipt.tokens.output_count == 17


def test_a_consumer_that_calls_everything_cut_settles_for_less_only_so_often() -> None:
    provider = ProviderLane(LANE)
    whole = LANE.prices.amount_picos(call(1).tokens)
    reported = [
        replace(call(n), tokens=Tokens(), finish="cut", response_hash=bytes(32)) for n in (1, 2, 3)
    ]
    for n in (1, 2, 3):
        provider.handle(CallServed(call(n)))
    keep, answer = provider.handle(CallsReported(tuple(reported[:2]), NOON_S, 2 * whole))
    assert isinstance(keep, KeepClaim)
    assert keep.conceded_picos == 2 * whole
    disputed, answer = provider.handle(CallsReported((reported[2],), NOON_S, whole - 1))
    assert isinstance(disputed, KeepDisputes)
    assert isinstance(answer, Answer)
    assert [one.nonce for one in answer.disputes] == [call(3).nonce]
    assert provider.unsigned_picos == 3 * whole, "and it stays in the consumer's exposure"


def test_a_claim_that_names_one_call_twice_is_not_signed_for() -> None:
    consumer = ConsumerLane(LANE)
    consumer.handle(CallMade(call(1)))
    twice = (call(1), call(1))
    receipt = continued(LANE, None, twice, sequence=1, issued_s=NOON_S)
    claim = sign_receipt(receipt, PROVIDER.key)
    for calls in (twice, ()):
        with pytest.raises(BadReceipt, match="twice"):
            consumer.handle(ClaimReceived(receipt, claim, calls, ()))
    assert consumer.unsigned_count == 1


def test_a_call_the_provider_does_not_know_costs_nothing() -> None:
    pair = Pair()
    pair.consumer.handle(CallMade(call(1)))
    pair.settle()
    assert pair.consumer.unsigned_count == 0
    assert not pair.agreed


def test_two_claims_under_one_number_are_kept_as_proof_and_end_the_lane() -> None:
    consumer = ConsumerLane(LANE)
    consumer.handle(CallMade(call(1)))
    first = Receipt(LANE, call(1).order, 1, 1, Tokens(10, 2, 30), bytes(32), NOON_S)
    second = replace(first, issued_s=NOON_S + 1)
    claims = [sign_receipt(one, PROVIDER.key) for one in (first, second)]
    with pytest.raises(BadReceipt):
        consumer.handle(ClaimReceived(first, claims[0], (call(1),), ()))
    effects = consumer.handle(ClaimReceived(second, claims[1], (call(1),), ()))
    assert effects == [Forked(1, claims[0], claims[1])]
    with pytest.raises(LaneForked):
        consumer.handle(ClaimReceived(second, claims[1], (call(1),), ()))


def test_a_receipt_that_was_never_claimed_is_not_taken() -> None:
    provider = ProviderLane(LANE)
    receipt = Receipt(LANE, call(1).order, 1, 1, call(1).tokens, bytes(32), NOON_S)
    forged = open_agreed(countersign(sign_receipt(receipt, PROVIDER.key), CONSUMER.key), NETWORK)
    with pytest.raises(BadReceipt, match="never claimed"):
        provider.handle(ClaimAgreed(forged))


def test_a_consumer_cannot_play_two_partial_claims_against_each_other() -> None:
    provider = ProviderLane(LANE)
    provider.handle(CallServed(call(1)))
    provider.handle(CallServed(call(2)))
    one = provider.handle(CallsReported((call(2),), NOON_S))[-1]
    two = provider.handle(CallsReported((call(1),), NOON_S))[-1]
    assert isinstance(one, Answer)
    assert isinstance(two, Answer)
    assert two.receipt is not None
    assert two.receipt.tokens == total([call(1), call(2)]), "a later claim covers the earlier one"


def test_a_lane_of_another_pair_is_not_signed_for() -> None:
    consumer = ConsumerLane(LANE)
    consumer.handle(CallMade(call(1)))
    other = replace(LANE, epoch=LANE.epoch + 1)
    receipt = Receipt(other, call(1).order, 1, 1, call(1).tokens, bytes(32), NOON_S)
    claim = sign_receipt(receipt, PROVIDER.key)
    with pytest.raises(BadReceipt, match="another lane"):
        consumer.handle(ClaimReceived(receipt, claim, (call(1),), ()))
