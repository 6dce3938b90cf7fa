"""Whom this node connects to by its own choice, so that nobody can choose for it.

An attacker wants every outbound connection to be its own (an eclipse). What costs it nothing is
ids and addresses; what costs it is networks to listen in and informants to tell of them. So each
outbound connection is charged to its address group and to one informant, and either may hold only
a share: **k informants get at most k * `informant_max` connections, g groups g * `group_max`,
however many addresses they tell.** What the operator named (bootstrap, dialled by hand) is charged
to no informant. Pure: the time and the randomness are passed in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random

from crdt import PeerId
from node.network.addressbook import AddressBook, Known
from node.network.addresses import PeerAddress

ANCHOR_COUNT_MAX = 4
"""Half of the connections: enough that one survives, few enough that new peers have a place."""
ANCHOR_AFTER_S = 600.0
"""An outbound peer that stayed so long may become an anchor: longer than a restart loop lasts."""
ANCHOR_FAILURES_MAX = 6
"""An anchor that was not reached so often in a row (two minutes) is an ordinary peer again."""
STABLE_S = 60.0
"""A connection that ends earlier counts as a failure, so that its peer is not dialled in a loop."""
RETURN_S = 1.0
"""A peer that was lost is not dialled before; its network child is back after two seconds."""


def group_max(outbound_count: int) -> int:
    """Return how many outbound connections one address group may hold: an eighth, at least one."""
    return max(1, outbound_count // 8)


def informant_max(outbound_count: int) -> int:
    """Return how many may be charged to one informant: a quarter, at least two.

    Two, because a newcomer that knows one node must hear of more than one other from it.
    """
    return max(2, outbound_count // 4)


@dataclass(slots=True)
class Link:
    """An outbound connection, or an attempt at one.

    Attributes:
        group: The address group that it is charged to.
        informant: The one it is charged to; None when the operator named the peer.
        since_s: When it came up; None while it is an attempt.
        proven: The peer answered a request of ours.
    """

    address: PeerAddress
    group: str
    informant: str | None
    since_s: float | None = None
    proven: bool = False


class Outbound:
    """The outbound connections and the choice of the next one.

    Args:
        bootstrap: Peers that the network child dials for ever; never chosen here, yet counted.
        may: Whether the operator allows a peer at a host.
    """

    def __init__(
        self,
        book: AddressBook,
        *,
        count: int,
        bootstrap: Collection[PeerId],
        may: Callable[[str, str], bool],
    ) -> None:
        self._book = book
        self.count = count
        """How many to keep."""
        self._bootstrap = frozenset(bootstrap)
        self._may = may
        self._links: dict[PeerId, Link] = {}

    def link(self, peer: PeerId) -> Link | None:
        """Return the connection to a peer that this node dialled, or the attempt at it."""
        return self._links.get(peer)

    def links(self) -> list[Link]:
        """Return the outbound connections and attempts."""
        return list(self._links.values())

    @property
    def up_count(self) -> int:
        """Outbound connections that stand."""
        return sum(link.since_s is not None for link in self._links.values())

    @property
    def missing_count(self) -> int:
        """Outbound connections that could be tried for now."""
        return max(0, self.count - len(self._links))

    def next_dial(
        self, connected: Collection[PeerId], now_s: float, rng: Random
    ) -> PeerAddress | None:
        """Return whom to dial now, counted as an attempt from here on, or None.

        Anchors first. Then a tried or an untried address, as a coin falls; among tried ones a
        random group is drawn, among untried ones a random informant, and then a group: how many
        addresses one of them has told makes none of them likelier.

        A peer behind a relay is chosen only while that relay is connected anyway: else who tells
        of it would have this node connect to the relay too, outside of all shares.

        Args:
            connected: Peers that are connected already, whoever dialled.
        """
        if not self.missing_count:
            return None
        alone = not connected
        groups = Counter(link.group for link in self._links.values())
        charged = Counter(link.informant for link in self._links.values() if link.informant)
        spare = {
            one.address: informants
            for one in self._book.all()
            if one.due(now_s, alone=alone)
            and self._is_free(one, connected, groups)
            and (informants := self._spare_informants(one, charged)) is not None
        }
        known = [one for one in self._book.all() if one.address in spare]
        if not known:
            return None
        chosen = _draw(known, spare, rng)
        names = spare[chosen.address]
        informant = min(names, key=lambda name: charged[name]) if names else None
        self._links[chosen.address.peer] = Link(chosen.address, chosen.address.group, informant)
        return chosen.address

    def connected(self, address: PeerAddress, group: str, now_s: float) -> None:
        """Note that an outbound connection came up, one that was chosen here or not.

        Args:
            group: Of the host that is really there, which for a name is known only now.
        """
        link = self._links.setdefault(address.peer, Link(address, group, None))
        link.group = group
        link.since_s = now_s

    def proven(self, peer: PeerId, now_s: float) -> None:
        """Note that a peer that we reached answered: it is one of this network."""
        link = self._links.get(peer)
        if link is not None and link.since_s is not None:
            link.proven = True
            self._book.worked(link.address, now_s)

    def failed(self, peer: PeerId, now_s: float, rng: Random, *, alone: bool) -> None:
        """Note that an attempt failed, or that who answered is of no use."""
        link = self._links.get(peer)
        if link is None:
            return
        if link.since_s is None:
            del self._links[peer]
        self._fail(link.address, now_s, rng, alone=alone)

    def released(self, peer: PeerId) -> None:
        """Give up an attempt that is nobody's fault: the peer had come to us meanwhile."""
        link = self._links.get(peer)
        if link is not None and link.since_s is None:
            del self._links[peer]

    def lost(self, peer: PeerId, now_s: float, rng: Random) -> None:
        """Note that an outbound connection ended."""
        link = self._links.pop(peer, None)
        if link is None or link.since_s is None:
            return
        known = self._book.get(link.address)
        if not link.proven or now_s - link.since_s < STABLE_S:
            self._fail(link.address, now_s, rng, alone=False)
        elif known is not None:
            self._book.stayed(link.address, now_s)
            known.next_s = now_s + RETURN_S * rng.uniform(1.0, 2.0)

    def look(self, now_s: float) -> None:
        """Note which connections last, and choose anchors among those that lasted longest."""
        lasting = [
            link
            for link in self._links.values()
            if link.proven and link.since_s is not None and now_s - link.since_s >= STABLE_S
        ]
        for link in lasting:
            self._book.stayed(link.address, now_s)
            self._book.met(link.address, now_s)
        free = ANCHOR_COUNT_MAX - sum(one.anchor for one in self._book.all())
        for link in sorted(lasting, key=lambda link: link.since_s or 0.0):
            known = self._book.get(link.address)
            old = now_s - (link.since_s or now_s) >= ANCHOR_AFTER_S
            ours = link.address.peer not in self._bootstrap
            if free > 0 and old and ours and known is not None and not known.anchor:
                self._book.set_anchor(link.address, anchor=True)
                free -= 1

    def _fail(self, address: PeerAddress, now_s: float, rng: Random, *, alone: bool) -> None:
        self._book.failed(address, now_s, rng, alone=alone)
        known = self._book.get(address)
        if known is not None and known.failures >= ANCHOR_FAILURES_MAX:
            self._book.set_anchor(address, anchor=False)

    def _is_free(self, one: Known, connected: Collection[PeerId], groups: Counter[str]) -> bool:
        address = one.address
        return (
            address.peer not in self._links
            and address.peer not in connected
            and address.peer not in self._bootstrap
            and groups[address.group] < group_max(self.count)
            and (address.relay is None or address.relay in connected)
            and self._may(address.peer, address.seen_host)
        )

    def _spare_informants(self, one: Known, charged: Counter[str]) -> list[str] | None:
        """Return who can be charged with an address; None when all have their share."""
        if not one.informants:
            return []
        spare = [name for name in one.informants if charged[name] < informant_max(self.count)]
        return spare or None


def _draw(known: list[Known], spare: dict[PeerAddress, list[str]], rng: Random) -> Known:
    anchors = [one for one in known if one.anchor]
    if anchors:
        return rng.choice(anchors)
    tried = [one for one in known if one.tried_s]
    untried = [one for one in known if not one.tried_s]
    if tried and (not untried or rng.random() < 0.5):
        return _draw_by_group(tried, rng)
    by_informant: defaultdict[str, list[Known]] = defaultdict(list)
    for one in untried:
        for name in spare[one.address] or [""]:
            by_informant[name].append(one)
    return _draw_by_group(by_informant[rng.choice(sorted(by_informant))], rng)


def _draw_by_group(known: list[Known], rng: Random) -> Known:
    groups: defaultdict[str, list[Known]] = defaultdict(list)
    for one in known:
        groups[one.address.group].append(one)
    return rng.choice(groups[rng.choice(sorted(groups))])
