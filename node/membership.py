"""Whom this node is connected to, kept up: the address book, its file, dialling, peer exchange.

The network child owns connections and keeps out whom it must; this side owns the book and decides.
Rules and numbers are in `network/outbound.py` and `network/addressbook.py`; this module carries
them out: it waits, dials, asks and writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

import structlog

from crdt import HansaError, ItemId, NetworkId, PeerId, check_probed, encode_probe
from node.driver import sync_protocol
from node.network import BadAddress, ConnectedPeer, PeerRefused, ProtocolUnspoken
from node.network.access_rules import AccessRules
from node.network.addressbook import AddressBook, Known, tried_first
from node.network.addresses import (
    RELAYED,
    PeerAddress,
    Scope,
    group_of,
    host_and_port,
    informant_of,
    parse_address,
    scope_of,
)
from node.network.bookfile import load, pack, save
from node.network.exchange import (
    ANSWER_BYTES_MAX,
    TOLD_COUNT_MAX,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
    exchange_protocol,
    may_tell,
)
from node.network.outbound import Link, Outbound

DIAL_COUNT_MAX = 4
"""Attempts at once: one that hangs takes 20 s, and others must not wait for it."""
TICK_HUNGRY_S = 1.0
TICK_S = 15.0
"""How often the book is looked at when connections are missing, and when none is."""
ASK_TIMEOUT_S = 10.0
ASK_HUNGRY_S = 30.0
ASK_S = 600.0
"""How often an outbound peer is asked for others when connections are missing, and if not."""
ANSWER_PAUSE_S = 20.0
"""A peer that asks again sooner is told the same once more: nobody reads the book out quickly."""
ANSWERED_COUNT_MAX = 256
LAN_INFORMANT = "lan"
"""Whoever is on the LAN can announce anything, so all of it is one informant's."""
PROBED_BYTES_MAX = 256
"""The answer to a probe: one id in a frame."""
SAVE_PAUSE_S = 10.0
VISIT_S = 60.0
"""How long one stays for whom no lasting place is free: it is told of others in the first second,
has read the log, or reads on elsewhere. Else those who came first would keep all newcomers out for
as long as they stay: of 300 simulated nodes with 3 bootstrap peers, 202."""
TOLD_OWN_COUNT_MAX = 2
"""Addresses of its own that an inbound peer gets into the book."""

logger = structlog.stdlib.get_logger(__name__)


