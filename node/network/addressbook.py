"""The peers this node knows of: where they listen, who told of them, how dialling them went.

Two tables. What was only heard is *untried*, and bounded for each informant as well as in all;
what this node reached itself is *tried*, and nothing that is heard displaces it. Pure: the time and
the randomness are passed in. Whom to dial next is `outbound.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeAlias

from crdt import PeerId
from node.network.addresses import PeerAddress

Found: TypeAlias = Literal["bootstrap", "exchange", "inbound", "lan", "operator"]
"""How an address was first heard of; `inbound`: its peer connected and said where it listens;
`lan`: it was announced on the local network."""

UNTRIED_COUNT_MAX = 1024
"""Sixteen informants with all they may tell; about 300 KiB."""
TRIED_COUNT_MAX = 256
"""Thirty times the outbound connections: enough to come back by after a long time away."""
INFORMANT_COUNT_MAX = 64
"""Untried addresses that count as one informant's: a sixteenth of the table."""
INBOUND_COUNT_MAX = 256
"""Untried addresses that peers told of themselves when they came: a quarter of the table, so that
a crowd of newcomers from everywhere does not push out what outbound peers told."""
NAMED_COUNT_MAX = 8
"""Informants remembered of one address."""
WAIT_TRIED_S = 2.0
"""After the first failure of an address that worked: its node may just be starting again."""
WAIT_UNTRIED_S = 30.0
WAIT_MAX_S = 3600.0
"""The longest wait between two attempts, before jitter of a half either way."""
WAIT_ALONE_S = 15.0
"""When nobody is connected, so that a machine whose network comes back is back as soon."""
UNTRIED_FAILURES_MAX = 5
"""After so many an address that never worked is forgotten: 15 minutes."""
TRIED_FAILURES_MAX = 12
TRIED_FORGOTTEN_S = 7 * 86400
"""A tried address is forgotten when it failed so often and did not work for so long."""
MET_KEPT_S = 3600
"""How exactly it is kept on disk when a peer was last connected."""
FRESH_S = 86400
"""Others are told only of peers that were connected this lately."""


@dataclass(slots=True)
class Known:
    """One address in the book.

    Attributes:
        informants: Who told of it, the first one first; empty when nobody had to.
        met_s: When its peer was last connected from or at this host, either way; 0 for never.
        tried_s: When this node last reached it and it answered; 0 for never.
        failures: Attempts since, without success.
        attempt_s: When the last one failed.
        next_s: Not dialled before this time.
        anchor: An outbound peer that stayed; dialled first after a restart.
    """

    address: PeerAddress
    found: Found
    heard_s: float
    informants: list[str] = field(default_factory=list[str])
    met_s: float = 0.0
    tried_s: float = 0.0
    failures: int = 0
    attempt_s: float = 0.0
    next_s: float = 0.0
    anchor: bool = False

    def due(self, now_s: float, *, alone: bool) -> bool:
        """Whether it may be dialled now; a clock that was set back does not hold it up for ever.

        Args:
            alone: Nobody is connected: then no address waits longer than `WAIT_ALONE_S`.
        """
        if self.next_s <= now_s or self.next_s > now_s + 2 * WAIT_MAX_S:
            return True
        return alone and now_s - self.attempt_s >= WAIT_ALONE_S


