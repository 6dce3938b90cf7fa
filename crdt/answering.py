"""What a peer's requests are answered with: pages of the log, items by id, and comparisons."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from blake3 import blake3

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
from crdt.heavywork import HeavyWork
from crdt.ids import ItemId, PeerId
from crdt.reconcile.frames import (
    AskRanges,
    AskSketch,
    Compare,
    Held,
    Pick,
    Question,
    Take,
    encode_compared,
    encode_picked,
    encode_ranged,
    encode_sketched,
)
from crdt.reconcile.keys import DIGEST_BYTES
from crdt.replica import ID_SET_COUNT_MAX, Replica
from crdt.scopes import EVERYTHING, Scope, encode_scoped

if TYPE_CHECKING:
    from crdt.reconcile.comparing import Answers
    from crdt.reconcile.moments import Moment, Moments

_IDS_A_TOKEN = {Compare: 20_000, AskSketch: 1_000, Pick: 20_000}
"""A sketch takes 0.33 us an id, the others a twentieth of that (`DESIGN.md`, section 9)."""
_MOMENT_IDS_A_TOKEN, _HASHED_IDS_A_TOKEN, _RANGES_A_TOKEN = 15_000, 60_000, 8
"""To sort what has arrived into a million ids takes 22 ms, to hash them 5; a range 14 to 40 us."""
_READ_IDS_A_TOKEN = 600
"""To look up the record of each item of a million takes half a second."""


class Answering:
    """Answers from one replica, within a budget of work for all peers together."""

    def __init__(self, replica: Replica, secret: bytes, own: Scope = EVERYTHING) -> None:
        """Take 32 bytes that nobody else knows: comparisons' nonces follow from them.

        Args:
            own: What this node wants itself, which it says to whom it asks it.
        """
        self._replica = replica
        self._network = replica.network
        self._secret = blake3(b"answers", key=secret).digest()
        self._made: Answers | None = None
        self._moments: OrderedDict[Scope, Moments] = OrderedDict()
        self._own = own
        self._scopes: dict[PeerId, Scope] = {}
        # Apart, because ranges are asked for when a sketch, which costs more, has not been enough.
        self._sketching, self._cutting = HeavyWork(), HeavyWork()

    def answer(self, peer: PeerId, request: RequestFrame, now_ms: int) -> bytes | None:
        """Return the answer; None when too much work is asked for at once.

        Raises:
            MalformedBytes: the request does not go with what was answered before.
        """
        if isinstance(request, Fetch):
            return self._fetched(request)
        if isinstance(request, CatchUp):
            return self._page(request, self.scope_of(peer))
        if isinstance(request, Scope):
            self._scopes[peer] = request
            return encode_scoped(self._own, self._network)
        return self._comparison(peer, request, now_ms)

    def scope_of(self, peer: PeerId) -> Scope:
        """Return what a peer has said it wants; everything when it has said nothing."""
        return self._scopes.get(peer, EVERYTHING)

    def forget(self, peer: PeerId) -> None:
        """Forget what a peer that is gone has said."""
        self._scopes.pop(peer, None)

    @property
    def _answers(self) -> Answers:
        if self._made is None:
            from crdt.reconcile.comparing import Answers  # brings numpy, once there is a peer

            self._made = Answers(self._network, self._secret)
        return self._made

    def _moments_of(self, scope: Scope) -> Moments:
        from crdt.reconcile.moments import Moments

        found = self._moments.pop(scope, None) or Moments()
        self._moments[scope] = found
        if len(self._moments) > ID_SET_COUNT_MAX:
            self._moments.popitem(last=False)
        return found

    def _fetched(self, request: Fetch) -> bytes:
        storage = self._replica.storage
        found = storage.raws(request.ids, bytes_max=ANSWER_BYTES_MAX)
        rest = [id_ for id_ in request.ids if id_ not in found]
        known = storage.known(rest)
        absent = [id_ for id_ in rest if id_ not in known]
        return encode_fetched(list(found.values()), absent, self._network)

    def _page(self, request: CatchUp, scope: Scope) -> bytes:
        storage = self._replica.storage
        after_n = request.after_n if request.epoch == storage.epoch else 0
        if request.mode is CatchUpMode.ITEMS:
            page = storage.items_after(after_n, bytes_max=ANSWER_BYTES_MAX, scope=scope)
        else:
            page = storage.ids_after(after_n, count_max=ANSWER_ID_COUNT_MAX, scope=scope)
        return encode_caught_up(
            network=self._network,
            epoch=storage.epoch,
            next_n=page.next_n,
            last_n=storage.last_n,
            done=page.done,
            raws=page.raws,
            ids=() if page.raws else page.ids,
        )

    def _comparison(self, peer: PeerId, request: Question, now_ms: int) -> bytes | None:
        cuts = isinstance(request, AskRanges | Take)
        if not (self._cutting if cuts else self._sketching).may(peer, now_ms):
            return None
        if isinstance(request, AskRanges):
            return self._ranged(peer, request, now_ms)
        if isinstance(request, Take):
            return self._taken(peer, request, now_ms)
        answers = self._answers
        scope = self.scope_of(peer)
        self._pay_for_reading(peer, scope, now_ms)
        rows = self._replica.ids_in(scope).rows()
        self._sketching.owe(peer, len(rows) / _IDS_A_TOKEN[type(request)], now_ms)
        storage = self._replica.storage
        held = Held(storage.epoch, storage.last_n, len(rows), b"")
        if isinstance(request, Compare):
            compared = answers.compare(peer, request, held, rows)
            return encode_compared(compared.nonce, compared.held, self._network)
        if isinstance(request, AskSketch):
            sketched = answers.sketch(peer, request, held, rows)
            return encode_sketched(sketched.held, sketched.cells, self._network)
        return self._picked(peer, request, *answers.picked(peer, request, rows))

    def _ranged(self, peer: PeerId, request: AskRanges, now_ms: int) -> bytes:
        answers = self._answers
        storage = self._replica.storage
        moment = self._moment(peer, request.n, now_ms)
        if moment is None:
            gone = Held(storage.epoch, storage.last_n, 0, bytes(DIGEST_BYTES))
            return encode_ranged(gone, (), self._network)
        held, parts, hashed = answers.ranged(peer, request, moment)
        work = hashed / _HASHED_IDS_A_TOKEN + len(parts) / _RANGES_A_TOKEN
        self._cutting.owe(peer, work, now_ms)
        return encode_ranged(held, parts, self._network)

    def _taken(self, peer: PeerId, request: Take, now_ms: int) -> bytes:
        answers = self._answers
        moment = self._moment(peer, 0, now_ms)
        assert moment is not None
        self._cutting.owe(peer, len(request.places) / _RANGES_A_TOKEN, now_ms)
        return self._picked(peer, request, *answers.taken(peer, request, moment.ranges))

    def _moment(self, peer: PeerId, n: int, now_ms: int) -> Moment | None:
        """Return what was held at an arrival, if that is kept; of arrival 0, something recent."""
        scope = self.scope_of(peer)
        moments = self._moments_of(scope)
        storage = self._replica.storage
        if n:
            return moments.named(storage.epoch, n)
        moment = moments.recent(storage.epoch, storage.last_n, now_ms)
        if moment is None:
            self._pay_for_reading(peer, scope, now_ms)
            rows = self._replica.ids_in(scope).rows()
            self._cutting.owe(peer, len(rows) / _MOMENT_IDS_A_TOKEN, now_ms)
            moment = moments.keep(storage.epoch, storage.last_n, rows, now_ms)
        return moment

    def _pay_for_reading(self, peer: PeerId, scope: Scope, now_ms: int) -> None:
        """Let a peer owe what it takes to read the ids of a scope that nobody else has asked of."""
        if not scope.is_all and not self._replica.has_ids_in(scope):
            work = self._replica.storage.last_n / _READ_IDS_A_TOKEN
            self._sketching.owe(peer, work, now_ms)
            self._cutting.owe(peer, work, now_ms)

    def _picked(
        self, peer: PeerId, request: Pick | Take, ids: list[ItemId], absent: list[int]
    ) -> bytes:
        answers = self._answers
        storage = self._replica.storage
        found = storage.raws(ids, bytes_max=ANSWER_BYTES_MAX)
        rest = [id_ for id_ in ids if id_ not in found]
        known = storage.known(rest)
        dropped = [id_ for id_ in rest if id_ not in known]
        gone = {*absent, *answers.named(peer, request, dropped)}
        return encode_picked(list(found.values()), sorted(gone), self._network)
