"""The membership of one simulated node: the production book, choice, exchange and doors.

`AddressBook`, `Outbound`, `Doors` and the frames of peer exchange are the production ones. What
`node/membership.py` and the network child do around them with tasks and sockets is done here once
more over simulated time, with their numbers: dialling, asking, answering, back-off of bootstrap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from crdt import PeerId, RemoteFault
from node.membership import (
    ANSWER_PAUSE_S,
    ASK_HUNGRY_S,
    ASK_S,
    DIAL_COUNT_MAX,
    TICK_HUNGRY_S,
    TICK_S,
    TOLD_OWN_COUNT_MAX,
)
from node.network.access_rules import AccessRules
from node.network.addressbook import AddressBook
from node.network.addresses import PeerAddress, informant_of
from node.network.doors import Doors, Place
from node.network.exchange import (
    TOLD_COUNT_MAX,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    may_tell,
)
from node.network.outbound import Outbound
from node.network.settings import NetworkSettings
from tests.writers import NETWORK

DIAL_WAITS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Between attempts at a bootstrap peer, as in `node/network/host.py`, which imports libp2p."""
LOOK_S = 2.0
"""How soon it is noticed here that a bootstrap peer is gone; really 0.5 s."""
EVERYBODY = AccessRules.parse((), ())
_DEFAULTS = NetworkSettings(node_seed=bytes(32), network=NETWORK)


class Streets(Protocol):
    """What a home needs of the town: its clock, its roads."""

    @property
    def now_s(self) -> float:
        """The time."""
        ...

    def later(self, home: Home, delay_s: float, what: str, *details: object) -> None:
        """Call a method of the home after a while, unless its node is down or another by then."""
        ...

    def neighbours(self, name: PeerId) -> Sequence[PeerId]:
        """Whom a node is connected to."""
        ...

    def try_door(self, home: Home, address: PeerAddress) -> None:
        """Knock; `dialled` tells how it went."""
        ...

    def ask(self, home: Home, peer: PeerId, raw: bytes) -> None:
        """Send a peers request; `told` or `refused` tells how it went."""
        ...

    def hang_up(self, one: PeerId, other: PeerId) -> None:
        """Close the connection between two nodes."""
        ...