class AddressBook:
    """Everything known, bounded. Addresses are the keys: a peer may have several."""

    def __init__(self, own: PeerId) -> None:
        self._own = own
        self._entries: dict[PeerAddress, Known] = {}
        self.version = 0
        """Grows with every change that is worth keeping on disk."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, address: PeerAddress) -> Known | None:
        """Return what is known of an address."""
        return self._entries.get(address)

    def all(self) -> list[Known]:
        """Return everything, in the order it was first heard of."""
        return list(self._entries.values())

    def of_peer(self, peer: PeerId) -> list[Known]:
        """Return the addresses of one peer, those that worked last first."""
        found = [one for one in self._entries.values() if one.address.peer == peer]
        return sorted(found, key=lambda one: (-one.tried_s, -one.met_s))

    def restore(self, entries: Iterable[Known]) -> None:
        """Take over what an earlier run knew, within the bounds."""
        tried = untried = 0
        for one in entries:
            full = tried >= TRIED_COUNT_MAX if one.tried_s else untried >= UNTRIED_COUNT_MAX
            if full or one.address.peer == self._own:
                continue
            tried += bool(one.tried_s)
            untried += not one.tried_s
            self._entries[one.address] = one

    def hear(
        self, address: PeerAddress, found: Found, informant: str | None, now_s: float, rng: Random
    ) -> None:
        """Take in an address that somebody tells; None: nobody has to answer for it.

        One informant can name `INFORMANT_COUNT_MAX` untried addresses; one more displaces one of
        its own. When the table is full, whoever told most loses one. Tried ones are not touched.
        """
        if address.peer == self._own:
            return
        known = self._entries.get(address)
        if known is not None:
            if informant is None:
                known.informants.clear()
            else:
                self._name(known, informant, rng)
            return
        if informant is not None:
            self._make_room_of(informant, rng)
        if found == "inbound":
            self._shrink(INBOUND_COUNT_MAX, lambda one: one.found == "inbound", rng)
        self._shrink(UNTRIED_COUNT_MAX, lambda _one: True, rng)
        names = [] if informant is None else [informant]
        self._entries[address] = Known(address, found, now_s, names)
        self.version += 1

    def met(self, address: PeerAddress, now_s: float) -> None:
        """Note that a peer is connected whose host is the one of this address."""
        known = self._entries.get(address)
        if known is not None:
            # Not every time: a file is written for it.
            self.version += now_s - known.met_s > MET_KEPT_S
            known.met_s = now_s

    def worked(self, address: PeerAddress, now_s: float) -> None:
        """Note that this node reached a peer at its address and had an answer."""
        known = self._entries.get(address)
        if known is None:
            return
        if not known.tried_s:
            self._make_room_tried()
        known.tried_s = known.met_s = now_s
        self.version += 1

    def stayed(self, address: PeerAddress, now_s: float) -> None:
        """Note that a connection lasted: attempts that failed before count no longer."""
        known = self._entries.get(address)
        if known is not None and (known.failures or known.next_s > now_s):
            known.failures, known.next_s = 0, 0.0
            self.version += 1

    def failed(self, address: PeerAddress, now_s: float, rng: Random, *, alone: bool) -> None:
        """Note an attempt that failed, or a connection that did not last; it waits longer now.

        Args:
            alone: Nobody is connected. That says more of this machine's own network than of the
                address, so nothing is held against it.
        """
        known = self._entries.get(address)
        if known is None:
            return
        known.attempt_s = now_s
        if alone:
            known.next_s = now_s + WAIT_ALONE_S * rng.uniform(0.5, 1.5)
            return
        known.failures += 1
        if self._hopeless(known, now_s):
            del self._entries[address]
        else:
            first_s = WAIT_TRIED_S if known.tried_s else WAIT_UNTRIED_S
            wait_s = min(WAIT_MAX_S, first_s * 2.0 ** min(known.failures - 1, 32))
            known.next_s = now_s + wait_s * rng.uniform(0.5, 1.5)
        self.version += 1

    def set_anchor(self, address: PeerAddress, *, anchor: bool) -> None:
        """Make an address an anchor, or an ordinary one again."""
        known = self._entries.get(address)
        if known is not None and known.anchor != anchor:
            known.anchor = anchor
            self.version += 1

    def forget(self, unwanted: Callable[[Known], bool]) -> None:
        """Forget what the operator does not want any more."""
        for one in [one for one in self._entries.values() if unwanted(one)]:
            del self._entries[one.address]
            self.version += 1

    def sample(
        self, tellable: Callable[[PeerAddress], bool], count: int, now_s: float, rng: Random
    ) -> list[PeerAddress]:
        """Return addresses to tell a peer: met in the last day, one a peer, in random order."""
        fresh = [
            one
            for one in self._entries.values()
            if one.met_s > now_s - FRESH_S and tellable(one.address)
        ]
        rng.shuffle(fresh)
        chosen: dict[PeerId, PeerAddress] = {}
        for one in fresh:
            chosen.setdefault(one.address.peer, one.address)
        return list(chosen.values())[:count]

    # -- bounds

    def _hopeless(self, known: Known, now_s: float) -> bool:
        if not known.informants or known.anchor:  # the operator's word, and old friends
            return False
        if not known.tried_s:
            return known.failures >= UNTRIED_FAILURES_MAX
        long_ago = known.tried_s < now_s - TRIED_FORGOTTEN_S
        return long_ago and known.failures >= TRIED_FAILURES_MAX

    def _name(self, known: Known, informant: str, rng: Random) -> None:
        """Add a name to an address; among too many, one that is not the first gives way."""
        if not known.informants or informant in known.informants:
            return
        if not known.tried_s:
            self._make_room_of(informant, rng)
        if len(known.informants) >= NAMED_COUNT_MAX:
            known.informants.pop(rng.randrange(1, NAMED_COUNT_MAX))
        known.informants.append(informant)
        self.version += 1

    def _make_room_of(self, informant: str, rng: Random) -> None:
        own = self._untried_of(informant)
        if len(own) >= INFORMANT_COUNT_MAX:
            self._unname(informant, own, rng)

    def _shrink(self, count_max: int, concerns: Callable[[Known], bool], rng: Random) -> None:
        """Make room for one more among some untried addresses: whoever told most of them loses."""
        while True:
            some = [one for one in self._entries.values() if not one.tried_s and concerns(one)]
            if len(some) < count_max:
                return
            told = Counter(name for one in some for name in one.informants)
            if not told:  # nobody answers for any of them
                del self._entries[some[0].address]
                continue
            most = max(told.values())
            name = rng.choice(sorted(name for name, count in told.items() if count == most))
            self._unname(name, [one for one in some if name in one.informants], rng)

    def _unname(self, informant: str, own: list[Known], rng: Random) -> None:
        """Take an informant's name off one address, one that failed if there is one."""
        failed = [one for one in own if one.failures]
        one = rng.choice(failed or own)
        one.informants.remove(informant)
        if not one.informants:
            del self._entries[one.address]

    def _untried_of(self, informant: str) -> list[Known]:
        return [
            one for one in self._entries.values() if not one.tried_s and informant in one.informants
        ]

    def _make_room_tried(self) -> None:
        """Let the longest unreached of the most crowded group go, anchors excepted."""
        tried = [one for one in self._entries.values() if one.tried_s]
        if len(tried) < TRIED_COUNT_MAX:
            return
        ordinary = [one for one in tried if not one.anchor]
        crowd = Counter(one.address.group for one in ordinary)
        oldest = min(ordinary, key=lambda one: (-crowd[one.address.group], one.tried_s))
        del self._entries[oldest.address]


def tried_first(entries: Collection[Known]) -> list[Known]:
    """Return entries as people want to read them: anchors, then tried, then heard of."""
    return sorted(entries, key=lambda one: (not one.anchor, -one.tried_s, -one.heard_s))
