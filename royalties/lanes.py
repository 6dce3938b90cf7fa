"""Lanes: how two nodes that do not trust each other come to one count. Events in, effects out.

The consumer reports the calls it made, the provider claims totals for those it also knows, the
consumer countersigns what it finds right. Each call is named by its ticket's nonce, so a message
may be lost, repeated or late and the totals stay exact. Signing is an effect: no key is in here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from crdt import Signed
from royalties.errors import BadReceipt, LaneForked
from royalties.money import Tokens
from royalties.receipts import NO_CALLS, Agreed, Call, Lane, Receipt, calls_digest

REPORT_COUNT_MAX = 256
"""Calls in one settlement: about 40 KiB each way; the rest goes in the next one."""
CLAIM_COUNT_MAX = 64
"""Claims that wait for a countersignature; a newer one covers all that an older one does."""
CLAIM_CALLS_MAX = 1024
"""Calls in one claim, so that an answer stays below 256 KiB."""
SEEN_COUNT_MAX = 64


@dataclass(frozen=True, slots=True)
class Dispute:
    """A call whose counts the two sides do not share; it is in no receipt.

    Attributes:
        mine: What the provider counted; None when it does not know the call.
    """

    nonce: bytes
    theirs: Tokens
    mine: Tokens | None


@dataclass(frozen=True, slots=True)
class CallServed:
    """A call of this lane has ended, well or cut."""

    call: Call


@dataclass(frozen=True, slots=True)
class CallsReported:
    """The consumer asks for a receipt over these calls, with its own counts.

    Attributes:
        concede_picos_max: How much less than was served may be settled for, in all. What was in
            flight when an answer was cut is honest loss; all of it, every time, is theft.
    """

    calls: tuple[Call, ...]
    now_s: int
    concede_picos_max: int = 0


@dataclass(frozen=True, slots=True)
class ClaimAgreed:
    """A receipt came back with a countersignature that verified."""

    agreed: Agreed


ProviderEvent: TypeAlias = CallServed | CallsReported | ClaimAgreed


@dataclass(frozen=True, slots=True)
class KeepCall:
    """Store a call before it can be claimed."""

    call: Call


@dataclass(frozen=True, slots=True)
class KeepClaim:
    """Sign this claim and store it before anybody sees it: no second one has its number."""

    receipt: Receipt
    calls: tuple[Call, ...]
    conceded_picos: int = 0
    """What was served more than this claims, counted once, by the claim that first says so."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the settlement with this claim, if there is one, once all else is durable."""

    receipt: Receipt | None
    calls: tuple[Call, ...]
    disputes: tuple[Dispute, ...]


@dataclass(frozen=True, slots=True)
class KeepAgreed:
    """Store an agreed receipt; these calls are settled and need no more remembering."""

    agreed: Agreed
    settled: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeepDisputes:
    """Store what the two sides could not agree on."""

    disputes: tuple[Dispute, ...]


ProviderEffect: TypeAlias = KeepCall | KeepClaim | Answer | KeepAgreed | KeepDisputes


@dataclass(slots=True)
class _Claim:
    receipt: Receipt
    calls: tuple[Call, ...]


