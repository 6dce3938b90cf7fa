"""The driver: the one task that owns the replicated log's cores, events in and effects out.

Callers put work into bounded queues; one thread runs the cores and the store, so nothing needs a
lock and the event loop never waits for the disk. Effects are carried out on the event loop through
the `Transport` port, which the network child's client fits.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import structlog

from crdt import (
    ANSWER_FRAME_BYTES_MAX,
    AnswerReceived,
    Changed,
    DropPeer,
    Effect,
    Event,
    FairQueue,
    Gossip,
    GossipReceived,
    HansaError,
    Heartbeat,
    Inbox,
    Item,
    LocalItems,
    NetworkId,
    Outcome,
    PeerConnected,
    PeerId,
    PeerLost,
    PruneAsked,
    Pruned,
    RecordChange,
    RecordId,
    RemoteFault,
    Reply,
    RequestFailed,
    RequestReceived,
    SendRequest,
    Settled,
    SyncMachine,
    SyncProtocol,
    SyncStatus,
    WakeAt,
    WorldFault,
    claimed_account,
    unpack_item,
)
from node.network import ProtocolUnspoken
from node.stamp_desk import StampDesk

LOCAL_COUNT_MAX = 1024
"""Publishes that wait; each is answered within a commit or so, and more are refused."""
LOCAL_ACCOUNT_COUNT_MAX = LOCAL_COUNT_MAX // 2
"""Of one account: it cannot take all places."""
LOCAL_QUANTUM = 16
"""Items that an account publishes in its turn, when several wait."""
PRUNE_COUNT_MAX = 4
"""Requests to prune that wait at once; each is bounded by its caller."""
REMOTE_COUNT_MAX = 1024
"""Requests that wait; more are refused, and peers retry."""
ROUND_COUNT_MAX = 64
"""Events of one kind in one hop to the thread."""
ROUND_ANSWER_COUNT_MAX = 2
"""Answers of peers in one hop: each may be a page of 256 KiB, 25 ms in which nobody has a turn."""
BATCH_ITEM_COUNT_MAX = 1000
"""Items of several local publishes that share a commit (crdt.md)."""
BATCH_ITEM_COUNT_SHARED = 128
"""The same while gossip or another account waits for its turn: 15 ms."""
PROJECT_COUNT_MAX = 256
"""Operations brought into the search views at a time, between which other work has its turn."""

logger = structlog.stdlib.get_logger(__name__)


class Overloaded(WorldFault):
    """More is asked of the node at once than it queues."""

    code = "overloaded"


class Stopping(WorldFault):
    """The node is being stopped."""

    code = "stopping"


class Refused(RemoteFault):
    """A peer's request is not answered: malformed, or over its budget."""

    code = "refused"


class Transport(Protocol):
    """What the driver needs of the network."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip a frame; raises HansaError when it cannot be queued."""
        ...

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        timeout_s: float,
        answer_bytes_max: int,
    ) -> bytes:
        """Ask a peer; raises HansaError when it does not answer."""
        ...

    async def drop(self, peer: PeerId, reason: str) -> None:
        """Close the connection to a peer."""
        ...

    async def ban(self, peer: PeerId, seconds: float) -> None:
        """Keep a peer out for a while."""
        ...


class Projection(Protocol):
    """The derived search views of a store."""

    def project(self, count_max: int) -> bool:
        """Bring at most so many operations into the views; whether more are left."""
        ...


def ops_topic(network: NetworkId) -> str:
    """Return the gossip topic of new items."""
    return f"/hansa/{network.hex()[:16]}/ops/0"


def sync_protocol(network: NetworkId) -> str:
    """Return the protocol of catch-up and fetch requests."""
    return f"/hansa/{network.hex()[:16]}/sync/0"


def compare_protocol(network: NetworkId) -> str:
    """Return the protocol of comparisons, which a peer of an earlier version does not speak."""
    return f"/hansa/{network.hex()[:16]}/compare/0"


@dataclass(slots=True)
class _Publish:
    """One caller that waits for its items to be durable."""

    items: tuple[Item, ...]
    settled: asyncio.Future[list[Outcome]]


