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
    EVERYTHING,
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
    QuotaLimits,
    Quotas,
    Replica,
    Reply,
    RequestFailed,
    RequestReceived,
    Scope,
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
from crdt.reconcile.frames import AskSketch, Held, Sketched
from crdt.reconcile.idset import Words
from node.storage import epochs
from node.storage.memory import MemoryDisk
from tests.sim.disks import Fate, Killed, SimStorage, copy_of
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
        mark: What is found beside its disk (`node/storage/epochs.py`).
        is_old: It is of the version before: it speaks no protocol of comparison.
        dropped: Operations that it pruned at some time.
        acknowledged: Ids of what it said it has.
        scope: What it wants of the others, from its next start on.
        censors: Its sketches leave out half of what it has, whoever asks; only ranges tell.
        quotas: What an account may have there, from its next start on.
    """

    name: PeerId
    disk: MemoryDisk
    machine: SyncMachine | None = None
    liar: Liar | None = None
    is_old: bool = False
    clock: Clock = field(default_factory=Clock)
    fate: Fate = field(default_factory=Fate)
    scope: Scope = EVERYTHING
    censors: bool = False
    quotas: QuotaLimits = field(default_factory=QuotaLimits)
    mark: bytes = b""
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


def censor_sketches(machine: SyncMachine) -> None:
    """Have a machine make its sketches of half of its ids, under the digest of all of them."""
    answers = machine._answering._answers
    honest = answers.sketch

    def half(peer: PeerId, request: AskSketch, held: Held, rows: Words) -> Sketched:
        digested = honest(peer, request, held, rows).held
        return Sketched(digested, honest(peer, request, held, rows[rows[:, 0] % 2 == 0]).cells)

    vars(answers)["sketch"] = half


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

    def add_node(self, scope: Scope = EVERYTHING) -> PeerId:
        """Start one more node, connected to all that are up."""
        name = self._name(len(self.nodes))
        self.nodes[name] = SimNode(name, self._empty_disk(name), scope=scope)
        self.start(name)
        return name

    def start(self, name: PeerId) -> None:
        """Start a node from its disk and connect it."""
        node = self.nodes[name]
        assert node.machine is None
        self._settle(node)
        replica = Replica(
            NETWORK,
            self._storage(node),
            AnyBody(),
            LaneReceipts(),
            quotas=Quotas(node.quotas),
        )
        rng = random.Random(self.rng.random())
        node.machine = SyncMachine(replica, rng, self.limits, node.scope)
        if node.censors:
            censor_sketches(node.machine)
        node.incarnation += 1
        node.seen.clear()
        self._handle(node, Heartbeat())
        self._introduce(node)

    def crash(self, name: PeerId) -> None:
        """Lose everything of a node but its disk."""
        node = self.nodes[name]
        node.machine = None
        node.wake_ms = None
        for link in sorted(tuple(sorted(link)) for link in self._links if name in link):
            self._disconnect(*link)

    def copy_store(self, name: PeerId) -> None:
        """Start a node from a copy of its disk: of another epoch, so nobody's cursor holds."""
        node = self.nodes[name]
        if node.machine is not None:
            self.crash(name)
        node.disk.epoch = sha3(f"copy {self.rng.random()}".encode())[:16]
        self.start(name)

    def stop(self, name: PeerId) -> None:
        """Stop a node in order, which a crash is not: its mark is written anew."""
        self.crash(name)
        self._renew_mark(self.nodes[name])

    def put_back(self, name: PeerId, backup: MemoryDisk, *, folder: bool) -> None:
        """Put an older state in the place of a node's disk, while the node is down.

        What it alone had acknowledged since is lost, and nobody can be asked for it any more.

        Args:
            folder: With all the files beside the database, which are other files then.
        """
        node = self.nodes[name]
        assert node.machine is None
        node.disk = copy_of(backup)
        if folder:
            node.mark = sha3(b"put back" + node.mark)
        node.dropped &= node.disk.pruned.keys()
        node.acknowledged &= node.disk.numbers.keys()
        node.settled.clear()
        others = [one.disk.numbers for one in self.nodes.values() if one.is_honest]
        self.acknowledged = [
            item for item in self.acknowledged if any(item.id in numbers for numbers in others)
        ]

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
            self._travel(
                name,
                target,
                lambda there=there: self._gossip(there, name, node, raw),
                "gossip",
                raw,
            )

    def pester(self, name: PeerId, target: PeerId, raw: bytes) -> None:
        """A hostile node sends a request, and does not wait for the answer."""
        there = self.nodes[target]
        self._travel(name, target, lambda: self._ask(there, name, raw), "request", raw)

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

    def _settle(self, node: SimNode) -> None:
        """What the production store does when it is opened."""
        disk, fresh = node.disk, sha3(b"fresh %d" % node.incarnation + node.disk.epoch)[:16]
        epoch = epochs.settled(disk.epoch, noted=disk.mark, found=node.mark, fresh=fresh)
        if epoch != disk.epoch or not node.mark:
            disk.epoch = epoch
            self._renew_mark(node)

    def _renew_mark(self, node: SimNode) -> None:
        self._token += 1
        node.mark = node.disk.mark = b"mark %d of " % self._token + node.name.encode()

    # -- what another kind of swarm does in another way

    def _name(self, number: int) -> PeerId:
        return PeerId(f"n{number}")

    def _empty_disk(self, name: PeerId) -> MemoryDisk:
        return MemoryDisk(sha3(f"{name} {self.rng.random()}".encode())[:16])

    def _storage(self, node: SimNode) -> SimStorage:
        return node.storage

    def _introduce(self, node: SimNode) -> None:
        """Connect a node that has just started: here to everybody."""
        for other in self.nodes.values():
            if other is not node and other.machine is not None:
                self._connect(node.name, other.name)

    def _judge(self, raw: bytes) -> Verdict:
        return check_gossip(raw, NETWORK)

    def _note(self, *event: object) -> None:
        self._history.update(repr(event).encode())

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

    def _travel(
        self, one: PeerId, other: PeerId, arrive: Callable[[], None], kind: str, raw: bytes
    ) -> None:
        """Deliver after a while, perhaps twice, perhaps never, only while both are linked.

        Here neither what it is (`gossip`, `request`, `answer`) nor its bytes make a difference.
        """
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
        self._note(now_ms, node.name, event)
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
                self._forward(node, author=node.name, via=node.name, raw=raw)
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

    def _forward(self, node: SimNode, *, author: PeerId, via: PeerId, raw: bytes) -> None:
        """Pass a frame on that came from `via`: here to everybody but its author."""
        for other in sorted(self.nodes):
            if other not in {node.name, author}:
                self._pass_on(node, other, author, raw)

    def _pass_on(self, node: SimNode, other: PeerId, author: PeerId, raw: bytes) -> None:
        there = self.nodes[other]
        self._travel(
            node.name, other, lambda: self._gossip(there, author, node, raw), "gossip", raw
        )

    def _gossip(self, node: SimNode, author: PeerId, forwarder: SimNode, raw: bytes) -> None:
        """What the network child does: judge the bytes, pass on, hand over; each frame once."""
        digest = sha3(raw)
        if node.machine is None or digest in node.seen:
            return
        node.seen.add(digest)
        if self._judge(raw) is not Verdict.ACCEPT:
            return
        self._forward(node, author=author, via=forwarder.name, raw=raw)
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
                self._travel(effect.peer, node.name, lambda: finish(unspoken), "answer", b"")
                return
            raw = self._answer(there, node.name, effect.raw)
            if raw is not None:
                answer = AnswerReceived(effect.peer, effect.request, raw)
                self._travel(effect.peer, node.name, lambda: finish(answer), "answer", raw)

        self._travel(node.name, effect.peer, arrive, "request", effect.raw)
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
        self._note(now_ms, node.name, peer, raw)
        effects = node.machine.handle(RequestReceived(peer, 0, raw), now_ms=now_ms)
        (answer,) = (effect.raw for effect in effects if isinstance(effect, Reply))
        for effect in effects:
            if not isinstance(effect, Reply):
                self._carry_out(node, effect)
        return answer
