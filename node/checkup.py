"""What a running node finds out about itself by its peers: is it reachable, in time, up to date.

Everything here is what peers say, so each part goes by address group and by most of them. It is
asked for by the operator only, and at most once at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crdt import PeerId
from node.adverts import Adverts
from node.clocks import ClockReading, Skew, skew_of
from node.network import ConnectedPeer, NetworkClient
from node.network.addresses import group_of, host_and_port
from node.network.identified import newer_than
from node.reachability import Reachability, Reaching

CLOCK_COUNT_MAX = 8
"""Peers whose clocks are read anew, one of a group: an answer may be 900 KiB."""
SOFTWARE_COUNT_MAX = 8
SPOKEN = ("adverts/0", "compare/0", "peers/0", "reach/0", "sync/0")
"""What this version speaks (docs/wire.md)."""


@dataclass(frozen=True, slots=True)
class Versions:
    """Who runs what.

    Attributes:
        software: How many connected peers call themselves what, the most frequent first.
        unknown: Peers that have not said yet.
        newer: Protocols that we do not speak, and how many address groups have a peer that does.
        older: Peers that lack some that we speak.
    """

    software: tuple[tuple[str, int], ...]
    unknown: int
    newer: tuple[tuple[str, int], ...]
    older: int


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found.

    Attributes:
        observed: Hosts at which peers see this node, and how many address groups say so.
        own_hosts: Where this node says that it is reached.
    """

    version: str
    peers: int
    groups: int
    reachability: Reachability
    observed: tuple[tuple[str, int], ...]
    own_hosts: tuple[str, ...]
    clock: Skew
    versions: Versions


class Checkup:
    """Looks at a node through its peers' eyes. Call from the event loop's thread only."""

    def __init__(
        self,
        *,
        network: NetworkClient,
        adverts: Adverts,
        reaching: Reaching,
        version: str,
        hosts: Callable[[], Sequence[str]],
    ) -> None:
        self._network = network
        self._adverts = adverts
        self._reaching = reaching
        self._version = version
        self._hosts = hosts
        self._turn = asyncio.Lock()

    async def look(self) -> Findings:
        """Ask the peers and return what was found; takes some seconds when they do not answer."""
        async with self._turn:
            first = _one_of_each_group(self._network.peers())[:CLOCK_COUNT_MAX]
            reachability, _ = await asyncio.gather(
                self._reaching.find_out(), self._adverts.read_clocks(first)
            )
            peers = self._network.peers()
            return Findings(
                version=self._version,
                peers=len(peers),
                groups=len(_by_group(peers)),
                reachability=reachability,
                observed=observed_at(peers),
                own_hosts=tuple(self._hosts()),
                clock=skew_of(_readings(peers, self._adverts.clocks())),
                versions=versions_of(peers),
            )


def versions_of(peers: Sequence[ConnectedPeer]) -> Versions:
    """Return who runs what, by what peers say of themselves."""
    told = [one for one in peers if one.protocols]
    software = Counter(one.software or "no name" for one in told)
    newer = Counter(
        protocol
        for members in _by_group(told).values()
        for protocol in {p for one in members for p in newer_than(one.protocols, SPOKEN)}
    )
    return Versions(
        software=tuple(_ranked(software)[:SOFTWARE_COUNT_MAX]),
        unknown=len(peers) - len(told),
        newer=tuple(_ranked(newer)[:SOFTWARE_COUNT_MAX]),
        older=sum(not set(SPOKEN) <= set(one.protocols) for one in told),
    )


def observed_at(peers: Sequence[ConnectedPeer]) -> tuple[tuple[str, int], ...]:
    """Return at which hosts peers see this node, and how many groups say so; at most four."""
    hosts = Counter(
        host
        for members in _by_group(peers).values()
        for host in {one.observed for one in members if one.observed}
    )
    return tuple(_ranked(hosts)[:4])


def _readings(
    peers: Sequence[ConnectedPeer], clocks: dict[PeerId, ClockReading]
) -> dict[str, list[ClockReading]]:
    return {
        group: [clocks[one.peer] for one in members if one.peer in clocks]
        for group, members in _by_group(peers).items()
    }


def _by_group(peers: Sequence[ConnectedPeer]) -> dict[str, list[ConnectedPeer]]:
    found: dict[str, list[ConnectedPeer]] = {}
    for one in peers:
        found.setdefault(group_of(*host_and_port(one.address)), []).append(one)
    return found


def _one_of_each_group(peers: Sequence[ConnectedPeer]) -> list[PeerId]:
    chosen = [min(m, key=lambda one: one.direction != "out") for m in _by_group(peers).values()]
    chosen.sort(key=lambda one: one.direction != "out")
    return [one.peer for one in chosen]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))
