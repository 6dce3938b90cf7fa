"""A swarm as large as a town: nodes that find each other, and gossip over a mesh.

Production: sync machine, replica, outbox, frames; address book, choice of outbound peers, doors,
peer exchange. Modelled here: distance and bandwidth, how connections are made and lost, and
gossipsub's mesh (six neighbours, four to twelve, mended once a second; a frame is passed on to all
of them but its sender and author). Not modelled: what gossipsub sends beside frames (envelopes,
IHAVE and IWANT), so a frame that is lost comes by catch-up only; and processor time, but for what a
message costs py-libp2p at every hop.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crdt import Commit, ItemId, PeerId, SyncLimits, Verdict
from node.network.addressbook import AddressBook
from node.network.addresses import PeerAddress
from tests.node.network.books import NOW_S, address
from tests.sim.homes import Home
from tests.sim.shared import LightStorage, shared_verdicts
from tests.sim.swarm import SimNode, Swarm
from tests.writers import NETWORK

MESH_LOW, MESH, MESH_HIGH = 4, 6, 12
"""Gossipsub's degrees, as `node/network/guards.py` sets them."""
HOP_MS = 5
"""What one gossip message costs py-libp2p (4 to 7 ms of its process)."""
DIAL_TIMEOUT_MS = 15_000
SILENCE_MS = 8_000
"""After so long without an answer to pings a peer counts as gone."""
PEERS_TIMEOUT_MS = 10_000
NAMED_COUNT = 3
"""Bootstrap peers in a node's settings."""


@dataclass(frozen=True)
class Roads:
    """How far it is from one end of town to the other.

    Attributes:
        loss: The share of gossip messages that full queues drop; requests are on streams, which
            lose nothing while a connection lasts.
    """

    loss: float = 0.0
    near_ms: float = 2.0
    far_ms: float = 100.0
    jitter: float = 0.2
    bytes_per_ms: float = 2_500.0


class WatchedStorage(LightStorage):
    """A light store that tells the town what has arrived."""

    def __init__(self, node: SimNode, arrived: Callable[[Commit], None]) -> None:
        super().__init__(node.disk, node.fate)
        self._arrived = arrived

    def commit(self, commit: Commit) -> None:
        super().commit(commit)
        self._arrived(commit)


