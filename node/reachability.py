"""Whether peers can dial this node, found out by asking them; and the same done for others.

A peer dials the host it sees the asker at, so what it says holds from where it is. It may lie; so
several are asked, one of an address group, and most of them must agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from crdt import HansaError, NetworkId, PeerId
from node.network import ConnectedPeer, PeerRefused
from node.network.addresses import PeerAddress, Scope, group_of, host_and_port, scope_of
from node.network.reach import (
    FRAME_BYTES_MAX,
    Reached,
    decode_reach,
    decode_reached,
    encode_reach,
    encode_reached,
    reach_protocol,
)

ASKED_COUNT_MAX = 3
"""Peers that are asked to dial back: an odd number, so that most of them is a word."""
ASK_TIMEOUT_S = 8.0
DIAL_COUNT_MAX = 4
"""Dialled back at once."""
PAUSE_S = 60.0
"""From one address group one asks a minute: ids cost nothing, networks do."""
GROUP_COUNT_MAX = 1024

logger = structlog.stdlib.get_logger(__name__)


class ReachTransport(Protocol):
    """What this needs of the network; `NetworkClient` fits."""

    def peers(self) -> list[ConnectedPeer]:
        """Return the connected peers."""
        ...

    def peer(self, peer: PeerId) -> ConnectedPeer | None:
        """Return a peer if it is connected now."""
        ...

    async def probe(self, multiaddr: str) -> None:
        """Dial and let go again; raises HansaError when nobody with that identity answers."""
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


@dataclass(frozen=True, slots=True)
class Reachability:
    """What was found out.

    Attributes:
        port: The port that peers were asked to dial; 0 when the node listens at none.
        reached: How many of those that tried reached this node.
        tried: How many tried and said how it went.
        scope: From how near the nearest of them looks: an answer from the same LAN says nothing of
            the internet. None when nobody tried.
        inbound: Peers that are connected and came by themselves, from that far or farther.
    """

    port: int
    reached: int
    tried: int
    scope: Scope | None
    inbound: int


class Reaching:
    """Asks and answers. Call from the event loop's thread only."""

    def __init__(
        self,
        *,
        network: NetworkId,
        transport: ReachTransport,
        port: Callable[[], int],
        rng: Random,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the port at which this node listens for peers, asked anew each time."""
        self._network = network
        self._protocol = reach_protocol(network)
        self._transport = transport
        self._port = port
        self._rng = rng
        self._now_s = now_s
        self._asked_s: OrderedDict[str, float] = OrderedDict()
        self._last: tuple[float, Reachability] | None = None
        self._dialling = 0

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        """Dial a peer back at the host that it is seen at, and say how that went.

        Raises:
            RemoteFault: the request is not one of ours.
        """
        port = decode_reach(payload, self._network)
        one = self._transport.peer(peer)
        if one is None:
            raise PeerRefused(f"peer {peer} is not connected any more")
        host, at = host_and_port(one.address)
        if not host or not self._may_dial(group_of(host, at)):
            return encode_reached(self._network, Reached.NOT_NOW)
        self._dialling += 1
        try:
            kind = "ip6" if ":" in host else "ip4"
            await self._transport.probe(str(PeerAddress(kind, host, port, peer)))
        except HansaError as error:
            logger.debug("peer not reached", peer=peer, reason=str(error))
            return encode_reached(self._network, Reached.NO)
        finally:
            self._dialling -= 1
        return encode_reached(self._network, Reached.YES)

    async def find_out(self) -> Reachability:
        """Ask some peers, the farthest first, to dial back; return what they say.

        Whoever was asked a moment ago does not dial again: then what was found before holds on.
        """
        found, now_s = await self._asked_now(), self._now_s()
        if not found.tried and self._last is not None and now_s - self._last[0] < 2 * PAUSE_S:
            return self._last[1]
        if found.tried:
            self._last = (now_s, found)
        return found

    async def _asked_now(self) -> Reachability:
        port = self._port()
        chosen = self._choose()
        said = await asyncio.gather(*(self._ask(one, port) for one in chosen if port))
        heard = [
            (one, reached)
            for one, reached in zip(chosen, said, strict=False)
            if reached in {Reached.YES, Reached.NO}
        ]
        scopes = [_scope(one) for one, _ in heard]
        scope = max(scopes, default=None)
        far = scope if scope is not None else Scope.LOOPBACK
        return Reachability(
            port=port,
            reached=sum(reached is Reached.YES for _, reached in heard),
            tried=len(heard),
            scope=scope,
            inbound=sum(
                one.direction == "in" and _scope(one) >= far for one in self._transport.peers()
            ),
        )

    def _may_dial(self, group: str) -> bool:
        now_s = self._now_s()
        last_s = self._asked_s.get(group)
        if self._dialling >= DIAL_COUNT_MAX or (last_s is not None and now_s - last_s < PAUSE_S):
            return False
        self._asked_s[group] = now_s
        self._asked_s.move_to_end(group)
        while len(self._asked_s) > GROUP_COUNT_MAX:
            self._asked_s.popitem(last=False)
        return True

    def _choose(self) -> list[ConnectedPeer]:
        """Return whom to ask: one of a group, those far away first, else by lot."""
        peers = self._transport.peers()
        self._rng.shuffle(peers)
        peers.sort(key=lambda one: (-_scope(one), one.direction != "out"))
        by_group: dict[str, ConnectedPeer] = {}
        for one in peers:
            by_group.setdefault(group_of(*host_and_port(one.address)), one)
        found = list(by_group.values())
        farthest = [one for one in found if _scope(one) == _scope(found[0])]
        return farthest[:ASKED_COUNT_MAX]

    async def _ask(self, one: ConnectedPeer, port: int) -> Reached | None:
        with contextlib.suppress(HansaError):
            raw = await self._transport.request(
                one.peer,
                self._protocol,
                encode_reach(self._network, port),
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=FRAME_BYTES_MAX,
            )
            return decode_reached(raw, self._network)
        return None


def _scope(one: ConnectedPeer) -> Scope:
    return scope_of(host_and_port(one.address)[0])


def listening_port(addresses: Sequence[str]) -> int:
    """Return the port of the first address that a node listens at; 0 when there is none."""
    return next((port for _, port in map(host_and_port, addresses) if port), 0)