@dataclass
class Home:
    """One node's place among its peers, until it goes down; the book is its file and stays.

    Attributes:
        places: What its inbound connections hold of its doors.
        evil: It tells only of `crowd`, and is not judged.
    """

    town: Streets
    address: PeerAddress
    bootstrap: tuple[PeerAddress, ...]
    rng: random.Random
    book: AddressBook
    outbound_count: int = _DEFAULTS.outbound_count
    evil: bool = False
    crowd: tuple[PeerAddress, ...] = ()
    doors: Doors = field(init=False)
    outbound: Outbound = field(init=False)
    places: dict[PeerId, Place] = field(default_factory=dict)
    hosts: dict[PeerId, str] = field(default_factory=dict)
    dialling: int = 0
    asked_s: float = 0.0
    ticking: int = 0
    answered: dict[PeerId, tuple[float, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.doors = Doors(
            EVERYBODY,
            count_max=_DEFAULTS.inbound_count_max,
            group_count_max=_DEFAULTS.inbound_group_count_max,
        )
        self.outbound = Outbound(
            self.book,
            count=self.outbound_count,
            bootstrap={one.peer for one in self.bootstrap},
            may=EVERYBODY.may_stay,
        )
        self.asked_s = self.town.now_s

    @property
    def name(self) -> PeerId:
        return self.address.peer

    # -- time

    def begin(self) -> None:
        """Take in the bootstrap list and begin to dial."""
        for address in self.bootstrap:
            self.book.hear(address, "bootstrap", None, self.town.now_s, self.rng)
            self.stay_connected(address, 0)
        self.tick(0)

    def tick(self, number: int) -> None:
        """Look at the book, as the membership's task does whenever something changed."""
        if number != self.ticking or self.evil:
            return
        now_s = self.town.now_s
        self.outbound.look(now_s)
        connected = self.town.neighbours(self.name)
        while self.dialling < DIAL_COUNT_MAX:
            address = self.outbound.next_dial(connected, now_s, self.rng)
            if address is None:
                break
            self.dialling += 1
            self.town.try_door(self, address)
        self._ask_due(now_s)
        self.ticking += 1
        hungry = self.outbound.missing_count > 0
        self.town.later(self, TICK_HUNGRY_S if hungry else TICK_S, "tick", self.ticking)

    def changed(self) -> None:
        """Something happened: look at the book now."""
        self.town.later(self, 0, "tick", self.ticking)

    def stay_connected(self, address: PeerAddress, attempt: int) -> None:
        """Dial a bootstrap peer for ever, as the network child does."""
        if address.peer == self.name or self.evil:
            return
        if address.peer in self.town.neighbours(self.name):
            self.town.later(self, LOOK_S, "stay_connected", address, 0)
            return
        self.town.try_door(self, address)
        wait_s = DIAL_WAITS_S[min(attempt + 1, len(DIAL_WAITS_S) - 1)]
        self.town.later(self, wait_s, "stay_connected", address, attempt + 1)

    # -- connections

    def opens(self, address: PeerAddress) -> bool:
        """Whether a knock from an address is let in; its place is taken then."""
        place = self.doors.enter(address.host, address.port)
        if place is None:
            return False
        self.doors.stay(place)
        self.places[address.peer] = place
        self.hosts[address.peer] = address.host
        return True

    def dialled(self, address: PeerAddress, up: bool) -> None:
        """An attempt of ours is over; those at bootstrap peers are the child's business."""
        if address in self.bootstrap:
            return
        self.dialling -= 1
        if not up:
            alone = not self.town.neighbours(self.name)
            self.outbound.failed(address.peer, self.town.now_s, self.rng, alone=alone)
        else:
            self.outbound.released(address.peer)  # unless it is up: it had come to us meanwhile
        self.changed()

    def reached(self, address: PeerAddress) -> None:
        """A connection that we dialled came up; who answers is asked for others."""
        self.outbound.connected(address, address.group, self.town.now_s)
        self.town.ask(self, address.peer, encode_request(NETWORK, [str(self.address)]))

    def lost(self, peer: PeerId) -> None:
        """A connection ended, whoever dialled."""
        place = self.places.pop(peer, None)
        if place is not None:
            self.doors.leave(place)
        self.hosts.pop(peer, None)
        self.answered.pop(peer, None)
        self.outbound.lost(peer, self.town.now_s, self.rng)
        self.changed()

    # -- peer exchange

    def answer(self, peer: PeerId, raw: bytes) -> bytes:
        """Return addresses, and note where an inbound asker listens."""
        if self.evil:
            few = self.rng.sample(self.crowd, min(len(self.crowd), TOLD_COUNT_MAX))
            return encode_answer(NETWORK, few)
        now_s, host = self.town.now_s, self.hosts.get(peer)
        listening = decode_request(raw, NETWORK)
        if host is not None:
            here = [one for one in listening if one.peer == peer and one.host == host]
            for address in here[:TOLD_OWN_COUNT_MAX]:
                informant = informant_of(host, peer)
                self.book.hear(address, "inbound", informant, now_s, self.rng)
                self.book.met(address, now_s)
        answered_s, before = self.answered.get(peer, (0.0, b""))
        if before and now_s - answered_s < ANSWER_PAUSE_S:
            return before
        told = self.book.sample(lambda one: one.peer != peer, TOLD_COUNT_MAX, now_s, self.rng)
        answer = encode_answer(NETWORK, told)
        self.answered[peer] = (now_s, answer)
        return answer

    def told(self, peer: PeerId, raw: bytes) -> None:
        """A peer that we dialled has answered."""
        link = self.outbound.link(peer)
        if link is None or link.since_s is None:
            return
        try:
            told = decode_answer(raw, NETWORK)
        except RemoteFault:
            self.refused(peer)
            return
        now_s = self.town.now_s
        self.outbound.proven(peer, now_s)
        informant = informant_of(link.address.host, peer)
        for address in told:
            if may_tell(address, link.address.scope):
                self.book.hear(address, "exchange", informant, now_s, self.rng)
        self.changed()

    def refused(self, peer: PeerId) -> None:
        """A peer that we dialled does not take part in peer exchange: let it go."""
        link = self.outbound.link(peer)
        if link is not None and link.informant is not None:
            self.town.hang_up(self.name, peer)

    def _ask_due(self, now_s: float) -> None:
        pause_s = ASK_HUNGRY_S if self.outbound.missing_count else ASK_S
        proven = [link.address.peer for link in self.outbound.links() if link.proven]
        if proven and now_s - self.asked_s >= pause_s:
            self.asked_s = now_s
            peer = self.rng.choice(proven)
            self.town.ask(self, peer, encode_request(NETWORK, [str(self.address)]))
