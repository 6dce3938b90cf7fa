"""Following one answer from its first byte to its last: counts, hashes and times."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable

from node.gateway.calls import ModelCall
from node.gateway.errors import EngineCut
from node.gateway.events import StreamMeter, TokenCounts, counts_in, finish_reason_in, json_object
from node.gateway.ports import Measured
from node.gateway.upstream import Opened


class Metering:
    """One answer on its way through this node; ask for `measured` when it is over."""

    def __init__(
        self, call: ModelCall, request: bytes, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._call = call
        self._clock = clock
        self._begun = clock()
        self._first: float | None = None
        self._request_hash = hashlib.sha3_256(request).digest()
        self._response = hashlib.sha3_256()
        self._meter = StreamMeter(call.usage)
        self._counts = TokenCounts()
        self._whole = False

    async def passed(self, answer: Opened) -> AsyncIterator[bytes]:
        """Yield what the client is to get, piece by piece, as it comes.

        Raises:
            EngineCut: the answer ended before its end; what was yielded counts.
        """
        self._first = self._clock()
        if not self._call.stream:
            yield await self._whole_answer(answer)
            return
        async for piece in _pieces(answer):
            self._response.update(piece)
            passed = self._meter.feed(piece)
            if passed:
                yield passed
        if not self._meter.complete:
            error = self._meter.error
            raise EngineCut(
                f"the engine failed: {str(error.get('message'))[:300]}"
                if error
                else "the stream ended without saying why"
            )

    def measured(self) -> Measured:
        """Return what was received and passed on, whether or not it came to its end."""
        now = self._clock()
        counts = self._meter.counts if self._call.stream else self._counts
        return Measured(
            counts=counts,
            request_hash=self._request_hash,
            response_hash=self._response.digest(),
            complete=self._meter.complete if self._call.stream else self._whole,
            first_token_ms=int(((self._first or now) - self._begun) * 1000),
            duration_ms=int((now - self._begun) * 1000),
        )

    async def _whole_answer(self, answer: Opened) -> bytes:
        whole = b"".join([piece async for piece in _pieces(answer)])
        self._response.update(whole)
        document = json_object(whole)
        if document is None:
            raise EngineCut("the answer is not a JSON object, or broke off")
        counts = counts_in(document)
        if counts is not None:
            self._counts = counts
            self._whole = bool(finish_reason_in(document))
        return whole


async def _pieces(answer: Opened) -> AsyncIterator[bytes]:
    yield answer.first
    async for piece in answer.rest:
        yield piece
