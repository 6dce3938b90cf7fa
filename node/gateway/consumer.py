"""The consumer's side of a call: resolve, choose, try, and only then commit.

Before the first byte a call may move on to another offer, as often as there are offers and the
budget allows. After it, the answer is that host's: it is passed on, measured, and paid for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from crdt import PeerId, RecordId
from inference import Breaker, Candidate, NoOffer, Offered, Requirement, Route, Workload, choose
from inference import Task as OfferTask
from node.gateway.calls import ModelCall, Task, engine_body
from node.gateway.errors import AllRefused, BadCall, EngineCut, EngineRefused, NoModel, TooManyCalls
from node.gateway.metering import Metering
from node.gateway.ports import Authorised, Engines, Models, Offers, Payer
from node.gateway.upstream import FIRST_BYTE_S, PEER_PATH, EngineUpstream, Opened, open_peer
from node.peer import PeerEndpoint, PeerSession

ATTEMPT_COUNT_MAX = 3
"""Offers tried for one call; more would only make a broken call slow."""
CALL_COUNT_MAX = 512
"""Calls under way at once; more are refused instead of waiting without an end."""
CHARACTERS_PER_TOKEN = 4
"""A rough size for routing only; nothing is ever billed by it."""
OUTPUT_TOKENS_DEFAULT = 256
MESSAGE_COUNT_SEEN = 10_000
"""For the size estimate; the engine sees all of them."""
_TASKS = {
    Task.CHAT: OfferTask.CHAT,
    Task.COMPLETIONS: OfferTask.COMPLETIONS,
    Task.EMBEDDINGS: OfferTask.EMBEDDINGS,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that began well.

    Attributes:
        route: Who gives it, and why that one.
        attempts: How many offers were tried, this one included.
        pieces: What the client is to get; raises `EngineCut` if it breaks off.
    """

    route: Route
    attempts: int
    content_type: str
    pieces: AsyncIterator[bytes]


