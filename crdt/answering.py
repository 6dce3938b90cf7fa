"""What a peer's requests are answered with: pages of the log, items by id, and comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

from crdt.budgets import TokenBucket
from crdt.frames import (
    ANSWER_ID_COUNT_MAX,
    CatchUp,
    CatchUpMode,
    Fetch,
    RequestFrame,
    encode_caught_up,
    encode_fetched,
)
from crdt.framing import ANSWER_BYTES_MAX
from crdt.ids import PeerId
from crdt.reconcile.frames import (
    AskSketch,
    Compare,
    Held,
    Pick,
    encode_compared,
    encode_picked,
    encode_sketched,
)
from crdt.replica import Replica

if TYPE_CHECKING:
    from crdt.reconcile.comparing import Answers

HEAVY_RATE_S = 200
"""Thousands of ids a second that sketches are made of for all peers together: 7 % of a core."""
_IDS_A_TOKEN = {Compare: 20_000, AskSketch: 1_000, Pick: 20_000}
"""A sketch takes 0.33 us an id, the others a twentieth of that (`DESIGN.md`, section 9)."""


class Answering:
    """Answers from one replica, within a budget of work for all peers together."""

    def __init__(self, replica: Replica, secret: bytes) -> None:
        """Take 32 bytes that nobody else knows: comparisons' nonces follow from them."""
        self._replica = replica
        self._network = replica.network
        self._secret = blake3(b"answers", key=secret).digest()
        self._made: Answers | None = None
        self._heavy = TokenBucket(rate_per_s=HEAVY_RATE_S, burst=10 * HEAVY_RATE_S, now_ms=0)

    def answer(self, peer: PeerId, request: RequestFrame, now_ms: int) -> bytes | None:
        """Return the answer; None when too much work is asked for at once.

        Raises:
            MalformedBytes: the request does not go with what was answered before.
        """
        if isinstance(request, Fetch):
            return self._fetched(request)
        if isinstance(request, CatchUp):
            return self._page(request)
        return self._comparison(peer, request, now_ms)

    @property
    def _answers(self) -> Answers:
        if self._made is None:
            from crdt.reconcile.comparing import Answers  # brings numpy, once there is a peer

            self._made = Answers(self._network, self._secret)
        return self._made

    def _fetched(self, request: Fetch) -> bytes:
        storage = self._replica.storage
        found = storage.raws(request.ids, bytes_max=ANSWER_BYTES_MAX)
        rest = [id_ for id_ in request.ids if id_ not in found]
        known = storage.known(rest)
        absent = [id_ for id_ in rest if id_ not in known]
        return encode_fetched(list(found.values()), absent, self._network)

    def _page(self, request: CatchUp) -> bytes:
        storage = self._replica.storage
        after_n = request.after_n if request.epoch == storage.epoch else 0
        if request.mode is CatchUpMode.ITEMS:
            page = storage.items_after(after_n, bytes_max=ANSWER_BYTES_MAX)
        else:
            page = storage.ids_after(after_n, count_max=ANSWER_ID_COUNT_MAX)
        return encode_caught_up(
            network=self._network,
            epoch=storage.epoch,
            next_n=page.next_n,
            last_n=storage.last_n,
            done=page.done,
            raws=page.raws,
            ids=() if page.raws else page.ids,
        )

    def _comparison(
        self, peer: PeerId, request: Compare | AskSketch | Pick, now_ms: int
    ) -> bytes | None:
        rows = self._replica.ids.rows()
        if not self._heavy.take(1, now_ms):
            return None
        self._heavy.owe(len(rows) // _IDS_A_TOKEN[type(request)], now_ms)
        storage = self._replica.storage
        held = Held(storage.epoch, storage.last_n, len(rows), b"")
        if isinstance(request, Compare):
            compared = self._answers.compare(peer, request, held, rows)
            return encode_compared(compared.nonce, compared.held, self._network)
        if isinstance(request, AskSketch):
            sketched = self._answers.sketch(peer, request, held, rows)
            return encode_sketched(sketched.held, sketched.cells, self._network)
        ids, absent = self._answers.picked(peer, request, rows)
        found = storage.raws(ids, bytes_max=ANSWER_BYTES_MAX)
        rest = [id_ for id_ in ids if id_ not in found]
        known = storage.known(rest)
        dropped = [id_ for id_ in rest if id_ not in known]
        absent += self._answers.shorts(peer, request, dropped)
        return encode_picked(list(found.values()), absent, self._network)