class ProviderLane:
    """What one consumer was served under one lane, and how much of it is signed for."""

    def __init__(
        self,
        lane: Lane,
        *,
        agreed: Receipt | None = None,
        open_calls: Iterable[Call] = (),
        claims: Iterable[tuple[Receipt, tuple[Call, ...]]] = (),
    ) -> None:
        self.lane = lane
        self.agreed = agreed
        self._calls = {call.nonce: call for call in open_calls}
        self._claims = {receipt.sequence: _Claim(receipt, calls) for receipt, calls in claims}

    @property
    def unsigned_picos(self) -> int:
        """What was served and not yet countersigned: the provider's exposure."""
        return sum(self.lane.prices.amount_picos(c.tokens) for c in self._calls.values())

    @property
    def unsigned_count(self) -> int:
        """How many calls were served and not yet countersigned."""
        return len(self._calls)

    def handle(self, event: ProviderEvent) -> list[ProviderEffect]:
        """Apply one event and return what must now be done, in order.

        Raises:
            BadReceipt: an agreed receipt that this lane never claimed.
        """
        match event:
            case CallServed(call):
                if call.nonce in self._calls:
                    return []
                self._calls[call.nonce] = call
                return [KeepCall(call)]
            case CallsReported(calls, now_s):
                return self._claim(calls[:REPORT_COUNT_MAX], now_s, event.concede_picos_max)
            case ClaimAgreed(agreed):
                return self._agree(agreed)

    def _claim(
        self, reported: Sequence[Call], now_s: int, concede_picos_max: int
    ) -> list[ProviderEffect]:
        """Claim what was claimed before and what is reported now.

        Claims are nested: whichever one the consumer countersigns, no later one says less.
        """
        claimed = self._claims[max(self._claims)].calls if self._claims else ()
        covered = {call.nonce: call for call in claimed}
        disputes: list[Dispute] = []
        conceded = 0
        amount = self.lane.prices.amount_picos
        for theirs in reported:
            mine = self._calls.get(theirs.nonce)
            if theirs.nonce in covered or len(covered) == CLAIM_CALLS_MAX:
                continue
            settled = settle_call(mine, theirs) if mine else None
            less = amount(mine.tokens) - amount(settled.tokens) if mine and settled else 0
            if settled and (not less or conceded + less <= concede_picos_max):
                covered[settled.nonce] = settled
                conceded += less
            else:
                disputes.append(Dispute(theirs.nonce, theirs.tokens, mine.tokens if mine else None))
        effects: list[ProviderEffect] = [KeepDisputes(tuple(disputes))] if disputes else []
        if not covered:
            return [*effects, Answer(None, (), tuple(disputes))]
        calls = tuple(covered.values())
        if calls == claimed and self._stands(last := self._claims[max(self._claims)].receipt):
            return [*effects, Answer(last, calls, tuple(disputes))]
        receipt = self._next(calls, now_s)
        self._claims[receipt.sequence] = _Claim(receipt, calls)
        if len(self._claims) > CLAIM_COUNT_MAX:
            del self._claims[min(self._claims)]
        effects.append(KeepClaim(receipt, calls, conceded))
        return [*effects, Answer(receipt, calls, tuple(disputes))]

    def _stands(self, receipt: Receipt) -> bool:
        """Whether a claim continues what is agreed now, and not what was agreed before that."""
        calls = self._claims[receipt.sequence].calls
        again = continued(
            self.lane, self.agreed, calls, sequence=receipt.sequence, issued_s=receipt.issued_s
        )
        return again == receipt

    def _next(self, calls: tuple[Call, ...], now_s: int) -> Receipt:
        last = max([*self._claims, self.agreed.sequence if self.agreed else 0])
        return continued(self.lane, self.agreed, calls, sequence=last + 1, issued_s=now_s)

    def _agree(self, agreed: Agreed) -> list[ProviderEffect]:
        receipt = agreed.receipt
        if self.agreed is not None and receipt.sequence <= self.agreed.sequence:
            return []
        claim = self._claims.get(receipt.sequence)
        if claim is None or claim.receipt != receipt:
            raise BadReceipt(
                f"receipt {receipt.sequence} of lane {self.lane.id.hex()[:16]} was never claimed"
            )
        settled = tuple(call.nonce for call in claim.calls)
        for nonce in settled:
            self._calls.pop(nonce, None)
        self.agreed = receipt
        self._claims = {n: c for n, c in self._claims.items() if n > receipt.sequence}
        for later in self._claims.values():
            later.calls = tuple(call for call in later.calls if call.nonce not in settled)
        return [KeepAgreed(agreed, settled)]


def settle_call(mine: Call, theirs: Call) -> Call | None:
    """Return the call both sides can sign, or None when they cannot.

    A whole call must be counted alike. A call that either side saw cut pays for what was
    delivered, so the consumer may have received less than was sent, never more.
    """
    if mine.request_hash != theirs.request_hash or mine.order != theirs.order:
        return None
    if mine.finish == theirs.finish == "complete":
        same = mine.tokens == theirs.tokens and mine.response_hash == theirs.response_hash
        return mine if same else None
    if not theirs.tokens.at_most(mine.tokens):
        return None
    return replace(mine, tokens=theirs.tokens, response_hash=theirs.response_hash, finish="cut")


def continued(
    lane: Lane, agreed: Receipt | None, calls: Sequence[Call], *, sequence: int, issued_s: int
) -> Receipt:
    """Return the receipt that adds `calls` to what is agreed."""
    assert calls
    tokens = agreed.tokens if agreed else Tokens()
    for call in calls:
        tokens += call.tokens
    return Receipt(
        lane=lane,
        order=calls[-1].order,
        sequence=sequence,
        call_count=(agreed.call_count if agreed else 0) + len(calls),
        tokens=tokens,
        calls=calls_digest(agreed.calls if agreed else NO_CALLS, calls),
        issued_s=issued_s,
    )


@dataclass(frozen=True, slots=True)
class CallMade:
    """A call of this lane has ended here, well or cut."""

    call: Call


@dataclass(frozen=True, slots=True)
class ClaimReceived:
    """The provider answered a settlement with a claim whose signature verified.

    Attributes:
        calls: The calls it adds, as the provider counts them.
    """

    receipt: Receipt
    claim: Signed
    calls: tuple[Call, ...]
    disputes: tuple[Dispute, ...]


