"""A whole swarm in one thread: the production machines over a simulated clock, network and disk.

Everything follows from the seed: delays, losses, copies, and what a lying peer invents. The same
seed gives the same history to the byte (`Swarm.history`).
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crdt import (
    AnswerReceived,
    DropPeer,
    Effect,
    Event,
    Gossip,
    GossipReceived,
    Heartbeat,
    Item,
    ItemKind,
    LocalItems,
    Outcome,
    PeerConnected,
    PeerId,
    PeerLost,
    PruneAsked,
    Replica,
    Reply,
    RequestFailed,
    RequestReceived,
    SendRequest,
    Settled,
    SyncLimits,
    SyncMachine,
    SyncProtocol,
    Verdict,
    WakeAt,
    WorldFault,
    check_gossip,
    sha3,
)
from node.storage.memory import MemoryDisk
from tests.sim.disks import Fate, Killed, SimStorage
from tests.writers import NETWORK, AnyBody, LaneReceipts

Liar = Callable[[bytes, random.Random], bytes]


@dataclass
class Clock:
    """A node's own clock, which only ever goes forward: `int(real * rate) + ahead_ms`."""

    rate: float = 1.0
    ahead_ms: int = 0

    def at(self, real_ms: int) -> int:
        return int(real_ms * self.rate) + self.ahead_ms

    def real_delay(self, until_ms: int, real_ms: int) -> int:
        """Return how long it really is until this clock shows a time."""
        return max(0, math.ceil((until_ms - self.at(real_ms)) / self.rate))


@dataclass(frozen=True)
class Weather:
    """How bad the network is: chances in 0..1, delays in milliseconds."""

    loss: float = 0.0
    copies: float = 0.0
    delay_ms: tuple[int, int] = (1, 40)


CALM = Weather()
STORM = Weather(loss=0.2, copies=0.2, delay_ms=(1, 3_000))


@dataclass
class SimNode:
    """One simulated node; `machine` is None while it is down. Its disk survives.

    Attributes:
        is_old: It is of the version before: it speaks no protocol of comparison.
        dropped: Operations that it pruned at some time.
        acknowledged: Ids of what it said it has.
    """

    name: PeerId
    disk: MemoryDisk
    machine: SyncMachine | None = None
    liar: Liar | None = None
    is_old: bool = False
    clock: Clock = field(default_factory=Clock)
    fate: Fate = field(default_factory=Fate)
    dropped: set[bytes] = field(default_factory=set)
    acknowledged: set[bytes] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)
    settled: dict[int, tuple[Outcome, ...]] = field(default_factory=dict)
    incarnation: int = 0
    wake_ms: int | None = None

    @property
    def storage(self) -> SimStorage:
        return SimStorage(self.disk, self.fate)

    @property
    def is_honest(self) -> bool:
        return self.liar is None


