"""Which offer gets a call, and why. Pure: offers and measurements in, a route with its reasons out.

First what the call requires (a refusal has a reason), then the expected time to the last token
plus the price turned into time; among the nearly equal, two at random and the less loaded of
those (power of two choices), so that many consumers with one view do not all pick one host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from crdt import ManifestDigest, OperationId, PeerId, RecordId
from inference.adverts import Endpoint, Offer, Task
from inference.errors import NoOffer

PICOS_PER_MS = 2_777_778
"""What a millisecond of waiting is worth: ten dollars an hour, in pico-USD."""
NEAR_FRACTION = 0.25
NEAR_MS = 20.0
"""Offers within a quarter, or 20 ms, of the best are equal: measurements are no better."""
TTFT_UNKNOWN_MS = 500
SPEED_UNKNOWN_MILLI = 10_000
"""Stand-ins for an offer nobody has measured: ten tokens a second after half a second."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a call needs of an offer. The record's own facts are checked before, by the caller.

    Attributes:
        context: Tokens of prompt and answer that must fit.
        price_input_max: Micro-USD per million tokens; None is no cap.
        quantizations: Accepted ones; empty accepts all.
        regions: Accepted ones; empty accepts all.
        version: Only this version of the record; None is any.
    """

    task: Task = Task.CHAT
    context: int = 0
    price_input_max: int | None = None
    price_output_max: int | None = None
    quantizations: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    version: OperationId | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """How big the call is expected to be, in tokens."""

    input_tokens: int = 256
    output_tokens: int = 256


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer, and what this node knows about reaching it.

    Attributes:
        local: It is this node's own engine.
        rtt_ms: Measured round trip to the peer; 0 for our own.
        in_flight: Calls of ours that this offer is serving right now and its load may not show.
        share: What the breaker lets it have, 0 to 1; 0 is out.
    """

    peer: PeerId
    offer: Offer
    endpoints: tuple[Endpoint, ...] = ()
    local: bool = False
    rtt_ms: float = 0.0
    in_flight: int = 0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Term:
    """One number of a choice: `rtt 3.1 ms`."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that fits, with its score in milliseconds (lower is better) and the terms."""

    candidate: Candidate
    score_ms: float
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A candidate that does not fit, and why."""

    peer: PeerId
    record: RecordId
    reason: str


@dataclass(frozen=True, slots=True)
class Route:
    """The choice for one call, explained.

    Attributes:
        near_count: How many were as good as the best within the measurement.
        considered: Every one that fits, best first.
        refused: Every one that does not, with its reason.
    """

    candidate: Candidate
    score_ms: float
    terms: tuple[Term, ...]
    near_count: int
    considered: tuple[Ranked, ...]
    refused: tuple[Refusal, ...]

    @property
    def peer(self) -> PeerId:
        """Who serves the call."""
        return self.candidate.peer

    @property
    def offer(self) -> Offer:
        """The offer it is served under."""
        return self.candidate.offer

    @property
    def manifest(self) -> ManifestDigest:
        """The build that answers: what served it is always named."""
        return self.candidate.offer.manifest


def choose(
    candidates: Sequence[Candidate],
    requirement: Requirement,
    workload: Workload,
    rng: Random,
    *,
    excluded: frozenset[tuple[PeerId, RecordId]] = frozenset(),
) -> Route:
    """Return the route for one call; `excluded` are the offers that failed it already.

    Raises:
        NoOffer: none fits; the message counts the reasons.
    """
    ranked, refused = rank(candidates, requirement, workload, excluded=excluded)
    if not ranked:
        raise NoOffer(_no_offer(refused))
    best_ms = ranked[0].score_ms
    bound_ms = max(best_ms * (1 + NEAR_FRACTION), best_ms + NEAR_MS)
    near = [entry for entry in ranked if entry.score_ms <= bound_ms]
    chosen = near[0]
    if len(near) > 1:
        first, second = rng.sample(near, 2)
        chosen = second if _pressure(second) < _pressure(first) else first
    return Route(
        candidate=chosen.candidate,
        score_ms=chosen.score_ms,
        terms=chosen.terms,
        near_count=len(near),
        considered=tuple(ranked),
        refused=tuple(refused),
    )


def rank(
    candidates: Sequence[Candidate],
    requirement: Requirement,
    workload: Workload,
    *,
    excluded: frozenset[tuple[PeerId, RecordId]] = frozenset(),
) -> tuple[list[Ranked], list[Refusal]]:
    """Return those that fit, best first (ties by peer, then record), and why the others do not."""
    ranked: list[Ranked] = []
    refused: list[Refusal] = []
    for candidate in candidates:
        offer = candidate.offer
        if (candidate.peer, offer.record) in excluded:
            reason: str | None = "failed this call already"
        else:
            reason = misfit(candidate, requirement)
        if reason is None:
            ranked.append(score(candidate, workload))
        else:
            refused.append(Refusal(candidate.peer, offer.record, reason))
    ranked.sort(key=_order)
    return ranked, refused


def misfit(candidate: Candidate, requirement: Requirement) -> str | None:
    """Return why a candidate does not meet the requirement, or None when it does."""
    offer = candidate.offer
    price_input_max, price_output_max = requirement.price_input_max, requirement.price_output_max
    if not offer.tasks & requirement.task:
        return f"cannot do {requirement.task.name or 'it'}".lower()
    if requirement.version is not None and offer.version != requirement.version:
        return "serves another version"
    if offer.context and offer.context < requirement.context:
        return f"context too short: {offer.context} of {requirement.context} tokens"
    if price_input_max is not None and offer.price_input > price_input_max:
        return f"input price over the cap: {offer.price_input} > {price_input_max}"
    if price_output_max is not None and offer.price_output > price_output_max:
        return f"output price over the cap: {offer.price_output} > {price_output_max}"
    if requirement.quantizations and offer.quantization not in requirement.quantizations:
        return f"quantization {offer.quantization or 'unknown'} is not accepted"
    if requirement.regions and offer.region not in requirement.regions:
        return f"region {offer.region or 'unknown'} is not accepted"
    if candidate.share <= 0:
        return "breaker open after failures"
    if not candidate.local and not candidate.endpoints:
        return "no address to call it at"
    return None


def score(candidate: Candidate, workload: Workload) -> Ranked:
    """Return a candidate with its expected time, its price as time, and the sum."""
    offer = candidate.offer
    slots = max(1, offer.slots)
    speed_milli = offer.tokens_per_s_milli or SPEED_UNKNOWN_MILLI
    prefill_ms = float(offer.ttft_ms or TTFT_UNKNOWN_MS)
    decode_ms = workload.output_tokens * 1_000_000 / speed_milli
    ahead = max(0, _load(candidate) + 1 - slots)
    queue_ms = ahead * (prefill_ms + decode_ms) / slots
    cost_picos = offer.cost_picos(
        input_tokens=workload.input_tokens, output_tokens=workload.output_tokens
    )
    price_ms = cost_picos / PICOS_PER_MS
    ramp_ms = (1 / candidate.share - 1) * (prefill_ms + decode_ms) if candidate.share < 1 else 0.0
    total_ms = candidate.rtt_ms + queue_ms + prefill_ms + decode_ms + price_ms + ramp_ms
    terms = (
        Term("rtt", candidate.rtt_ms, "ms"),
        Term("queue", queue_ms, "ms"),
        Term("prefill", prefill_ms, "ms"),
        Term("decode", decode_ms, "ms"),
        Term("price", price_ms, "ms"),
        Term("recovering", ramp_ms, "ms"),
        Term("cost", float(cost_picos), "pico-USD"),
    )
    return Ranked(candidate, total_ms, terms)


def _load(candidate: Candidate) -> int:
    offer = candidate.offer
    # Not the sum: a call of ours shows in the advertised load some seconds later.
    return max(offer.running + offer.waiting, candidate.in_flight)


def _pressure(entry: Ranked) -> float:
    return _load(entry.candidate) / max(1, entry.candidate.offer.slots)


def _order(entry: Ranked) -> tuple[float, PeerId, RecordId]:
    return entry.score_ms, entry.candidate.peer, entry.candidate.offer.record


def _no_offer(refused: Sequence[Refusal]) -> str:
    if not refused:
        return "no node offers this model now; ask again later, or serve it: hansa serve MODEL"
    counts = Counter(refusal.reason for refusal in refused)
    reasons = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common(5))
    return f"none of {len(refused)} offers can take this call: {reasons}"
