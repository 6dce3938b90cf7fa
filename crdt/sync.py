"""The sync machine: gossip for speed, cursor catch-up for truth. Events in, effects out.

With each peer it reads that peer's store from where it stopped: whole items when it is behind
everybody (from one peer at a time), only ids once somebody has brought it up to date. What items
wait for is fetched by id. A peer's cursor moves only past what has been dealt with, and in the
same commit, so a crash anywhere resumes and nothing is skipped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

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
    WakeAt,
)
from crdt.frames import (
    ANSWER_BYTES_MAX,
    ANSWER_ID_COUNT_MAX,
    FETCH_COUNT_MAX,
    CatchUp,
    CatchUpMode,
    CaughtUp,
    Fetch,
    Ops,
    decode_caught_up,
    decode_fetched,
    decode_gossip,
    decode_request,
    encode_caught_up,
    encode_fetched,
    encode_request,
)
from crdt.ids import ItemId, PeerId
from crdt.items import Item
from crdt.outbox import Outbox
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
from crdt.replica import Replica

MALFORMED_WEIGHT = 6
"""Faults that an answer that makes no sense counts as: two within 20 s are enough."""


class SyncMachine:
    """Keeps a replica in step with its peers; one per node."""

    def __init__(
        self,
        replica: Replica,
        rng: random.Random,
        limits: SyncLimits | None = None,
    ) -> None:
        self._replica = replica
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
                return [Pruned(token, sum(self._replica.prune(record) for record in records))]
            case Heartbeat():
                return self._on_heartbeat(now_ms)

    def status(self) -> SyncStatus:
        """Return how far each peer has been read."""
        peers = tuple(
            PeerStatus(peer.id, peer.phase.value, peer.cursor.n, peer.last_n, peer.synced)
            for peer in self._peers.values()
        )
        pending, last_n = len(self._replica.pending), self._replica.storage.last_n
        return SyncStatus(peers, pending, last_n, dict(self._arrivals))

    # -- connections and time

    def _on_connected(self, peer_id: PeerId, now_ms: int) -> list[Effect]:
        if peer_id in self._peers or len(self._peers) >= self._limits.peer_count_max:
            return []
        cursor = self._replica.storage.cursor(peer_id)
        self._peers[peer_id] = new_progress(peer_id, cursor, self._limits, now_ms)
        return self._on_heartbeat(now_ms)

    def _on_lost(self, peer_id: PeerId, now_ms: int) -> list[Effect]:
        if self._peers.pop(peer_id, None) is None:
            return []
        self._replica.pending.forget(peer_id)
        self._end_bulk(peer_id, now_ms)
        return [WakeAt(self._wake_ms(now_ms))]

    def _on_heartbeat(self, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        self._replica.pending.expire(before_ms=now_ms - self._limits.pending_ms)
        if self._bulk is not None and now_ms >= self._bulk_until_ms:
            self._end_bulk(self._bulk, now_ms)
        for peer in list(self._peers.values()):
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
        self._outbox.put(admission.item for admission in accepted.admitted)
        effects: list[Effect] = [Settled(token, accepted.outcomes), *_changed(accepted)]
        effects += self._start_over(accepted, now_ms)
        effects += self._outbox.flush(now_ms)
        if self._outbox:
            effects.append(WakeAt(self._outbox.due_ms(now_ms)))
        return effects

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
        if not forwarder.gossip.take(count, now_ms):
            return []
        if not isinstance(frame, Ops):
            unknown = set(frame.ids) - self._replica.seen(frame.ids)
            return self._want(forwarder, [id_ for id_ in frame.ids if id_ in unknown], now_ms)
        accepted = self._replica.accept(
            frame.items, source=event.forwarder, now_ms=now_ms, author=event.author
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
        except RemoteFault as fault:
            return [Reply(event.token, None), *self._blame(event.peer, fault, now_ms)]
        answer = self._fetched(request) if isinstance(request, Fetch) else self._page(request)
        peer.answers.owe(len(answer), now_ms)
        return [Reply(event.token, answer)]

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

    # -- asking

    def _catch_up(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Ask for the next page, in the mode that costs least; wait while another sends in bulk."""
        if self._peers.get(peer.id) is not peer:
            return []  # dropped a moment ago, for a fault
        is_fresh = now_ms < self._fresh_until_ms
        if not is_fresh and self._bulk not in {None, peer.id}:
            return self._rest(peer, now_ms, self._bulk_until_ms - now_ms)
        if is_fresh:
            peer.phase, mode = Phase.IDS, CatchUpMode.IDS
        else:
            peer.phase, mode = Phase.ITEMS, CatchUpMode.ITEMS
            if self._bulk is None:
                self._bulk = peer.id
                self._bulk_until_ms = now_ms + self._limits.bulk_lease_ms
        frame = CatchUp(peer.cursor.epoch, peer.cursor.n, mode)
        peer.request = self._new_request()
        return [self._send(peer, peer.request, encode_request(frame, self._network))]

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
        # A store that fails below leaves the peer idle and due: the same is asked for again.
        is_fetch = event.request == peer.fetch
        try:
            if is_fetch:
                peer.fetch = 0
                return self._on_fetched(peer, event.raw, now_ms)
            peer.request = 0
            return self._on_page(peer, event.raw, now_ms)
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
        if page.next_n - after_n < count or not (count or page.done):
            raise MalformedBytes(f"{count} arrivals after {after_n} that end at {page.next_n}")
        if page.items if not is_whole else page.ids:
            raise MalformedBytes("a page of the other mode than was asked for")
        peer.last_n = max(page.last_n, page.next_n)
        cursor = Cursor(page.epoch, page.next_n)
        effects: list[Effect] = []
        if is_whole:
            accepted = self._replica.accept(
                page.items, source=peer.id, now_ms=now_ms, cursors=self._moved(peer, cursor)
            )
            effects += self._after_items(accepted, now_ms)
            if accepted.unpruned:
                return effects
            peer.cursor = cursor
            effects += self._want(peer, self._replica.pending.missing(peer.id), now_ms)
            is_new = bool(accepted.admitted)
            return effects + self._next_page(peer, now_ms, done=page.done, is_new=is_new)
        return effects + self._on_ids(peer, page, cursor, now_ms)

    def _on_ids(
        self, peer: PeerProgress, page: CaughtUp, cursor: Cursor, now_ms: int
    ) -> list[Effect]:
        """Fetch what a page of ids names and we lack; only then does the cursor pass it."""
        unknown = set(page.ids) - self._replica.seen(page.ids)
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
        accepted = self._replica.accept(answer.items, source=peer.id, now_ms=now_ms)
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
        peer.failures = 0
        if not done and is_new:
            return self._catch_up(peer, now_ms)
        if not done:
            # Nothing of it was new: no hurry, and a peer that invents pages gets nowhere fast.
            return self._rest(peer, now_ms, self._limits.idle_page_ms)
        peer.synced = True
        self._fresh_until_ms = now_ms + self._limits.fresh_ms
        effects = self._rest(peer, now_ms, self._jittered(self._limits.catch_up_ms))
        return effects + self._end_bulk(peer.id, now_ms)

    def _on_failed(self, event: RequestFailed, now_ms: int) -> list[Effect]:
        peer = self._peers.get(event.peer)
        if peer is None or event.request not in {peer.request, peer.fetch}:
            return []
        return self._give_up(peer, now_ms)

    def _give_up(self, peer: PeerProgress, now_ms: int) -> list[Effect]:
        """Forget what a peer was asked for; its cursor has not moved, so nothing is lost."""
        peer.request = peer.fetch = 0
        peer.fetching = ()
        peer.page = None
        peer.wanted.clear()
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
        if not accepted.unpruned:
            return []
        self._bulk = None
        for peer in self._peers.values():
            peer.request = peer.fetch = 0
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
        return {peer.id: cursor} if cursor != peer.cursor else {}

    def _fetched_elsewhere(self, peer: PeerProgress) -> set[ItemId]:
        others = (other for other in self._peers.values() if other is not peer)
        return {id_ for other in others for id_ in other.wanted}

    def _jittered(self, delay_ms: int) -> int:
        return int(delay_ms * self._rng.uniform(0.75, 1.25))

    def _new_request(self) -> int:
        self._next_request += 1
        return self._next_request

    def _send(self, peer: PeerProgress, request: int, raw: bytes) -> Effect:
        return SendRequest(peer.id, request, raw, self._limits.request_timeout_s)


def _changed(accepted: Accepted) -> list[Effect]:
    if not accepted.admitted:
        return []
    return [Changed(accepted.changes, len(accepted.admitted))]