class Swarm:
    """Nodes called n0, n1, ... that all know each other, and the clock they live by."""

    def __init__(
        self,
        seed: int,
        node_count: int,
        *,
        weather: Weather = CALM,
        limits: SyncLimits | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.weather = weather
        self.now_ms = 0
        self.limits = limits or SyncLimits()
        self.nodes: dict[PeerId, SimNode] = {}
        self.acknowledged: list[Item] = []
        self.dropped: list[tuple[PeerId, PeerId, str]] = []
        self.kills = 0
        self._history = hashlib.sha3_256()
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._links: set[frozenset[PeerId]] = set()
        self._cut: set[frozenset[PeerId]] = set()
        self._unheard: set[tuple[PeerId, PeerId]] = set()
        self._token = 0
        for _ in range(node_count):
            self.add_node()

    # -- what a test does

    def add_node(self) -> PeerId:
        """Start one more node, connected to all that are up."""
        name = PeerId(f"n{len(self.nodes)}")
        epoch = sha3(f"{name} {self.rng.random()}".encode())[:16]
        self.nodes[name] = SimNode(name, MemoryDisk(epoch))
        self.start(name)
        return name

    def start(self, name: PeerId) -> None:
        """Start a node from its disk and connect it."""
        node = self.nodes[name]
        assert node.machine is None
        replica = Replica(NETWORK, node.storage, AnyBody(), LaneReceipts())
        rng = random.Random(self.rng.random())
        node.machine = SyncMachine(replica, rng, self.limits)
        node.incarnation += 1
        node.seen.clear()
        self._handle(node, Heartbeat())
        for other in self.nodes.values():
            if other is not node and other.machine is not None:
                self._connect(node.name, other.name)

    def crash(self, name: PeerId) -> None:
        """Lose everything of a node but its disk."""
        node = self.nodes[name]
        node.machine = None
        node.wake_ms = None
        for link in sorted(tuple(sorted(link)) for link in self._links if name in link):
            self._disconnect(*link)

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Part two nodes until `heal`."""
        link = frozenset((one, other))
        self._cut.add(link)
        if link in self._links:
            self._disconnect(one, other)

    def cut_one_way(self, one: PeerId, other: PeerId) -> None:
        """Until `heal` nothing that `one` sends reaches `other`; neither of them notices."""
        self._unheard.add((one, other))

    def jump(self, name: PeerId, duration_ms: int) -> None:
        """Let a node's clock go ahead, as when its machine slept; its timers are due then."""
        node = self.nodes[name]
        node.clock.ahead_ms += duration_ms
        self._handle(node, Heartbeat())

    def prune(self, name: PeerId) -> None:
        """Have a node drop what its records' eras stand for."""
        node = self.nodes[name]
        records = tuple(sorted(node.disk.records))
        self._token += 1
        self._handle(node, PruneAsked(self._token, records))
        node.dropped |= node.disk.pruned.keys()

    def inject(self, name: PeerId, raw: bytes, targets: Sequence[PeerId]) -> None:
        """A hostile node gossips a frame to some peers only."""
        node = self.nodes[name]
        for target in targets:
            there = self.nodes[target]
            self._travel(name, target, lambda there=there: self._gossip(there, name, node, raw))

    def pester(self, name: PeerId, target: PeerId, raw: bytes) -> None:
        """A hostile node sends a request, and does not wait for the answer."""
        there = self.nodes[target]
        self._travel(name, target, lambda: self._ask(there, name, raw))

    def heal(self) -> None:
        """End every fault: fair weather, all nodes up, honest disks, all links whole."""
        self.weather = CALM
        self._cut.clear()
        self._unheard.clear()
        names = sorted(self.nodes)
        for name in names:
            self.nodes[name].disk.failing_commits = 0
            self.nodes[name].fate.next_commit = None
            if self.nodes[name].machine is None:
                self.start(name)
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                self._connect(one, other)

    def publish(self, name: PeerId, items: Sequence[Item]) -> tuple[Outcome, ...]:
        """Publish at a node; what an honest one calls new or known must never be lost."""
        node = self.nodes[name]
        assert node.machine is not None
        self._token += 1
        self._handle(node, LocalItems(self._token, tuple(items)))
        outcomes = node.settled.get(self._token, ())
        for item, outcome in zip(items, outcomes, strict=False):
            if outcome.status.value in {"new", "known"} and node.is_honest:
                self.acknowledged.append(item)
                if item.kind is not ItemKind.RECEIPT:  # one gives way to a greater one
                    node.acknowledged.add(item.id)
        return outcomes

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        end_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = end_ms

    @property
    def history(self) -> str:
        """A digest of every event so far, in order."""
        return self._history.hexdigest()

    # -- the network

    def _connect(self, one: PeerId, other: PeerId) -> None:
        link = frozenset((one, other))
        if link in self._links or link in self._cut:
            return
        self._links.add(link)
        for here, there in ((one, other), (other, one)):
            if link in self._links:  # the first of them may have died of the news
                self._handle(self.nodes[here], PeerConnected(there))

    def _disconnect(self, one: PeerId, other: PeerId) -> None:
        self._links.discard(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            self._handle(self.nodes[here], PeerLost(there))

    def _at(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._sequence, action))

    def _travel(self, one: PeerId, other: PeerId, arrive: Callable[[], None]) -> None:
        """Deliver after a while, perhaps twice, perhaps never, only while both are linked."""
        link = frozenset((one, other))

        def deliver() -> None:
            if link in self._links and (one, other) not in self._unheard:
                arrive()

        if self.rng.random() < self.weather.loss:
            return
        for _ in range(2 if self.rng.random() < self.weather.copies else 1):
            self._at(self.rng.randint(*self.weather.delay_ms), deliver)

    # -- the nodes

    def _handle(self, node: SimNode, event: Event) -> None:
        if node.machine is None:
            return
        now_ms = node.clock.at(self.now_ms)
        self._history.update(repr((now_ms, node.name, event)).encode())
        incarnation = node.incarnation
        try:
            effects = node.machine.handle(event, now_ms=now_ms)
        except WorldFault:
            effects = [WakeAt(now_ms + 1000)]
        except Killed:
            self.kills += 1
            self.crash(node.name)
            return
        for effect in effects:
            # Carrying out one, dropping a peer for example, may be the end of a node.
            if node.machine is not None and node.incarnation == incarnation:
                self._carry_out(node, effect)

    def _carry_out(self, node: SimNode, effect: Effect) -> None:
        match effect:
            case Gossip(raw):
                node.seen.add(sha3(raw))
                self._forward(node, author=node.name, raw=raw)
            case SendRequest():
                self._request(node, effect)
            case Settled(token, outcomes):
                node.settled[token] = outcomes
            case DropPeer(peer, reason, _):
                self.dropped.append((node.name, peer, reason))
                if frozenset((node.name, peer)) in self._links:
                    self._cut.add(frozenset((node.name, peer)))
                    self._disconnect(node.name, peer)
            case WakeAt(at_ms):
                self._wake(node, at_ms)
            case _:
                pass

    def _wake(self, node: SimNode, at_ms: int) -> None:
        if node.wake_ms is not None and node.wake_ms <= at_ms:
            return
        node.wake_ms = at_ms
        incarnation = node.incarnation

        def beat() -> None:
            if node.incarnation == incarnation and node.wake_ms == at_ms:
                node.wake_ms = None
                self._handle(node, Heartbeat())

        self._at(node.clock.real_delay(at_ms, self.now_ms), beat)

    def _forward(self, node: SimNode, *, author: PeerId, raw: bytes) -> None:
        for other in sorted(self.nodes):
            if other not in {node.name, author}:
                there = self.nodes[other]
                self._travel(
                    node.name, other, lambda there=there: self._gossip(there, author, node, raw)
                )

    def _gossip(self, node: SimNode, author: PeerId, forwarder: SimNode, raw: bytes) -> None:
        """What the network child does: judge the bytes, pass on, hand over; each frame once."""
        if node.machine is None or sha3(raw) in node.seen:
            return
        node.seen.add(sha3(raw))
        if check_gossip(raw, NETWORK) is not Verdict.ACCEPT:
            return
        self._forward(node, author=author, raw=raw)
        self._handle(node, GossipReceived(author, forwarder.name, raw))

    def _request(self, node: SimNode, effect: SendRequest) -> None:
        there = self.nodes[effect.peer]
        incarnation = node.incarnation
        open_ = [True]

        def finish(event: Event) -> None:
            if open_[0] and node.incarnation == incarnation:
                open_[0] = False
                self._handle(node, event)

        def arrive() -> None:
            if there.is_old and effect.protocol is not SyncProtocol.SYNC:
                unspoken = RequestFailed(effect.peer, effect.request, "unspoken", unspoken=True)
                self._travel(effect.peer, node.name, lambda: finish(unspoken))
                return
            raw = self._answer(there, node.name, effect.raw)
            if raw is not None:
                answer = AnswerReceived(effect.peer, effect.request, raw)
                self._travel(effect.peer, node.name, lambda: finish(answer))

        self._travel(node.name, effect.peer, arrive)
        failed = RequestFailed(effect.peer, effect.request, "timeout")
        self._at(int(effect.timeout_s * 1000), lambda: finish(failed))

    def _answer(self, node: SimNode, peer: PeerId, raw: bytes) -> bytes | None:
        answer = self._ask(node, peer, raw)
        if answer is not None and node.liar is not None:
            return node.liar(answer, self.rng)
        return answer

    def _ask(self, node: SimNode, peer: PeerId, raw: bytes) -> bytes | None:
        if node.machine is None:
            return None
        now_ms = node.clock.at(self.now_ms)
        self._history.update(repr((now_ms, node.name, peer, raw)).encode())
        effects = node.machine.handle(RequestReceived(peer, 0, raw), now_ms=now_ms)
        (answer,) = (effect.raw for effect in effects if isinstance(effect, Reply))
        for effect in effects:
            if not isinstance(effect, Reply):
                self._carry_out(node, effect)
        return answer
