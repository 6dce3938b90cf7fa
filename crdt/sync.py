"""The sync machine: gossip for speed, cursor catch-up for truth. Events in, effects out.

With each peer it reads that peer's store from where it stopped: whole items when it is behind
everybody (from one peer at a time), only ids once somebody has brought it up to date. What items
wait for is fetched by id. A peer's cursor moves only past what has been dealt with, and in the
same commit, so a crash anywhere resumes and nothing is skipped.

Longer than a module should be, because any step may change what the peers are asked next; what
needs no peer is elsewhere (`answering`, `progress`, `outbox`, `reconcile`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from blake3 import blake3

from crdt.answering import Answering
from crdt.errors import MalformedBytes, RemoteFault
from crdt.events import (
    AnswerReceived,
    Changed,
    DropPeer,
    Effect,
    Event,
    GossipReceived,
    Heartbeat,
    LocalItems,
    PeerConnected,
    PeerLost,
    PruneAsked,
    Pruned,
    Reply,
    RequestFailed,
    RequestReceived,
    SendRequest,
    Settled,
    SyncProtocol,
    WakeAt,
)
from crdt.frames import (
    CatchUp,
    CatchUpMode,
    CaughtUp,
    Fetch,
    Ops,
    RequestFrame,
    decode_caught_up,
    decode_fetched,
    decode_gossip,
    decode_request,
    encode_request,
)
from crdt.framing import FETCH_COUNT_MAX, UnknownVersion
from crdt.ids import ItemId, PeerId, RecordId
from crdt.items import Item
from crdt.outbox import Outbox
from crdt.partial import Partial
from crdt.ports import LOCAL, Accepted, Cursor
from crdt.progress import (
    ARRIVAL_PATHS,
    START,
    PeerProgress,
    PeerStatus,
    Phase,
    SyncLimits,
    SyncStatus,
    new_progress,
)
from crdt.reconcile.keys import NONCE_BYTES, TooDifferent
from crdt.replica import Replica
from crdt.scopes import EVERYTHING, Scope, decode_scoped

AGAIN_MS = 1_000
"""Until a peer that had done enough for now is asked the same again (`docs/wire.md`)."""
MALFORMED_WEIGHT = 6
"""Faults that an answer that makes no sense counts as: two within 20 s are enough."""


class SyncMachine:
    """Keeps a replica in step with its peers; one per node."""

    def __init__(
        self,
        replica: Replica,
        rng: random.Random,
        limits: SyncLimits | None = None,
        scope: Scope = EVERYTHING,
    ) -> None:
        self._partial = Partial(replica.network, scope)
        self._replica = replica
        replica.take_up()
        self._network = replica.network
        self._rng = rng
        self._limits = limits or SyncLimits()
        self._peers: dict[PeerId, PeerProgress] = {}
        self._next_request = 1
        self._bulk: PeerId | None = None
        self._bulk_until_ms = 0
        self._fresh_until_ms = -1
        self._outbox = Outbox(self._network)
        self._arrivals: dict[str, int] = dict.fromkeys(ARRIVAL_PATHS, 0)
        self._secret = rng.randbytes(32)
        self._nonce_count = 0
        self._answering = Answering(replica, self._secret, scope)

    def handle(self, event: Event, *, now_ms: int) -> list[Effect]:
        """Apply one event and return what must now be done, in order.

        Raises:
            WorldFault: the store failed; for `LocalItems` nothing was published, and everything
                else is asked for again later.
        """
        match event:
            case PeerConnected(peer):
                return self._on_connected(peer, now_ms)
            case PeerLost(peer):
                return self._on_lost(peer, now_ms)
            case GossipReceived():
                return self._on_gossip(event, now_ms)
            case RequestReceived():
                return self._on_request(event, now_ms)
            case AnswerReceived():
                return self._on_answer(event, now_ms)
            case RequestFailed():
                return self._on_failed(event, now_ms)
            case LocalItems(token, items):
                return self._on_local(token, items, now_ms)
            case PruneAsked(token, records):
                return self._on_prune(token, records, now_ms)
            case Heartbeat():
                return self._on_heartbeat(now_ms)

    def status(self) -> SyncStatus:
        """Return how far each peer has been read."""
        peers = tuple(
            PeerStatus(
                peer.id,
                peer.phase.value,
                peer.cursor.n,
                peer.last_n,
                peer.synced,
                partial=not self._holds(peer).is_all,
            )
            for peer in self._peers.values()
        )
        pending, last_n = len(self._replica.pending), self._replica.storage.last_n
        return SyncStatus(
            peers,
            pending,
            last_n,
            dict(self._arrivals),
            self._partial.scope,
            dict(self._replica.quotas.refused),
        )

    # -- connections and time

    def _on_connected(self, peer_id: PeerId, now_ms: int) -> list[Effect]:
        if peer_id in self._peers or len(self._peers) >= self._limits.peer_count_max:
            return []
        cursor = self._replica.storage.cursor(self._partial.cursor_name(peer_id))
        self._peers[peer_id] = new_progress(peer_id, cursor, self._limits, now_ms)
        return self._on_heartbeat(now_ms)

    def _on_lost(self, peer_id: PeerId, now_ms: int) -> list[Effect]:
        if self._peers.pop(peer_id, None) is None:
            return []
        self._replica.pending.forget(peer_id)
        self._answering.forget(peer_id)
        self._end_bulk(peer_id, now_ms)
        return [WakeAt(self._wake_ms(now_ms))]

    def _on_heartbeat(self, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        self._replica.pending.expire(before_ms=now_ms - self._limits.pending_ms)
        if self._bulk is not None and now_ms >= self._bulk_until_ms:
            self._end_bulk(self._bulk, now_ms)
        for peer in list(self._peers.values()):
            if peer.arrived is not None:
                effects += self._take_arrived(peer, now_ms)
            if peer.phase is Phase.IDLE and now_ms >= peer.due_ms:
                effects += self._catch_up(peer, now_ms)
        effects += self._outbox.flush(now_ms)
        return [*effects, WakeAt(self._wake_ms(now_ms))]

    def _wake_ms(self, now_ms: int) -> int:
        idle = [peer.due_ms for peer in self._peers.values() if peer.phase is Phase.IDLE]
        times = [*idle, now_ms + self._limits.catch_up_ms]
        if self._outbox:
            times.append(self._outbox.due_ms(now_ms))
        return max(now_ms + 1, min(times))

    # -- what local callers publish

    def _on_local(self, token: int, items: tuple[Item, ...], now_ms: int) -> list[Effect]:
        accepted = self._replica.accept(items, source=LOCAL, now_ms=now_ms)
        self._arrivals["local"] += len(accepted.admitted)
        self._outbox.put(accepted.admitted, now_ms)
        effects: list[Effect] = [Settled(token, accepted.outcomes), *_changed(accepted)]
        effects += self._start_over(accepted, now_ms)
        effects += self._outbox.flush(now_ms)
        if self._outbox:
            effects.append(WakeAt(self._outbox.due_ms(now_ms)))
        return effects

    def _on_prune(self, token: int, records: tuple[RecordId, ...], now_ms: int) -> list[Effect]:
        effects: list[Effect] = [Pruned(token, sum(map(self._replica.prune, records)))]
        # There may be room again for what was passed over.
        return effects + self._read_anew(now_ms) if self._replica.take_up() else effects

    # -- gossip

    def _on_gossip(self, event: GossipReceived, now_ms: int) -> list[Effect]:
        forwarder = self._peers.get(event.forwarder)
        if forwarder is None:
            return []
        try:
            frame = decode_gossip(event.raw, self._network)
        except RemoteFault as fault:
            return self._blame(event.forwarder, fault, now_ms)
        count = len(frame.items) if isinstance(frame, Ops) else len(frame.ids)
        size = len(event.raw)
        if not forwarder.gossip.take(count, now_ms) or not forwarder.gossip_bytes.take(
            size, now_ms
        ):
            return []
        if not isinstance(frame, Ops):
            unknown = self._unknown(frame.ids)
            return self._want(forwarder, [id_ for id_ in frame.ids if id_ in unknown], now_ms)
        accepted = self._replica.accept(
            self._partial.wanted(frame.items),
            source=event.forwarder,
            now_ms=now_ms,
            author=event.author,
        )
        self._arrivals["gossip"] += len(accepted.admitted)
        effects = [*_changed(accepted), *self._start_over(accepted, now_ms)]
        # Whoever passes gossip on has judged its bytes only: the author answers for the rest. What
        # had waited for this frame has authors of its own.
        for author, first in dict(reversed(accepted.faults)).items():
            effects += self._blame(author, first, now_ms)
        return effects + self._want(
            forwarder, self._replica.pending.missing(event.forwarder), now_ms
        )

    # -- answering

    def _on_request(self, event: RequestReceived, now_ms: int) -> list[Effect]:
        peer = self._peers.get(event.peer)
        if peer is None or not peer.requests.take(1, now_ms) or not peer.answers.take(1, now_ms):
            return [Reply(event.token, None)]
        try:
            request = decode_request(event.raw, self._network)
        except UnknownVersion:
            return [Reply(event.token, None)]  # from somebody newer, who knows what that means
        except RemoteFault as fault:
            return [Reply(event.token, None), *self._blame(event.peer, fault, now_ms)]
        try:
            answer = self._answering.answer(event.peer, request, now_ms)
        except RemoteFault as fault:
            return [Reply(event.token, None), *self._blame(event.peer, fault, now_ms)]
        if answer is not None:
            peer.answers.owe(len(answer), now_ms)
        return [Reply(event.token, answer)]

    # -- asking

    def _catch_up(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Ask for the next page, in the mode that costs least; wait while another sends in bulk."""
        if self._peers.get(peer.id) is not peer:
            return []  # dropped a moment ago, for a fault
        if peer.again is not None:
            return self._ask_again(peer, peer.again)
        if peer.heeds is None and not self._partial.scope.is_all:
            return self._announce(peer)
        is_fresh = now_ms < self._fresh_until_ms
        if not (peer.compares and self._may_compare(peer)):
            peer.unread = False
        elif self._replica.storage.last_n and (peer.unread or self._should_prove(peer, now_ms)):
            if not any(one.comparison for one in self._peers.values()):
                return self._compare(peer, now_ms)
            if peer.unread and now_ms < peer.patient_until_ms:
                return self._rest(peer, now_ms, self._limits.idle_page_ms)
            # Who keeps us waiting for its answers keeps nobody else from being read.
        in_bulk = not (is_fresh or peer.is_familiar)
        if in_bulk and self._bulk not in {None, peer.id}:
            return self._rest(peer, now_ms, self._bulk_until_ms - now_ms)
        peer.unread = False
        if in_bulk:
            peer.page_new = peer.page_new and peer.phase is Phase.ITEMS
            peer.phase = Phase.ITEMS
            if self._bulk is None:
                self._bulk = peer.id
                self._bulk_until_ms = now_ms + self._limits.bulk_lease_ms
            return [self._ask_items(peer, peer.cursor)]
        peer.phase = Phase.IDS
        frame = CatchUp(peer.cursor.epoch, peer.cursor.n, CatchUpMode.IDS)
        peer.request = self._new_request()
        return [self._send(peer, peer.request, encode_request(frame, self._network))]

    def _ask_items(self, peer: PeerProgress, cursor: Cursor) -> Effect:
        """Ask for the page of whole items after a cursor, which may be ahead of the peer's."""
        frame = CatchUp(cursor.epoch, cursor.n, CatchUpMode.ITEMS)
        peer.request = self._new_request()
        return self._send(peer, peer.request, encode_request(frame, self._network))

    def _should_prove(self, peer: PeerProgress, now_ms: int) -> bool:
        """Whether a peer that was read is to prove, once more, that nothing was missed."""
        return peer.synced and now_ms >= peer.compare_due_ms

    def _announce(self, peer: PeerProgress) -> list[Effect]:
        """Tell a peer what is wanted of it, before it is asked for anything."""
        peer.phase, peer.request = Phase.SCOPE, self._new_request()
        frame = encode_request(self._partial.scope, self._network)
        # A frame that the version before does not know: it refuses the protocol, and blames nobody.
        return [self._send(peer, peer.request, frame, SyncProtocol.COMPARE)]

    def _on_scoped(self, peer: PeerProgress, raw: bytes, now_ms: int) -> list[Effect]:
        peer.scope, peer.heeds = decode_scoped(raw, self._network), True
        return self._catch_up(peer, now_ms)

    def _holds(self, peer: PeerProgress) -> Scope:
        """Return what a peer holds as it says: in its answer to our scope, or by its own."""
        return peer.scope or self._answering.scope_of(peer.id)

    def _may_compare(self, peer: PeerProgress) -> bool:
        """Whether both would compare the same part: all that is wanted here, and nothing else."""
        is_ours = self._partial.scope.is_all or bool(peer.heeds)
        return is_ours and self._partial.is_held_by(self._holds(peer))

    def _compare(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Ask what a peer holds that we lack, and not for all that arrived there.

        When its store is new to us and ours is not empty; one peer at a time, because what two of
        them have and we lack is mostly the same.
        """
        from crdt.reconcile.comparing import Comparison  # brings numpy, once there is a peer

        self._nonce_count += 1
        stream = blake3(self._nonce_count.to_bytes(8, "big"), key=self._secret)
        peer.comparison = Comparison(stream.digest(NONCE_BYTES), self._network)
        peer.compare_due_ms = now_ms + self._jittered(self._limits.compare_ms)
        peer.comparison_until_ms = now_ms + self._limits.comparison_ms
        peer.compared_new = False
        peer.phase = Phase.COMPARING
        return [self._ask_compared(peer, peer.comparison.ask())]

    def _ask_compared(self, peer: PeerProgress, question: RequestFrame) -> Effect:
        peer.request = self._new_request()
        frame = encode_request(question, self._network)
        return self._send(peer, peer.request, frame, SyncProtocol.COMPARE)

    def _on_compared(self, peer: PeerProgress, raw: bytes, now_ms: int) -> list[Effect]:
        comparison = peer.comparison
        assert comparison is not None
        if now_ms >= peer.comparison_until_ms:
            raise TooDifferent  # who tells little at a time keeps nobody else from being compared
        request, items = comparison.answered(raw, self._replica.ids_in(self._partial.scope))
        wanted = self._partial.wanted(items)
        accepted = self._replica.accept(wanted, source=peer.id, now_ms=now_ms)
        effects = self._after_items(accepted, now_ms)
        if accepted.unpruned or self._peers.get(peer.id) is not peer:
            return effects
        peer.compared_new = peer.compared_new or bool(accepted.admitted)
        effects += self._want(peer, self._replica.pending.missing(peer.id), now_ms)
        if request is not None:
            return [*effects, self._ask_compared(peer, request)]
        peer.comparison = None
        peer.compared(is_fruitless=bool(comparison.got) and not peer.compared_new, now_ms=now_ms)
        if not comparison.is_whole():
            return effects + self._read_on(peer, now_ms)
        if peer.unread:
            cursor, peer.unread = comparison.cursor, False
            self._replica.accept(
                (), source=peer.id, now_ms=now_ms, cursors=self._moved(peer, cursor)
            )
            peer.cursor = cursor
            peer.last_n = cursor.n
        return effects + self._next_page(peer, now_ms, done=True, is_new=False)

    def _ask_again(self, peer: PeerProgress, request: RequestFrame) -> list[Effect]:
        """Ask a peer what it refused to be asked a second ago."""
        peer.again, peer.phase = None, Phase.COMPARING
        return [self._ask_compared(peer, request)]

    def _read_on(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Read a peer's store by cursor: comparing has not told what is missing."""
        peer.comparison, peer.unread = None, False
        return self._catch_up(peer, now_ms)

    def _want(self, peer: PeerProgress, ids: Sequence[ItemId], now_ms: int) -> list[Effect]:
        """Fetch `ids` from a peer, but not what it was asked for a moment ago."""
        for id_ in ids:
            if len(peer.wanted) >= self._limits.wanted_count_max:
                break
            if now_ms - peer.asked.get(id_, -self._limits.catch_up_ms) >= self._limits.catch_up_ms:
                peer.wanted[id_] = None
        return self._fetch(peer, now_ms)

    def _fetch(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        if peer.fetch or not peer.wanted or self._peers.get(peer.id) is not peer:
            return []
        peer.fetching = tuple(list(peer.wanted)[:FETCH_COUNT_MAX])
        for id_ in peer.fetching:
            peer.asked[id_] = now_ms
        while len(peer.asked) > self._limits.wanted_count_max:
            peer.asked.popitem(last=False)
        peer.fetch = self._new_request()
        frame = encode_request(Fetch(peer.fetching), self._network)
        return [self._send(peer, peer.fetch, frame)]

    def _on_answer(self, event: AnswerReceived, now_ms: int) -> list[Effect]:
        peer = self._peers.get(event.peer)
        if peer is None or event.request not in {peer.request, peer.fetch}:
            return []  # late, or from before it was lost: nothing is owed
        # A store that fails leaves the peer idle and due: the same is asked for again.
        effects = self._take_arrived(peer, now_ms)
        if event.request not in {peer.request, peer.fetch}:
            return effects  # what came before has changed what is to be done
        return effects + self._on_due_answer(peer, event, now_ms)

    def _on_due_answer(
        self, peer: PeerProgress, event: AnswerReceived, now_ms: int
    ) -> list[Effect]:
        is_fetch = event.request == peer.fetch
        try:
            if is_fetch:
                peer.fetch = 0
                return self._on_fetched(peer, event.raw, now_ms)
            peer.request = 0
            if peer.phase is Phase.SCOPE:
                return self._on_scoped(peer, event.raw, now_ms)
            if peer.comparison is not None:
                return self._on_compared(peer, event.raw, now_ms)
            return self._on_page(peer, event.raw, now_ms)
        except TooDifferent:
            return self._read_on(peer, now_ms)
        except RemoteFault as fault:
            effects = self._give_up(peer, now_ms)
            return effects + self._blame(peer.id, fault, now_ms, weight=MALFORMED_WEIGHT)
        except Exception:
            self._give_up(peer, now_ms)
            raise

    def _on_page(self, peer: PeerProgress, raw: bytes, now_ms: int) -> list[Effect]:
        page = decode_caught_up(raw, self._network)
        after_n = peer.cursor.n if page.epoch == peer.cursor.epoch else 0
        is_whole = peer.phase is Phase.ITEMS
        count = len(page.items) + len(page.ids)
        is_idle = not (count or page.done)
        if page.next_n - after_n < count or (is_idle and not self._may_be_empty(page, after_n)):
            raise MalformedBytes(f"{count} arrivals after {after_n} that end at {page.next_n}")
        if page.items if not is_whole else page.ids:
            raise MalformedBytes("a page of the other mode than was asked for")
        peer.last_n = max(page.last_n, page.next_n)
        cursor = Cursor(page.epoch, page.next_n)
        if peer.cursor.epoch not in {b"", page.epoch}:
            # Its store is another one than we read: what does it hold?
            peer.unread, peer.patient_until_ms = True, now_ms + self._limits.retry_ms
        if not is_whole:
            return self._on_ids(peer, page, cursor, now_ms)
        if page.done or peer.unread or not peer.page_new:
            return self._on_items(peer, page, now_ms)
        # The next page is on its way while this one is judged; taken in by the next heartbeat.
        peer.arrived = page
        return [self._ask_items(peer, cursor), WakeAt(now_ms)]

    def _take_arrived(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Take in the page that came before the one that has been asked for."""
        page, peer.arrived = peer.arrived, None
        if page is None:
            return []
        try:
            return self._on_items(peer, page, now_ms)
        except Exception:
            self._give_up(peer, now_ms)
            raise

    def _on_items(self, peer: PeerProgress, page: CaughtUp, now_ms: int) -> list[Effect]:
        cursor = Cursor(page.epoch, page.next_n)
        accepted = self._replica.accept(
            self._partial.wanted(page.items),
            source=peer.id,
            now_ms=now_ms,
            cursors=self._moved(peer, cursor),
        )
        effects = self._after_items(accepted, now_ms)
        if accepted.unpruned or self._peers.get(peer.id) is not peer:
            return effects
        peer.cursor, peer.page_new = cursor, bool(accepted.admitted)
        effects += self._want(peer, self._replica.pending.missing(peer.id), now_ms)
        if peer.request:
            return effects  # the next page is on its way already
        return effects + self._next_page(peer, now_ms, done=page.done, is_new=peer.page_new)

    def _on_ids(
        self, peer: PeerProgress, page: CaughtUp, cursor: Cursor, now_ms: int
    ) -> list[Effect]:
        """Fetch what a page of ids names and we lack; only then does the cursor pass it."""
        unknown = self._unknown(page.ids)
        wanted = [id_ for id_ in page.ids if id_ in unknown]
        elsewhere = self._fetched_elsewhere(peer)
        if elsewhere.intersection(wanted) and not peer.deferred:
            # Somebody else is sending these. Look again soon, and then ask whoever has them.
            peer.deferred = True
            return self._rest(peer, now_ms, self._limits.retry_ms)
        peer.deferred = False
        peer.page, peer.page_done, peer.page_new = cursor, page.done, False
        if not wanted:
            return self._finish_page(peer, now_ms)
        for id_ in wanted:
            peer.wanted[id_] = None
        # Nothing to send if another fetch is under way: its answer is followed by this one.
        return self._fetch(peer, now_ms)

    def _on_fetched(self, peer: PeerProgress, raw: bytes, now_ms: int) -> list[Effect]:
        answer = decode_fetched(raw, self._network)
        got = [item.id for item in answer.items]
        asked = set(peer.fetching)
        if len(set(got)) != len(got) or not asked.issuperset((*got, *answer.absent)):
            raise MalformedBytes("items that were not asked for")
        if not got and not answer.absent:
            raise MalformedBytes("an answer to a fetch that says nothing")
        for id_ in (*got, *answer.absent):
            peer.wanted.pop(id_, None)
        peer.fetching = ()
        items = self._partial.wanted(answer.items)
        accepted = self._replica.accept(items, source=peer.id, now_ms=now_ms)
        peer.page_new = peer.page_new or bool(accepted.admitted)
        effects = self._after_items(accepted, now_ms)
        if accepted.unpruned:
            return effects
        if peer.page is not None and answer.absent:
            # It listed them a moment ago; only a superseded receipt may go, now and then.
            weight = len(answer.absent) / 100
            effects += self._blame(peer.id, MalformedBytes("listed what it lacks"), now_ms, weight)
        effects += self._want(peer, self._replica.pending.missing(peer.id), now_ms)
        if not peer.fetch and peer.phase is Phase.IDS and peer.page is not None:
            effects += self._finish_page(peer, now_ms)
        return effects

    def _finish_page(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Move the cursor past a page of ids: all of them are here, or were not to be had."""
        assert peer.page is not None
        cursor, peer.page = peer.page, None
        moved = self._moved(peer, cursor)
        if moved:
            self._replica.accept((), source=peer.id, now_ms=now_ms, cursors=moved)
        peer.cursor = cursor
        return self._next_page(peer, now_ms, done=peer.page_done, is_new=peer.page_new)

    def _next_page(
        self, peer: PeerProgress, now_ms: int, *, done: bool, is_new: bool
    ) -> list[Effect]:
        peer.failures, peer.is_familiar = 0, not (done or is_new)
        if not done and is_new:
            return self._catch_up(peer, now_ms)
        if not done:
            # Nothing of it was new: no hurry, and a peer that invents pages gets nowhere fast.
            effects = self._rest(peer, now_ms, self._limits.idle_page_ms)
            return effects + self._end_bulk(peer.id, now_ms)
        peer.synced = True
        peer.heeds = peer.heeds or None  # who did not answer is told again, with the next page
        if self._partial.is_held_by(self._holds(peer)):
            self._fresh_until_ms = now_ms + self._limits.fresh_ms
        effects = self._rest(peer, now_ms, self._jittered(self._limits.catch_up_ms))
        return effects + self._end_bulk(peer.id, now_ms)

    def _on_failed(self, event: RequestFailed, now_ms: int) -> list[Effect]:
        peer = self._peers.get(event.peer)
        if peer is None or event.request not in {peer.request, peer.fetch}:
            return []
        compares = peer.comparison is not None or peer.phase is Phase.SCOPE
        if event.unspoken and compares and event.request == peer.request:
            # Of an earlier version. Nothing is lost by reading all that arrived there.
            peer.request, peer.compares, peer.heeds = 0, False, False
            return self._read_on(peer, now_ms)
        if event.request == peer.request and peer.comparison is not None:
            again = peer.comparison.ask_again()
            if again is not None and now_ms < peer.comparison_until_ms:
                peer.request, peer.again = 0, again
                return self._rest(peer, now_ms, self._jittered(AGAIN_MS))
        return self._give_up(peer, now_ms)

    def _give_up(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Forget what a peer was asked for; its cursor has not moved, so nothing is lost."""
        peer.request = peer.fetch = 0
        if peer.phase is Phase.SCOPE:
            peer.heeds = False  # it does not know scopes: what is not wanted is left here
        peer.fetching = ()
        peer.arrived = peer.page = peer.again = None
        peer.wanted.clear()
        if peer.comparison is not None:
            peer.comparison, peer.unread = None, False  # it cannot, or will not: by cursor then
        delay_ms = min(self._limits.retry_ms << min(peer.failures, 10), self._limits.catch_up_ms)
        peer.failures += 1
        effects = self._rest(peer, now_ms, self._jittered(delay_ms))
        return effects + self._end_bulk(peer.id, now_ms)

    def _end_bulk(self, peer_id: PeerId, now_ms: int) -> list[Effect]:
        """Let the next peer send in bulk, if `peer_id` was the one that did."""
        if self._bulk != peer_id:
            return []
        self._bulk = None
        for other in self._peers.values():
            if other.phase is Phase.IDLE and not other.synced and other.id != peer_id:
                other.due_ms = now_ms
        return [WakeAt(self._wake_ms(now_ms))]

    def _rest(self, peer: PeerProgress, now_ms: int, delay_ms: int) -> list[Effect]:
        peer.phase = Phase.IDLE
        peer.due_ms = now_ms + delay_ms
        return [WakeAt(self._wake_ms(now_ms))]

    # -- small steps

    def _after_items(self, accepted: Accepted, now_ms: int) -> list[Effect]:
        self._arrivals["catch-up"] += len(accepted.admitted)
        effects = [*_changed(accepted), *self._start_over(accepted, now_ms)]
        for author, fault in accepted.faults[: self._limits.fault_score_max]:
            effects += self._blame(author, fault, now_ms)
        return effects

    def _start_over(self, accepted: Accepted, now_ms: int) -> list[Effect]:
        """Read every peer from its beginning when operations that were dropped are wanted again."""
        return self._read_anew(now_ms) if accepted.unpruned else []

    def _read_anew(self, now_ms: int) -> list[Effect]:
        """Read every peer from its beginning."""
        self._bulk = None
        for peer in self._peers.values():
            peer.request = peer.fetch = 0
            peer.comparison = peer.arrived = peer.again = None
            peer.cursor, peer.page, peer.fetching = START, None, ()
            peer.wanted.clear()
            peer.asked.clear()
            peer.phase, peer.due_ms, peer.synced = Phase.IDLE, now_ms, False
        return [WakeAt(self._wake_ms(now_ms))]

    def _blame(
        self, peer_id: PeerId, fault: RemoteFault, now_ms: int, weight: float = 1
    ) -> list[Effect]:
        """Count a fault against a connected peer; drop it when there are too many."""
        peer = self._peers.get(peer_id)
        if peer is None:
            return []
        forgotten = (now_ms - peer.faults_ms) / 10_000
        peer.faults = max(0.0, peer.faults - forgotten) + weight
        peer.faults_ms = now_ms
        if peer.faults < self._limits.fault_score_max:
            return []
        reason = f"{fault.code}: {fault}"
        return [DropPeer(peer_id, reason, self._limits.ban_s), *self._on_lost(peer_id, now_ms)]

    def _moved(self, peer: PeerProgress, cursor: Cursor) -> dict[PeerId, Cursor]:
        return {self._partial.cursor_name(peer.id): cursor} if cursor != peer.cursor else {}

    def _may_be_empty(self, page: CaughtUp, after_n: int) -> bool:
        """Whether a page may hold nothing: nothing that we want, of what the peer went through."""
        return not self._partial.scope.is_all and page.next_n > after_n

    def _unknown(self, ids: Sequence[ItemId]) -> set[ItemId]:
        return self._partial.without_unwanted(set(ids) - self._replica.seen(ids))

    def _fetched_elsewhere(self, peer: PeerProgress) -> set[ItemId]:
        others = (other for other in self._peers.values() if other is not peer)
        return {id_ for other in others for id_ in other.wanted}

    def _jittered(self, delay_ms: int) -> int:
        return int(delay_ms * self._rng.uniform(0.75, 1.25))

    def _new_request(self) -> int:
        self._next_request += 1
        return self._next_request

    def _send(
        self,
        peer: PeerProgress,
        request: int,
        raw: bytes,
        protocol: SyncProtocol = SyncProtocol.SYNC,
    ) -> Effect:
        return SendRequest(peer.id, request, raw, self._limits.request_timeout_s, protocol)


def _changed(accepted: Accepted) -> list[Effect]:
    if not accepted.admitted:
        return []
    return [Changed(accepted.changes, len(accepted.admitted))]
