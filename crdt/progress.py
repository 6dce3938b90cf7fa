"""What the sync machine remembers of each peer, its bounds, and what it tells of its progress."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from crdt.budgets import TokenBucket
from crdt.frames import ANSWER_ID_COUNT_MAX, CaughtUp, RequestFrame
from crdt.ids import ItemId, PeerId
from crdt.ports import Cursor
from crdt.scopes import EVERYTHING, Scope

if TYPE_CHECKING:
    from crdt.reconcile.comparing import Comparison

ARRIVAL_PATHS = ("local", "gossip", "catch-up")
"""How an item can come; one fetched by id, because something cited or listed it, is catch-up."""
COMPARE_MS_MAX = 86_400_000
"""However often a comparison was for nothing, there is one a day."""
START = Cursor(b"", 0)
"""Nothing read yet."""


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """Bounds and periods; each default with its reason.

    Attributes:
        catch_up_ms: How often each peer's store is read again (the page's 30 s), with jitter.
        retry_ms: After a failure, doubled each time up to `catch_up_ms`.
        request_timeout_s: A 256 KiB answer over a slow link; then somebody else is asked.
        bulk_lease_ms: How long one peer may be the only one to send whole items.
        fresh_ms: How long "somebody has brought us up to date" holds.
        wanted_count_max: Ids to fetch from one peer: a page of ids and what those wait for.
        idle_page_ms: Pause after a page that held nothing new.
        pending_ms: How long an item may wait for what it cites.
        peer_count_max: Peers that are remembered; the network holds fewer connections.
        compare_ms: How often it is proved that a peer which was read holds what we hold.
        comparison_ms: How long one comparison may take: then the store is read by cursor. Ranges of
            a million ids and the items they name take seconds.
        gossip_items_per_s: Items a peer may pass on; more are left to catch-up.
        gossip_bytes_per_s: The same in bytes: a dozen floods that one neighbour passes on.
        requests_per_s: What a peer may ask; a fresh join takes some 400 requests.
        answer_bytes_per_s: What it may be answered.
        fault_score_max: Faults before a peer is dropped; one is forgotten every 10 s.
        ban_s: How long it is kept out.
    """

    catch_up_ms: int = 30_000
    retry_ms: int = 2_000
    request_timeout_s: float = 10.0
    bulk_lease_ms: int = 60_000
    fresh_ms: int = 90_000
    wanted_count_max: int = 2 * ANSWER_ID_COUNT_MAX
    idle_page_ms: int = 20
    pending_ms: int = 60_000
    peer_count_max: int = 512
    compare_ms: int = 600_000
    comparison_ms: int = 120_000
    gossip_items_per_s: int = 5_000
    gossip_bytes_per_s: int = 8 * 1024 * 1024
    requests_per_s: int = 200
    answer_bytes_per_s: int = 64 * 1024 * 1024
    fault_score_max: int = 10
    ban_s: int = 300


class Phase(Enum):
    """What a peer is being asked for."""

    IDLE = "idle"
    ITEMS = "items"
    IDS = "ids"
    COMPARING = "comparing"
    SCOPE = "scope"


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How far the node has read one peer.

    Attributes:
        n: The cursor in the peer's store.
        last_n: The peer's newest arrival, as it says.
        synced: Everything it had at some moment of this connection has been read.
        partial: It has said that it wants, and so holds, a part only.
    """

    peer: PeerId
    phase: str
    n: int
    last_n: int
    synced: bool
    partial: bool = False


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """How far the node has read its peers.

    Attributes:
        arrivals: Items taken in since the start, by the way they came (`ARRIVAL_PATHS`).
        scope: What this node wants of its peers.
        over_quota: Items not taken since the start, by the kind of quota: `stored`, `day`.
    """

    peers: tuple[PeerStatus, ...]
    pending_count: int
    item_n: int
    arrivals: Mapping[str, int]
    scope: Scope = EVERYTHING
    over_quota: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class PeerProgress:
    """What is remembered of one connected peer.

    Attributes:
        due_ms: When it is asked again, while `phase` is idle.
        request: The catch-up request under way; 0 when there is none.
        arrived: A page of whole items that is taken in after the next one has been asked for.
        page: The cursor after a page of ids whose items are still being fetched.
        fetch: The fetch under way, for `fetching`; 0 when there is none.
        wanted: What is to be fetched from it, in order, `fetching` among it.
        asked: When it was last asked for an id, so that it is not asked again at once.
        comparison: The comparison under way, in phase `COMPARING`.
        comparison_until_ms: When it is given up.
        again: A request of it that was refused and is made once more.
        scope: What it holds, as it says; None: it has not said.
        heeds: Whether it leaves out what we do not want; None: it has not been told.
        compares: It speaks the protocol of comparison, as far as we know.
        is_familiar: Its last page brought nothing new, so ids cost least: we have what it gives.
        unread: Its store is new to us: no cursor of ours is of its epoch.
        patient_until_ms: Until when it may wait, unread, for another comparison to end.
        compare_due_ms: When it is compared with next, once it has been read.
        compared_new: The comparison under way has brought something that was taken.
        fruitless: Comparisons in a row that brought only what is not taken, for a quota perhaps.
        deferred: Its page of ids was put off once, because somebody else was sending those items.
    """

    id: PeerId
    due_ms: int
    requests: TokenBucket
    answers: TokenBucket
    gossip: TokenBucket
    gossip_bytes: TokenBucket
    phase: Phase = Phase.IDLE
    request: int = 0
    cursor: Cursor = START
    arrived: CaughtUp | None = None
    page: Cursor | None = None
    page_done: bool = False
    page_new: bool = False
    fetch: int = 0
    fetching: tuple[ItemId, ...] = ()
    wanted: OrderedDict[ItemId, None] = field(default_factory=OrderedDict[ItemId, None])
    asked: OrderedDict[ItemId, int] = field(default_factory=OrderedDict[ItemId, int])
    comparison: Comparison | None = None
    comparison_until_ms: int = 0
    again: RequestFrame | None = None
    scope: Scope | None = None
    heeds: bool | None = None
    compares: bool = True
    is_familiar: bool = False
    unread: bool = False
    patient_until_ms: int = 0
    compare_due_ms: int = 0
    compared_new: bool = False
    fruitless: int = 0
    deferred: bool = False
    failures: int = 0
    faults: float = 0.0
    faults_ms: int = 0
    last_n: int = 0
    synced: bool = False

    def compared(self, *, is_fruitless: bool, now_ms: int) -> None:
        """Put the next comparison off, twice as long each time that one was for nothing.

        What a quota keeps out differs for ever; without this it would be fetched every time.
        """
        self.fruitless = self.fruitless + 1 if is_fruitless else 0
        wait_ms = max(0, self.compare_due_ms - now_ms)
        longer_ms = wait_ms << min(self.fruitless, 16)
        self.compare_due_ms = now_ms + min(longer_ms, max(wait_ms, COMPARE_MS_MAX))


def new_progress(
    peer: PeerId, cursor: Cursor | None, limits: SyncLimits, now_ms: int
) -> PeerProgress:
    """Return the state of a peer that has just connected: due now, its budgets full."""
    return PeerProgress(
        peer,
        due_ms=now_ms,
        requests=TokenBucket(
            rate_per_s=limits.requests_per_s, burst=2 * limits.requests_per_s, now_ms=now_ms
        ),
        answers=TokenBucket(
            rate_per_s=limits.answer_bytes_per_s, burst=limits.answer_bytes_per_s, now_ms=now_ms
        ),
        gossip=TokenBucket(
            rate_per_s=limits.gossip_items_per_s, burst=2 * limits.gossip_items_per_s, now_ms=now_ms
        ),
        gossip_bytes=TokenBucket(
            rate_per_s=limits.gossip_bytes_per_s, burst=2 * limits.gossip_bytes_per_s, now_ms=now_ms
        ),
        cursor=cursor or START,
        unread=cursor is None,
        patient_until_ms=now_ms + limits.retry_ms,
        compare_due_ms=now_ms + limits.compare_ms,
    )