class MembershipTransport(Protocol):
    """What membership needs of the network; `NetworkClient` fits."""

    @property
    def is_up(self) -> bool:
        """Whether anything can be dialled."""
        ...

    def peers(self) -> list[ConnectedPeer]:
        """Return the connected peers."""
        ...

    def peer(self, peer: PeerId) -> ConnectedPeer | None:
        """Return a peer if it is connected now."""
        ...

    async def dial(self, multiaddr: str) -> None:
        """Connect; raises HansaError when nobody with that identity answers there."""
        ...

    async def drop(self, peer: PeerId, reason: str) -> None:
        """Close the connection to a peer."""
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
class MembershipSettings:
    """What the operator decides; lists as in `p2p.*`.

    Attributes:
        inbound_count: Peers that called here and may stay; those beyond are visitors.
    """

    outbound_count: int = 8
    inbound_count: int = 56
    bootstrap: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    relay: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a connected peer beside its connection."""

    group: str
    found: str
    anchor: bool


class Membership:
    """Keeps the node among its peers. Call from the event loop's thread only.

    Args:
        path: The book's file.
        own_addresses: The multiaddresses at which peers reach this node, asked anew each time.
    """

    def __init__(
        self,
        *,
        network: NetworkId,
        own: PeerId,
        transport: MembershipTransport,
        path: Path,
        settings: MembershipSettings,
        own_addresses: Callable[[], Sequence[str]],
        rng: Random,
        now_s: Callable[[], float] = time.time,  # noqa: TID251 - an edge: the book outlives a run
    ) -> None:
        self._network = network
        self._protocol = exchange_protocol(network)
        self._sync_protocol = sync_protocol(network)
        self._transport = transport
        self._path = path
        self._own_addresses = own_addresses
        self._rng = rng
        self._now_s = now_s
        self._rules = AccessRules.parse(settings.allow, settings.deny)
        self._bootstrap = _readable(settings.bootstrap)
        self._book = AddressBook(own)
        self._outbound = Outbound(
            self._book,
            count=settings.outbound_count,
            bootstrap={one.peer for one in self._bootstrap},
            may=self._rules.may_stay,
        )
        self._is_relay, self._own = settings.relay, own
        self._inbound_count = settings.inbound_count
        self._came_s: dict[PeerId, float] = {}
        """When each peer that is here by its own wish came, the first one first."""
        self._answered: dict[PeerId, tuple[float, bytes]] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialling = 0
        self._runner: asyncio.Task[None] | None = None
        self._asked_s = now_s()
        self._saving: asyncio.Future[None] | None = None
        self._saved_s = 0.0
        self._saved_version = 0

    async def start(self) -> None:
        """Read the book and begin to dial."""
        now_s = self._now_s()
        self._book.restore(await asyncio.to_thread(load, self._path, self._network))
        self._book.forget(lambda one: not self._may(one.address))
        for address in self._bootstrap:
            self._book.hear(address, "bootstrap", None, now_s, self._rng)
        self._saved_version = self._book.version
        self._runner = asyncio.create_task(self._run(), name="membership")
        self._runner.add_done_callback(_ended)

    async def stop(self) -> None:
        """Stop dialling and write the book."""
        if self._runner is None:
            return
        tasks = [*self._tasks, self._runner]
        self._runner = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._save()

    # -- what the network tells

    def peer_connected(self, peer: PeerId) -> None:
        """Take note of a peer; one that we dialled is asked for others."""
        one = self._transport.peer(peer)
        if one is not None and one.direction == "out":
            self._came_s.pop(peer, None)  # it called through a relay, and was called back directly
            host, port = host_and_port(one.address)
            address = self._address_of(peer, host, port)
            self._outbound.connected(address, group_of(host, port), self._now_s())
            self._spawn(self._ask(peer))
        elif one is not None:
            self._came_s[peer] = self._now_s()
        self._changed.set()

    def peer_lost(self, peer: PeerId) -> None:
        """Take note of a peer that is gone."""
        self._answered.pop(peer, None)
        self._came_s.pop(peer, None)
        self._outbound.lost(peer, self._now_s(), self._rng)
        self._changed.set()

    def addresses_changed(self) -> None:
        """Tell whom this node dialled where it is reached now; a relay among them tells on."""
        for link in self._outbound.links():
            if link.proven:
                self._spawn(self._ask(link.address.peer))

    async def answer(self, peer: PeerId, payload: bytes) -> bytes:
        """Return addresses that this node knows to be real, and note where the asker listens.

        Raises:
            RemoteFault: the request is not one of ours.
        """
        listening = decode_request(payload, self._network)
        one = self._transport.peer(peer)
        if one is None:
            raise PeerRefused(f"peer {peer} is not connected any more")
        now_s = self._now_s()
        host, _ = host_and_port(one.address)
        if one.direction == "in":
            self._take_own(peer, host, listening, now_s)
        answered_s, raw = self._answered.get(peer, (0.0, b""))
        if raw and 0 <= now_s - answered_s < ANSWER_PAUSE_S:
            return raw
        near = scope_of(host)
        told = self._book.sample(
            lambda address: address.peer != peer and may_tell(address, near) and self._may(address),
            TOLD_COUNT_MAX, now_s, self._rng,
        )  # fmt: skip
        raw = encode_answer(self._network, told)
        while len(self._answered) >= ANSWERED_COUNT_MAX:
            del self._answered[next(iter(self._answered))]
        self._answered[peer] = (now_s, raw)
        return raw

    # -- what the operator asks

    async def dial(self, multiaddr: str) -> None:
        """Connect to a peer and remember it.

        Raises:
            BadAddress, PeerUnreachable: as the network says.
        """
        address = parse_address(multiaddr)
        await self._transport.dial(str(address))
        self._book.hear(address, "operator", None, self._now_s(), self._rng)
        self._spawn(self._ask(address.peer))

    def hear_on_lan(self, address: PeerAddress) -> None:
        """Take in a peer that was announced on this LAN: hearsay, of one informant altogether."""
        if address.scope is Scope.PRIVATE and self._may(address):
            self._book.hear(address, "lan", LAN_INFORMANT, self._now_s(), self._rng)
            self._changed.set()

    def standing(self, peer: ConnectedPeer) -> Standing:
        """Return what is known of a connected peer beside its connection."""
        host, port = host_and_port(peer.address)
        entries = self._book.of_peer(peer.peer)
        here = next((one for one in entries if one.address.seen_host == host), None)
        if peer.direction == "in" and here is None:
            return Standing(group_of(host, port), "inbound", anchor=False)
        known = here or next(iter(entries), None)
        if known is None:
            return Standing(group_of(host, port), "operator", anchor=False)
        return Standing(group_of(host, port), known.found, anchor=known.anchor)

    def outbound_counts(self) -> tuple[int, int]:
        """Return how many outbound connections stand, and how many are kept."""
        return self._outbound.up_count, self._outbound.count

    def known(self) -> list[Known]:
        """Return the book: anchors first, then those that worked, then those only heard of."""
        return tried_first(self._book.all())

    # -- the task

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            now_s = self._now_s()
            self._outbound.look(now_s)
            if self._transport.is_up:
                self._dial_due(now_s)
                self._ask_due(now_s)
                self._end_visits(now_s)
            if self._book.version != self._saved_version and now_s - self._saved_s > SAVE_PAUSE_S:
                await self._save()
            hungry = self._outbound.missing_count > 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_HUNGRY_S if hungry else TICK_S):
                    await self._changed.wait()

    def _dial_due(self, now_s: float) -> None:
        connected = {one.peer for one in self._transport.peers()}
        while self._dialling < DIAL_COUNT_MAX:
            address = self._outbound.next_dial(connected, now_s, self._rng)
            if address is None:
                return
            self._dialling += 1
            self._spawn(self._dial(address))

    async def _dial(self, address: PeerAddress) -> None:
        try:
            await self._transport.dial(str(address))
        except HansaError as error:
            logger.debug("peer not reached", address=str(address), reason=str(error))
            alone = not self._transport.peers()
            self._outbound.failed(address.peer, self._now_s(), self._rng, alone=alone)
        else:
            # Up already, or come to us at the same time; or gone again, or kept out by the child.
            if self._transport.peer(address.peer) is not None:
                self._outbound.released(address.peer)
            else:
                self._outbound.failed(address.peer, self._now_s(), self._rng, alone=False)
        finally:
            self._dialling -= 1
            self._changed.set()

    def _ask_due(self, now_s: float) -> None:
        pause_s = ASK_HUNGRY_S if self._outbound.missing_count else ASK_S
        proven = [link.address.peer for link in self._outbound.links() if link.proven]
        if proven and not 0 <= now_s - self._asked_s < pause_s:
            self._asked_s = now_s
            self._spawn(self._ask(self._rng.choice(proven)))

    def _end_visits(self, now_s: float) -> None:
        """Drop the latest of too many, so that somebody else can come in."""
        for peer, came_s in list(self._came_s.items())[self._inbound_count :]:
            if now_s - came_s > VISIT_S:
                self._came_s[peer] = now_s  # not once more while it is being dropped
                self._spawn(self._drop(peer, "no lasting place is free; it was told of others"))

    async def _ask(self, peer: PeerId) -> None:
        """Ask a peer that we dialled for others. One that has no log either is dropped."""
        link = self._outbound.link(peer)
        if link is None:
            return
        try:
            raw = await self._transport.request(
                peer,
                self._protocol,
                encode_request(self._network, self._own_addresses()),
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=ANSWER_BYTES_MAX,
            )
            told = decode_answer(raw, self._network)
        except ProtocolUnspoken as error:
            # Of an earlier version, perhaps: then it has the log, and that is what matters.
            logger.info("peer tells of no others", peer=peer, reason=str(error))
            if not await self._has_log(peer):
                await self._part_with(link)
                return
            told = []
        except HansaError as error:
            logger.info("peer tells of no others", peer=peer, reason=str(error))
            await self._part_with(link)
            return
        one = self._transport.peer(peer)
        if one is None or self._outbound.link(peer) is not link:
            return
        now_s = self._now_s()
        self._outbound.proven(peer, now_s)
        self._take_told(peer, host_and_port(one.address)[0], told, now_s)
        self._changed.set()

    async def _has_log(self, peer: PeerId) -> bool:
        """Whether a peer answers for this network's log, as every version does."""
        probe = ItemId(self._rng.randbytes(32))
        try:
            raw = await self._transport.request(
                peer,
                self._sync_protocol,
                encode_probe(probe, self._network),
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=PROBED_BYTES_MAX,
            )
            check_probed(raw, probe, self._network)
        except HansaError as error:
            logger.info("peer is none of this network", peer=peer, reason=str(error))
            return False
        return True

    async def _part_with(self, link: Link) -> None:
        """Drop a peer that we chose and that does not take part; named ones are kept."""
        if self._outbound.link(link.address.peer) is link and link.informant is not None:
            await self._drop(link.address.peer, "it does not take part")

    async def _drop(self, peer: PeerId, reason: str) -> None:
        with contextlib.suppress(HansaError):
            await self._transport.drop(peer, reason)

    # -- the book

    def _take_told(
        self, peer: PeerId, host: str, told: Sequence[PeerAddress], now_s: float
    ) -> None:
        informant, near = informant_of(host, peer), scope_of(host)
        for address in told:
            if may_tell(address, near) and self._may(address):
                self._book.hear(address, "exchange", informant, now_s, self._rng)

    def _take_own(
        self, peer: PeerId, host: str, listening: Sequence[PeerAddress], now_s: float
    ) -> None:
        """Note where an inbound peer listens: the host is seen to be its, only the port is told.

        One that is behind this very relay is told on too, at this node's own addresses.
        """
        own = set(self._own_addresses()) if self._is_relay else set[str]()
        here = [
            one
            for one in listening
            if one.peer == peer and (self._is_at(one, host) or self._leads_here(one, own))
        ]
        for address in here[:TOLD_OWN_COUNT_MAX]:
            if self._may(address):
                self._book.hear(address, "inbound", informant_of(host, peer), now_s, self._rng)
                self._book.met(address, now_s)

    @staticmethod
    def _is_at(address: PeerAddress, host: str) -> bool:
        return address.relay is None and address.host == host

    def _leads_here(self, address: PeerAddress, own: set[str]) -> bool:
        """Whether an address is one of a peer behind this relay."""
        return address.relay == self._own and str(replace(
            address, peer=self._own, relay=None
        )) in own  # fmt: skip

    def _address_of(self, peer: PeerId, host: str, port: int) -> PeerAddress:
        """Return by which address an outbound peer was reached."""
        link = self._outbound.link(peer)
        if link is not None:
            return link.address
        if host == RELAYED and (one := self._transport.peer(peer)) is not None:
            return parse_address(f"{one.address}/p2p/{peer}")
        named = [one for one in self._bootstrap if one.peer == peer]
        entries = [one.address for one in self._book.of_peer(peer)]
        exact = [one for one in (*named, *entries) if (one.host, one.port) == (host, port)]
        found = next(iter((*exact, *named)), None)
        return found or PeerAddress("ip6" if ":" in host else "ip4", host, port, peer)

    def _may(self, address: PeerAddress) -> bool:
        return self._rules.may_stay(address.peer, address.seen_host)

    async def _save(self) -> None:
        if self._saving is not None:
            # A task that was cancelled leaves its thread at the file: one after the other.
            await asyncio.wait([self._saving])
            self._saving.exception()
        version, self._saved_s = self._book.version, self._now_s()
        if version == self._saved_version:
            return
        try:
            raw = pack(self._network, self._book.all())
            loop = asyncio.get_running_loop()
            self._saving = loop.run_in_executor(None, save, self._path, raw)
            await asyncio.shield(self._saving)
            self._saved_version = version
        except OSError as error:
            logger.warning("peers file not written", path=str(self._path), reason=str(error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _readable(bootstrap: Sequence[str]) -> list[PeerAddress]:
    """Return the bootstrap addresses that can be read; the child complains of the others."""
    found: list[PeerAddress] = []
    for text in bootstrap:
        with contextlib.suppress(BadAddress):
            found.append(parse_address(text))
    return found


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.critical("membership ended; restart the node", exc_info=task.exception())