@dataclass(frozen=True, slots=True)
class DisputesReceived:
    """The provider claims nothing, and says which calls it does not share."""

    disputes: tuple[Dispute, ...]


ConsumerEvent: TypeAlias = CallMade | ClaimReceived | DisputesReceived


@dataclass(frozen=True, slots=True)
class Countersign:
    """Sign this claim, store it, send it back and publish it; these calls are settled."""

    receipt: Receipt
    claim: Signed
    settled: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Forked:
    """Two claims with one sequence number: proof, to be kept. The lane takes no more."""

    sequence: int
    first: Signed
    second: Signed


ConsumerEffect: TypeAlias = KeepCall | Countersign | KeepDisputes | Forked


class ConsumerLane:
    """What this node used under one lane, and how much of it it has signed for."""

    def __init__(
        self,
        lane: Lane,
        *,
        agreed: Receipt | None = None,
        open_calls: Iterable[Call] = (),
        forked: bool = False,
        seen: Iterable[tuple[int, Signed]] = (),
    ) -> None:
        self.lane = lane
        self.agreed = agreed
        self.forked = forked
        self._calls = {call.nonce: call for call in open_calls}
        self._seen = dict(seen)

    @property
    def unsigned_count(self) -> int:
        """How many calls are not settled yet."""
        return len(self._calls)

    def report(self) -> tuple[Call, ...]:
        """Return the calls to settle next: the oldest, in order, always the same until settled."""
        return tuple(self._calls.values())[:REPORT_COUNT_MAX]

    def handle(self, event: ConsumerEvent) -> list[ConsumerEffect]:
        """Apply one event and return what must now be done, in order.

        Raises:
            BadReceipt: a claim that this side's own counts do not bear out: nothing is signed.
            LaneForked: the lane takes no more claims.
        """
        match event:
            case CallMade(call):
                if call.nonce in self._calls:
                    return []
                self._calls[call.nonce] = call
                return [KeepCall(call)]
            case DisputesReceived(disputes):
                return self._disputed(disputes)
            case ClaimReceived():
                return self._on_claim(event)

    def _on_claim(self, event: ClaimReceived) -> list[ConsumerEffect]:
        if self.forked:
            raise LaneForked(f"lane {self.lane.id.hex()[:16]} was forked by its provider")
        receipt, claim = event.receipt, event.claim
        if receipt.lane != self.lane:
            raise BadReceipt("the claim is for another lane")
        known = self._seen.setdefault(receipt.sequence, claim)
        if known.content != claim.content:
            self.forked = True
            return [Forked(receipt.sequence, known, claim)]
        while len(self._seen) > SEEN_COUNT_MAX:
            del self._seen[min(self._seen)]
        if self.agreed is not None and receipt.sequence <= self.agreed.sequence:
            return []
        calls = [self._own(theirs) for theirs in event.calls]
        if not calls or len({call.nonce for call in calls}) != len(calls):
            raise BadReceipt("a claim covers no call, or one call twice")
        expected = continued(
            self.lane, self.agreed, calls, sequence=receipt.sequence, issued_s=receipt.issued_s
        )
        if expected != receipt:
            raise BadReceipt(
                f"receipt {receipt.sequence} says {receipt.tokens.wire()} tokens in "
                f"{receipt.call_count} calls; counted here: {expected.tokens.wire()} in "
                f"{expected.call_count}"
            )
        settled = tuple(call.nonce for call in calls)
        for nonce in settled:
            self._calls.pop(nonce)
        self.agreed = receipt
        effects: list[ConsumerEffect] = [Countersign(receipt, claim, settled)]
        return effects + self._disputed(event.disputes)

    def _own(self, theirs: Call) -> Call:
        """Return the provider's form of a call after holding it against our own."""
        own = self._calls.get(theirs.nonce)
        if own is None:
            raise BadReceipt(f"call {theirs.nonce.hex()} was not made from here, or is settled")
        same_hash = own.request_hash == theirs.request_hash and own.order == theirs.order
        if not same_hash or own.response_hash != theirs.response_hash:
            raise BadReceipt(f"call {theirs.nonce.hex()} is for other bytes than were exchanged")
        if own.tokens != theirs.tokens:
            raise BadReceipt(
                f"call {theirs.nonce.hex()} is claimed as {theirs.tokens.wire()} tokens; "
                f"counted here: {own.tokens.wire()}"
            )
        return theirs

    def _disputed(self, disputes: Sequence[Dispute]) -> list[ConsumerEffect]:
        """Set aside what the provider does not share; what it does not know costs nothing."""
        kept = tuple(one for one in disputes if self._calls.pop(one.nonce, None) is not None)
        return [KeepDisputes(kept)] if kept else []