class Consumer:
    """Routes this node's own calls to whoever serves them best.

    Args:
        own: This node's peer id; its own offers are served without the network.
        rng: Breaks ties among near-equal offers.
    """

    def __init__(
        self,
        *,
        own: PeerId,
        models: Models,
        offers: Offers,
        engines: Engines,
        payer: Payer,
        session: PeerSession,
        upstream: EngineUpstream,
        breaker: Breaker,
        rng: Random,
        first_byte_s: float = FIRST_BYTE_S,
        attempt_count_max: int = ATTEMPT_COUNT_MAX,
        call_count_max: int = CALL_COUNT_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own = own
        self._models = models
        self._offers = offers
        self._engines = engines
        self._payer = payer
        self._session = session
        self._upstream = upstream
        self._breaker = breaker
        self._rng = rng
        self._first_byte_s = first_byte_s
        self._attempt_count_max = attempt_count_max
        self._call_count_max = call_count_max
        self._clock = clock
        self._in_flight: Counter[tuple[PeerId, RecordId]] = Counter()

    def explain(self, call: ModelCall) -> Route:
        """Return the route that this call would take now, without taking it."""
        return self._choose(call, self._models.resolve(call.model), frozenset())

    @asynccontextmanager
    async def answer(self, call: ModelCall, *, request_id: str) -> AsyncGenerator[Answer, None]:
        """Yield the answer to a call; leaving early (the client went away) aborts it.

        Raises:
            NoModel, NoOffer, BadCall: there is nobody to ask.
            EngineRefused: the call itself was refused (4xx), with the engine's own words.
            AllRefused: every offer that was tried failed before its first byte.
            TooManyCalls: as many calls as are allowed are under way.
        """
        if self._in_flight.total() >= self._call_count_max:
            raise TooManyCalls(
                f"{self._call_count_max} calls are under way; try again, or raise "
                "gateway.call_count_max"
            )
        records = self._models.resolve(call.model)
        failed: dict[tuple[PeerId, RecordId], str] = {}
        while True:
            route = self._next(call, records, failed)
            key = (route.peer, route.offer.record)
            self._in_flight[key] += 1
            try:
                async with self._tried(call, route, request_id, len(failed) + 1) as answer:
                    yield answer
                    return
            except _TryNext as failure:
                failed[key] = str(failure)
            finally:
                self._in_flight[key] -= 1
                if not self._in_flight[key]:
                    del self._in_flight[key]

    def _next(
        self,
        call: ModelCall,
        records: Sequence[RecordId],
        failed: dict[tuple[PeerId, RecordId], str],
    ) -> Route:
        if len(failed) >= self._attempt_count_max:
            raise AllRefused(_all_refused(failed))
        try:
            return self._choose(call, records, frozenset(failed))
        except NoOffer:
            if failed:
                raise AllRefused(_all_refused(failed)) from None
            raise

    def _choose(
        self,
        call: ModelCall,
        records: Sequence[RecordId],
        excluded: frozenset[tuple[PeerId, RecordId]],
    ) -> Route:
        if not records:
            raise NoModel(f"no model is known as {call.model[:120]!r}; see GET /v1/models")
        candidates = [
            self._candidate(offered)
            for record in records
            for offered in self._offers.offered(record)
        ]
        requirement, workload = _needs(call)
        return choose(candidates, requirement, workload, self._rng, excluded=excluded)

    def _candidate(self, offered: Offered) -> Candidate:
        peer, record = offered.advert.peer, offered.offer.record
        return Candidate(
            peer=peer,
            offer=offered.offer,
            endpoints=offered.advert.endpoints,
            local=peer == self._own,
            rtt_ms=self._offers.rtt_ms(peer),
            in_flight=self._in_flight.get((peer, record), 0),
            share=self._breaker.share(peer, record, self._clock()),
        )

    @asynccontextmanager
    async def _tried(
        self, call: ModelCall, route: Route, request_id: str, attempt: int
    ) -> AsyncGenerator[Answer, None]:
        peer, record = route.peer, route.offer.record
        if not self._breaker.admit(peer, record, self._clock(), self._rng):
            raise _TryNext("its breaker is open")
        body = engine_body(call, route.offer.served_name)
        metering = Metering(call, body)
        began = False
        try:
            async with self._opened(call, route, body, metering, request_id) as opened:
                began = True
                yield Answer(route, attempt, opened.content_type, metering.passed(opened))
        except EngineRefused as error:
            if began:
                raise
            if error.fatal:
                raise
            self._breaker.failed(peer, record, self._clock())
            raise _TryNext(str(error)) from error
        except EngineCut:
            self._breaker.failed(peer, record, self._clock())
            raise
        else:
            self._breaker.succeeded(peer, record, self._clock())

    @asynccontextmanager
    async def _opened(
        self, call: ModelCall, route: Route, body: bytes, metering: Metering, request_id: str
    ) -> AsyncGenerator[Opened, None]:
        if route.candidate.local:
            url = self._engines.engine_url(route.offer.record)
            if url is None:
                raise EngineRefused("the engine of this node is not ready")
            async with self._upstream.open(
                url, call.task.value, body, request_id=request_id
            ) as opened:
                yield opened
            return
        offered = self._offered(route)
        authorised = self._payer.authorise(offered, PEER_PATH + call.task.value, body)
        headers = {**authorised.headers, "Hansa-Request-Id": request_id}
        async with self._paid(authorised, metering):
            endpoint = _endpoint(route)
            async with open_peer(
                self._session,
                endpoint,
                call.task.value,
                body,
                headers,
                first_byte_s=self._first_byte_s,
            ) as opened:
                yield opened

    @asynccontextmanager
    async def _paid(self, authorised: Authorised, metering: Metering) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._payer.received(authorised, metering.measured())

    def _offered(self, route: Route) -> Offered:
        for offered in self._offers.offered(route.offer.record):
            if offered.advert.peer == route.peer and offered.offer == route.offer:
                return offered
        raise EngineRefused("the offer was withdrawn meanwhile")


class _TryNext(Exception):
    """One offer did not begin to answer; another may."""


def _needs(call: ModelCall) -> tuple[Requirement, Workload]:
    input_tokens = sum(len(text) for text in _texts(call)) // CHARACTERS_PER_TOKEN
    asked = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
    output = asked if type(asked) is int and asked > 0 else OUTPUT_TOKENS_DEFAULT
    if call.task is Task.EMBEDDINGS:
        output = 0
    requirement = Requirement(
        task=_TASKS[call.task],
        price_input_max=_limit(call, "price_input_max"),
        price_output_max=_limit(call, "price_output_max"),
        quantizations=frozenset(_words(call, "quantizations")),
        regions=frozenset(_words(call, "regions")),
    )
    return requirement, Workload(input_tokens=input_tokens, output_tokens=output)


def _texts(call: ModelCall) -> list[str]:
    prompt = call.body.get("prompt", call.body.get("input"))
    texts = [prompt] if isinstance(prompt, str) else []
    messages = call.body.get("messages")
    if isinstance(messages, list):
        texts += [str(message) for message in cast("list[Any]", messages)[:MESSAGE_COUNT_SEEN]]
    return texts


def _limit(call: ModelCall, name: str) -> int | None:
    value = call.wishes.get(name)
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise BadCall(f"hansa.{name} must be micro-USD per million tokens as an integer")
    return value


def _words(call: ModelCall, name: str) -> list[str]:
    value = call.wishes.get(name)
    if value is None:
        return []
    words = cast("list[Any]", value) if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in words):
        raise BadCall(f"hansa.{name} must be a word or a list of words")
    return cast("list[str]", words)


def _endpoint(route: Route) -> PeerEndpoint:
    first = route.candidate.endpoints[0]
    return PeerEndpoint(route.peer, first.host, first.port, first.certificate_sha256)


def _all_refused(failed: dict[tuple[PeerId, RecordId], str]) -> str:
    reasons = "; ".join(f"{peer[-8:]}: {reason}" for (peer, _record), reason in failed.items())
    return f"{len(failed)} offers failed before their first byte: {reasons}"[:1500]