@dataclass(slots=True)
class _Result:
    """What handling one event gave: effects, or what went wrong."""

    event: Event
    effects: list[Effect]
    fault: Exception | None = None


class Driver:
    """Runs a sync machine and its store; start it once, stop it once."""

    def __init__(
        self,
        machine: SyncMachine,
        projection: Projection,
        transport: Transport,
        network: NetworkId,
        desk: StampDesk | None = None,
    ) -> None:
        self._machine = machine
        self._desk = desk
        self._projection = projection
        self._transport = transport
        self._topic = ops_topic(network)
        self._protocols = {
            SyncProtocol.SYNC: sync_protocol(network),
            SyncProtocol.COMPARE: compare_protocol(network),
        }
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hansa-store")
        self._status = machine.status()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribers: list[Callable[[Sequence[RecordChange]], None]] = []
        # Bounded by LOCAL_COUNT_MAX, whatever is in a call.
        self._local: FairQueue[_Publish] = FairQueue(cost_max=sys.maxsize, quantum=LOCAL_QUANTUM)
        self._inbox = Inbox(network)
        self._remote: deque[Event] = deque()
        # Not bounded by a number: each is the answer to one of our own requests, two a peer.
        self._answers: deque[Event] = deque()
        self._connected: set[PeerId] = set()
        self._links_changed: dict[PeerId, None] = {}
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._prunes: dict[int, asyncio.Future[int]] = {}
        self._token = 0
        self._heartbeat_due = True
        self._heartbeat_at = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._stale = True

    async def start(self) -> None:
        """Start the task; events are handled from now on."""
        assert self._task is None
        self._task = asyncio.create_task(self._run(), name="driver")
        self._task.add_done_callback(_ended)
        self._wake.set()

    async def stop(self) -> None:
        """Finish what was accepted, refuse the rest, and stop the thread."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._timer is not None:
            self._timer.cancel()
        if self._desk is not None:
            self._desk.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reply in self._replies.values():
            reply.cancel()
        for pruned in self._prunes.values():
            pruned.cancel()
        self._thread.shutdown(wait=True)

    # -- what the node calls

    async def publish(self, items: Sequence[bytes]) -> list[Outcome]:
        """Judge, store and gossip items; return, once they are durable, what became of each.

        Raises:
            MalformedBytes: an item is not one.
            Overloaded, Stopping: try again later.
            WorldFault: the disk did not take them; nothing was stored.
        """
        opened = tuple(unpack_item(raw) for raw in items)
        if self._stopping:
            raise Stopping("the node is stopping; publish to another one, or later")
        if len(self._local) >= LOCAL_COUNT_MAX:
            raise Overloaded(f"{LOCAL_COUNT_MAX} writes are waiting; try again in a second")
        flow = claimed_account(opened[-1]) if opened else b""
        if self._local.count_of(flow) >= LOCAL_ACCOUNT_COUNT_MAX:
            raise Overloaded(
                f"{LOCAL_ACCOUNT_COUNT_MAX} writes of account {flow.hex()[:16]} are waiting; "
                "try again in a second"
            )
        waiting = _Publish(opened, asyncio.get_running_loop().create_future())
        self._local.put(flow, waiting, max(1, len(opened)))
        self._wake.set()
        return await waiting.settled

    async def prune(self, records: Sequence[RecordId]) -> int:
        """Drop what the eras of these records stand for; return how many operations.

        Raises:
            Overloaded, Stopping: try again later.
            WorldFault: the disk; what was dropped of earlier records stays dropped.
        """
        if self._stopping:
            raise Stopping("the node is stopping")
        if len(self._prunes) >= PRUNE_COUNT_MAX:
            raise Overloaded(f"{PRUNE_COUNT_MAX} requests to prune are waiting; try again later")
        self._token += 1
        token = self._token
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._prunes[token] = future
        self._remote.append(PruneAsked(token, tuple(records)))
        self._wake.set()
        try:
            return await future
        finally:
            self._prunes.pop(token, None)

    def subscribe(self, callback: Callable[[Sequence[RecordChange]], None]) -> Callable[[], None]:
        """Call back, on the event loop, with every batch of changed records; return the way out."""
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    def sync_status(self) -> SyncStatus:
        """Return how far the node has read its peers, as of the last event."""
        return self._status

    @property
    def inbox(self) -> Inbox:
        """The gossip that waits, to be looked at."""
        return self._inbox

    # -- what the network calls

    def peer_connected(self, peer: PeerId) -> None:
        """Take note of a peer that can be asked."""
        self._connected.add(peer)
        self._links_changed[peer] = None
        self._wake.set()

    def peer_lost(self, peer: PeerId) -> None:
        """Take note of a peer that is gone."""
        self._connected.discard(peer)
        self._links_changed[peer] = None
        self._wake.set()

    def gossip(self, author: PeerId, forwarder: PeerId, data: bytes) -> None:
        """Queue a gossip frame; what an account has too much of is dropped: catch-up brings it."""
        if not self._stopping:
            now_ms = int(asyncio.get_running_loop().time() * 1000)
            self._inbox.put(GossipReceived(author, forwarder, data), now_ms)
            self._wake.set()

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        """Return the answer to a peer's request.

        Raises:
            Refused: it gets none.
            Overloaded, Stopping: not now.
        """
        if self._stopping:
            raise Stopping("the node is stopping")
        if len(self._remote) >= REMOTE_COUNT_MAX:
            raise Overloaded("too many requests are waiting")
        self._token += 1
        token = self._token
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[token] = future
        self._remote.append(RequestReceived(peer, token, payload))
        self._wake.set()
        try:
            return await future
        finally:
            self._replies.pop(token, None)

    # -- the task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = self._take_local()
            events = self._take_events(batch)
            if events:
                now_ms = int(loop.time() * 1000)
                results = await loop.run_in_executor(self._thread, self._handle, events, now_ms)
                for result in results:
                    self._carry_out(result, batch)
                self._stale = True
            elif self._stale:
                self._stale = await self._project()
            if self._is_waiting():
                self._wake.set()
            if self._stopping and not self._local and not events:
                return

    def _is_waiting(self) -> bool:
        queues = (self._local, self._inbox, self._remote, self._answers, self._links_changed)
        return self._stale or any(len(queue) for queue in queues)

    def _take_local(self) -> list[_Publish]:
        """Return the publishes that share the next commit, account by account."""
        is_shared = len(self._inbox) or self._local.flow_count > 1
        count_max = BATCH_ITEM_COUNT_SHARED if is_shared else BATCH_ITEM_COUNT_MAX
        batch: list[_Publish] = []
        count = 0
        while self._local and (not batch or count + self._local.next_cost() <= count_max):
            one = self._local.take()
            assert one is not None
            count += len(one.items)
            batch.append(one)
        return batch

    def _take_events(self, batch: list[_Publish]) -> list[Event]:
        events: list[Event] = []
        for peer in list(self._links_changed):
            events.append(PeerLost(peer))
            if peer in self._connected:
                events.append(PeerConnected(peer))
        self._links_changed.clear()
        if batch:
            events.append(LocalItems(0, tuple(item for one in batch for item in one.items)))
        events += self._inbox.take()
        for queue, count_max in (
            (self._remote, ROUND_COUNT_MAX),
            (self._answers, ROUND_ANSWER_COUNT_MAX),
        ):
            events += [queue.popleft() for _ in range(min(len(queue), count_max))]
        if self._heartbeat_due:
            self._heartbeat_due = False
            events.append(Heartbeat())
        return events

    def _handle(self, events: list[Event], now_ms: int) -> list[_Result]:
        """Run the cores on some events, in the store's thread."""
        results: list[_Result] = []
        for event in events:
            try:
                effects = self._machine.handle(event, now_ms=now_ms)
                if isinstance(event, LocalItems):
                    # So that a caller finds in a search what it has just published.
                    self._projection.project(PROJECT_COUNT_MAX)
            except Exception as error:
                results.append(_Result(event, [], error))
            else:
                results.append(_Result(event, effects))
        self._status = self._machine.status()
        return results

    async def _project(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._thread, self._projection.project, PROJECT_COUNT_MAX
            )
        except WorldFault as fault:
            logger.warning("search views are behind", reason=str(fault))
            return False

    def _carry_out(self, result: _Result, batch: list[_Publish]) -> None:
        event, fault = result.event, result.fault
        if fault is not None:
            self._report(event, fault, batch)
        for effect in result.effects:
            match effect:
                case Settled(_, outcomes):
                    _settle(batch, outcomes)
                case Reply(token, raw):
                    self._reply(token, raw)
                case Pruned(token, count):
                    pruned = self._prunes.get(token)
                    if pruned is not None and not pruned.done():
                        pruned.set_result(count)
                case Gossip(raw):
                    self._spawn(self._gossip_out(raw))
                case SendRequest():
                    self._spawn(self._ask(effect))
                case DropPeer(peer, reason, ban_s):
                    logger.warning("peer dropped", peer=peer, reason=reason, ban_s=ban_s)
                    self._spawn(self._drop(peer, reason, ban_s))
                case Changed(changes, _):
                    for change in changes:
                        self._inbox.learn(change.operation.account, change.operation.key)
                    self._notify(changes)
                case WakeAt(at_ms):
                    self._wake_at(at_ms / 1000)

    def _report(self, event: Event, fault: Exception, batch: list[_Publish]) -> None:
        if isinstance(event, LocalItems):
            for one in batch:
                if not one.settled.done():
                    one.settled.set_exception(fault)
        elif isinstance(event, PruneAsked):
            pruned = self._prunes.get(event.token)
            if pruned is not None and not pruned.done():
                pruned.set_exception(fault)
        elif isinstance(event, RequestReceived):
            future = self._replies.get(event.token)
            if future is not None and not future.done():
                future.set_exception(Refused("the request could not be answered"))
        if isinstance(fault, HansaError):
            logger.warning("event failed", kind=type(event).__name__, reason=str(fault))
        else:
            logger.error("event failed", kind=type(event).__name__, exc_info=fault)
        # Whatever was under way is looked at again soon.
        self._wake_at(asyncio.get_running_loop().time() + 1)

    def _reply(self, token: int, raw: bytes | None) -> None:
        future = self._replies.get(token)
        if future is None or future.done():
            return
        if raw is None:
            future.set_exception(Refused("malformed, unknown peer, or over its budget"))
        else:
            future.set_result(raw)

    def _notify(self, changes: Sequence[RecordChange]) -> None:
        for callback in list(self._subscribers):
            try:
                callback(changes)
            except Exception:
                logger.exception("a subscriber to changes failed")

    def _wake_at(self, at: float) -> None:
        loop = asyncio.get_running_loop()
        if at >= self._heartbeat_at:
            return
        self._heartbeat_at = at
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, self._beat)

    def _beat(self) -> None:
        self._heartbeat_at = float("inf")
        self._heartbeat_due = True
        self._wake.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gossip_out(self, raw: bytes) -> None:
        try:
            await self._transport.publish(self._topic, raw)
        except HansaError as fault:
            logger.info("gossip not sent; catch-up will bring it", reason=str(fault))

    async def _ask(self, effect: SendRequest) -> None:
        event: Event
        try:
            raw = await self._transport.request(
                effect.peer,
                self._protocols[effect.protocol],
                effect.raw,
                timeout_s=effect.timeout_s,
                answer_bytes_max=ANSWER_FRAME_BYTES_MAX,
            )
            if self._desk is not None:
                await self._desk.prepare(raw, self._thread)
            event = AnswerReceived(effect.peer, effect.request, raw)
        except HansaError as fault:
            unspoken = isinstance(fault, ProtocolUnspoken)
            event = RequestFailed(effect.peer, effect.request, str(fault), unspoken)
        self._answers.append(event)
        self._wake.set()

    async def _drop(self, peer: PeerId, reason: str, ban_s: int) -> None:
        with suppress(HansaError):
            await self._transport.ban(peer, ban_s)
            await self._transport.drop(peer, reason)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("the driver ended; restart the node", exc_info=task.exception())


def _settle(batch: list[_Publish], outcomes: Sequence[Outcome]) -> None:
    """Give each caller the outcomes of its own items."""
    left = iter(outcomes)
    for one in batch:
        mine = list(islice(left, len(one.items)))
        if not one.settled.done():
            one.settled.set_result(mine)