class Town(Swarm):
    """Nodes with homes. Each knows three bootstrap peers at first, and nobody else.

    Args:
        bootstrap_count: How many of the first nodes are bootstrap peers of somebody.
        outbound_count: Connections of its own choice that a node keeps.
    """

    def __init__(
        self,
        seed: int,
        node_count: int,
        *,
        roads: Roads | None = None,
        limits: SyncLimits | None = None,
        bootstrap_count: int = NAMED_COUNT,
        outbound_count: int = 8,
    ) -> None:
        self.roads = roads or Roads()
        self.homes: dict[PeerId, Home] = {}
        self.beside: dict[PeerId, dict[PeerId, None]] = {}
        self.mesh: dict[PeerId, dict[PeerId, None]] = {}
        self.arrivals: dict[ItemId, list[int]] = {}
        self.message_counts: Counter[str] = Counter()
        self.message_bytes: Counter[str] = Counter()
        self.answered_bytes: Counter[PeerId] = Counter()
        self._addresses: dict[PeerId, PeerAddress] = {}
        self._books: dict[PeerId, AddressBook] = {}
        self._spots: dict[PeerId, tuple[float, float]] = {}
        self._sides: dict[PeerId, int] = {}
        self._bootstrap_count = bootstrap_count
        self._outbound_count = outbound_count
        self._crowds: dict[PeerId, tuple[PeerAddress, ...]] = {}
        self._verdict = shared_verdicts()
        super().__init__(seed, 0, limits=limits)
        for _ in range(node_count):
            self.add_node()
        self._mend_meshes()

    # -- what a test does

    def add_attacker(self, at: PeerAddress, crowd: Sequence[PeerAddress]) -> PeerId:
        """Add a node that lets everybody in, tells only of `crowd`, and passes nothing on."""
        self._crowds[at.peer] = tuple(crowd)
        self._addresses[at.peer] = at
        node = SimNode(at.peer, self._empty_disk(at.peer))
        self.nodes[at.peer] = node
        return at.peer

    def knock(self, name: PeerId, target: PeerId) -> None:
        """Have a node dial another at once, whatever its book says."""
        self.try_door(self.homes[name], self._addresses[target])

    def part(self, sides: Sequence[Sequence[PeerId]]) -> None:
        """Let nothing pass between groups of nodes; after a while their pings tell them."""
        self._sides = {name: number for number, side in enumerate(sides) for name in side}
        crossing = [link for link in sorted(map(sorted, self._links)) if self._is_parted(*link)]

        def notice() -> None:
            for one, other in crossing:
                if frozenset((one, other)) in self._links and self._is_parted(one, other):
                    self._disconnect(one, other)

        self._at(SILENCE_MS, notice)

    def crash(self, name: PeerId) -> None:
        """Lose everything of a node but its disk and its book."""
        node = self.nodes[name]
        node.machine = node.wake_ms = None
        self.homes.pop(name)
        for other in sorted(self.beside.pop(name)):
            self._disconnect(name, other)
        self.mesh.pop(name)

    def heal(self) -> None:
        """End every fault; who knows whom finds them again by itself."""
        self._sides.clear()
        self._cut.clear()
        self._unheard.clear()
        self.roads = Roads()
        for name, node in self.nodes.items():
            node.disk.failing_commits = 0
            if node.machine is None:
                self.start(name)

    def watch(self, ids: Sequence[ItemId]) -> None:
        """Note from now on when each node has these."""
        self.arrivals = {id_: [] for id_ in ids}

    # -- the streets of homes

    @property
    def now_s(self) -> float:
        return NOW_S + self.now_ms / 1000

    def later(self, home: Home, delay_s: float, what: str, *details: object) -> None:
        def act() -> None:
            if self.homes.get(home.name) is home:
                getattr(home, what)(*details)

        self._at(int(delay_s * 1000), act)

    def neighbours(self, name: PeerId) -> Sequence[PeerId]:
        return list(self.beside[name])

    def try_door(self, home: Home, address: PeerAddress) -> None:
        """Knock: three round trips until both know each other; 15 s when nothing comes back."""
        there = address.peer
        known = self._addresses.get(there) == address
        round_ms = 2 * self._delay_ms(home.name, there) if known else 0

        def arrive() -> None:
            if self.homes.get(home.name) is not home:
                return
            up = there in self.homes and not self._is_parted(home.name, there)
            if up and there not in self.beside[home.name]:
                up = self._enter(home, address)
            home.dialled(address, up)

        lost = not known or self._is_parted(home.name, there)
        self._at(DIAL_TIMEOUT_MS if lost else 3 * round_ms, arrive)

    def ask(self, home: Home, peer: PeerId, raw: bytes) -> None:
        answered = [False]

        def arrive() -> None:
            there = self.homes.get(peer)
            if there is not None:
                answer = there.answer(home.name, raw)
                self._travel(peer, home.name, lambda: come(answer), "exchange", answer)

        def come(answer: bytes) -> None:
            if self.homes.get(home.name) is home and not answered[0]:
                answered[0] = True
                home.told(peer, answer)

        def give_up() -> None:
            if self.homes.get(home.name) is home and not answered[0]:
                answered[0] = True
                home.refused(peer)

        self._travel(home.name, peer, arrive, "exchange", raw)
        self._at(PEERS_TIMEOUT_MS, give_up)

    def hang_up(self, one: PeerId, other: PeerId) -> None:
        if frozenset((one, other)) in self._links:
            self._disconnect(one, other)

    def _enter(self, home: Home, address: PeerAddress) -> bool:
        if frozenset((home.name, address.peer)) in self._cut:
            return False
        if not self.homes[address.peer].opens(home.address):
            return False
        self._connect(home.name, address.peer)
        home.reached(address)
        return True

    # -- in place of the small swarm's

    def _name(self, number: int) -> PeerId:
        at = honest_address(number)
        self._addresses[at.peer] = at
        return at.peer

    def _storage(self, node: SimNode) -> WatchedStorage:
        return WatchedStorage(node, self._arrived)

    def _introduce(self, node: SimNode) -> None:
        name = node.name
        before = self._books.get(name)
        self._books[name] = book = AddressBook(name)
        if before is not None:
            book.restore(before.all())
        if name not in self._spots:
            self._spots[name] = (self.rng.random(), self.rng.random())
        crowd = self._crowds.get(name, ())
        named = sorted(self.rng.sample(range(self._bootstrap_count), NAMED_COUNT))
        bootstrap = tuple(honest_address(n) for n in named)
        self.beside[name], self.mesh[name] = {}, {}
        self.homes[name] = Home(
            self, self._addresses[name], bootstrap, random.Random(self.rng.random()), book,
            self._outbound_count, evil=name in self._crowds, crowd=crowd,
        )  # fmt: skip
        self.later(self.homes[name], self.rng.random(), "begin")

    def _connect(self, one: PeerId, other: PeerId) -> None:
        link = frozenset((one, other))
        if link not in self._links and link not in self._cut:
            self.beside[one][other] = self.beside[other][one] = None
            super()._connect(one, other)

    def _disconnect(self, one: PeerId, other: PeerId) -> None:
        for here, there in ((one, other), (other, one)):
            self.beside.get(here, {}).pop(there, None)
            self.mesh.get(here, {}).pop(there, None)
        super()._disconnect(one, other)
        for here, there in ((one, other), (other, one)):
            if here in self.homes:
                self.homes[here].lost(there)

    def _judge(self, raw: bytes) -> Verdict:
        return Verdict(self._verdict(raw, NETWORK))

    def _note(self, *event: object) -> None:
        """Note who it was and what kind of thing: the bytes of a thousand nodes take too long."""
        kinds = [one if isinstance(one, int | str) else type(one).__name__ for one in event]
        self._history.update(repr(kinds).encode())

    def _forward(self, node: SimNode, *, author: PeerId, via: PeerId, raw: bytes) -> None:
        if self.homes[node.name].evil:
            return
        for other in self.mesh[node.name]:
            if other not in {author, via}:
                self._pass_on(node, other, author, raw)

    def _travel(
        self, one: PeerId, other: PeerId, arrive: Callable[[], None], kind: str, raw: bytes
    ) -> None:
        self.message_counts[kind] += 1
        self.message_bytes[kind] += len(raw)
        if kind == "answer":
            self.answered_bytes[other] += len(raw)
        if kind == "gossip" and self.rng.random() < self.roads.loss:
            return
        link = frozenset((one, other))

        def deliver() -> None:
            if link in self._links and not self._is_parted(one, other):
                arrive()

        delay_ms = self._delay_ms(one, other) + int(len(raw) / self.roads.bytes_per_ms)
        self._at(delay_ms + (HOP_MS if kind == "gossip" else 0), deliver)

    # -- small steps

    def _arrived(self, commit: Commit) -> None:
        for admission in commit.admissions:
            times = self.arrivals.get(admission.item.id)
            if times is not None:
                times.append(self.now_ms)

    def _is_parted(self, one: PeerId, other: PeerId) -> bool:
        return bool(self._sides) and self._sides.get(one) != self._sides.get(other)

    def _delay_ms(self, one: PeerId, other: PeerId) -> int:
        roads, (x, y), (to_x, to_y) = self.roads, self._spots[one], self._spots[other]
        far = (((x - to_x) ** 2 + (y - to_y) ** 2) / 2) ** 0.5
        delay_ms = roads.near_ms + (roads.far_ms - roads.near_ms) * far
        return max(1, int(delay_ms * (1 + roads.jitter * self.rng.random())))

    def _mend_meshes(self) -> None:
        """Gossipsub's heartbeat, everybody's at once: graft below four, prune above twelve."""
        for name in sorted(self.mesh):
            mine = self.mesh[name]
            if len(mine) < MESH_LOW:
                free = [
                    one
                    for one in sorted(self.beside[name])
                    if one not in mine and len(self.mesh[one]) < MESH_HIGH
                ]
                for other in self.rng.sample(free, min(len(free), MESH - len(mine))):
                    mine[other] = self.mesh[other][name] = None
            elif len(mine) > MESH_HIGH:
                for other in self.rng.sample(sorted(mine), len(mine) - MESH):
                    del mine[other], self.mesh[other][name]
        self._at(1_000, self._mend_meshes)


def honest_address(number: int) -> PeerAddress:
    """Where the n-th node lives: one of 250 networks, as different providers have."""
    network, place = number % 250, number // 250
    return address(f"{60 + network // 200}.{network % 200}.{place}.7")
