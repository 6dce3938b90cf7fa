"""What this node says of itself, and the book of what the others say: gossip and answers.

Fresh every 15 s and at once when something changed. On each new connection the peer is asked for
the adverts it holds, so a newcomer need not wait for gossip. Losing a connection proves nothing
(the network process may have restarted), so a lost peer is looked for at its own port first.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import structlog

from crdt import (
    AccountId,
    HansaError,
    MalformedBytes,
    ManifestDigest,
    NetworkId,
    PeerId,
    RecordId,
    RemoteFault,
    SigningKey,
    WrongNetwork,
    array,
    decode,
    encode,
    fixed_bytes,
    natural,
    peer_id_of,
)
from crdt import field as typed
from inference import (
    ADVERT_BYTES_MAX,
    REFRESH_S,
    AdvertBook,
    AdvertStale,
    Endpoint,
    NodeAdvert,
    Offer,
    Offered,
    check_advert,
    read_clock,
    sign_advert,
)
from node.clocks import ClockReading
from node.peer import PeerEndpoint

logger = structlog.stdlib.get_logger(__name__)

VERSION = 0
PUBLISH_PAUSE_S = 1.0
"""At most one advert a second, however fast the load changes."""
ASK_TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 900 * 1024
"""Under the 1 MiB of a stream frame; the freshest adverts come first."""
ANSWER_COUNT_MAX = 4096
DOUBT_S = 2.0
"""A peer has this long to connect again before it is looked for (the network child needs 2 s)."""
DOUBT_CONNECT_S = 2.0
TASK_COUNT_MAX = 128


class AdvertTransport(Protocol):
    """What adverts need of the network; `NetworkClient` fits."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip `data`; raises HansaError when it cannot be queued."""
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


class AdvertSources(Protocol):
    """What this node says of itself, asked anew for each advert."""

    def endpoints(self) -> Sequence[Endpoint]:
        """Return where the peer port can be reached, best first."""
        ...

    def builds(self) -> Sequence[ManifestDigest]:
        """Return the whole builds held here, the newest last."""
        ...

    def offers(self) -> Sequence[Offer]:
        """Return what this node serves now."""
        ...


Listener = Callable[[PeerId], None]


def adverts_topic(network: NetworkId) -> str:
    """Return the gossip topic of adverts."""
    return f"/hansa/{network.hex()[:16]}/adverts/{VERSION}"


def adverts_protocol(network: NetworkId) -> str:
    """Return the protocol by which a peer is asked for the adverts it holds."""
    return f"/hansa/{network.hex()[:16]}/adverts/{VERSION}"


class Adverts:
    """Who is up, what they serve and what they hold. Call from the event loop's thread only."""

    def __init__(
        self,
        *,
        key: SigningKey,
        operator: AccountId,
        network: NetworkId,
        sources: AdvertSources,
        transport: AdvertTransport,
        rtt_ms: Callable[[PeerId], float] = lambda _peer: 0.0,
        now_s: Callable[[], float] = time.time,  # noqa: TID251 - an edge: adverts carry the time
    ) -> None:
        self.peer = peer_id_of(key.public)
        self._key = key
        self._operator = operator
        self._network = network
        self._sources = sources
        self._transport = transport
        self._rtt_ms = rtt_ms
        self._now_s = now_s
        self._book = AdvertBook()
        self._sequence_ms = 0
        self._connected: set[PeerId] = set()
        self._clocks: dict[PeerId, ClockReading] = {}
        self._listeners: list[Listener] = []
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._publisher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to publish."""
        self.refresh()
        self._publisher = asyncio.create_task(self._publish_for_ever(), name="adverts")

    async def stop(self) -> None:
        """Say good-bye (an advert that offers nothing) and stop."""
        tasks = [*self._tasks, *([self._publisher] if self._publisher else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._publisher = None
        with contextlib.suppress(HansaError):
            await self._transport.publish(adverts_topic(self._network), self._sign(farewell=True))

    def admitted(self, operator: AccountId) -> None:
        """Name the operator's account, now that the network takes it."""
        self._operator = operator
        self.changed()

    def changed(self) -> None:
        """Tell the peers soon that what is served, held or loaded is another now."""
        self._changed.set()

    def refresh(self) -> NodeAdvert:
        """Make this node's advert anew and return it."""
        raw = self._sign()
        advert = check_advert(raw, self._network, self._now_s())
        self._take(advert, preferred=True)
        return advert

    def gossiped(self, data: bytes) -> None:
        """Take in an advert that came by gossip; bad ones are dropped (the child checked it)."""
        self._accept(data)

    def peer_connected(self, peer: PeerId) -> None:
        """Ask a new neighbour for what it knows."""
        self._connected.add(peer)
        self._spawn(self._ask(peer))

    def peer_lost(self, peer: PeerId) -> None:
        """See soon whether a lost neighbour is still there."""
        self._connected.discard(peer)
        self._clocks.pop(peer, None)
        self._spawn(self._doubt(peer))

    async def answer(self, _peer: PeerId, payload: bytes) -> bytes:
        """Return the adverts held here, our own first and anew, then the freshest.

        Raises:
            RemoteFault: the request is not one of ours.
        """
        parts = decode(payload, bytes_max=256)
        _check_head(parts, "adverts?", 3, self._network)
        own = self.refresh()
        others = [held for held in self._book.adverts() if held.peer != own.peer]
        others.sort(key=lambda held: -held.sequence_ms)
        raws, size = [own.raw], len(own.raw)
        for held in others[: ANSWER_COUNT_MAX - 1]:
            size += len(held.raw) + 5
            if size > ANSWER_BYTES_MAX - 128:
                break
            raws.append(held.raw)
        return encode(["adverts", VERSION, self._network, raws])

    def own(self) -> NodeAdvert | None:
        """Return this node's advert as last made."""
        return self._book.get(self.peer)

    def adverts(self) -> list[NodeAdvert]:
        """Return every live advert, our own among them."""
        self._expire()
        return self._book.adverts()

    def offers(self) -> list[Offered]:
        """Return every live offer, our own among them."""
        self._expire()
        return self._book.offers()

    def offered(self, record: RecordId) -> list[Offered]:
        """Return the live offers of one record, our own among them."""
        self._expire()
        return self._book.offers(record)

    def records(self) -> set[RecordId]:
        """Return the records that somebody offers now."""
        self._expire()
        return self._book.records()

    def holders(self, digest: ManifestDigest) -> list[PeerEndpoint]:
        """Return where a build can be fetched from, connected and near peers first; not us."""
        self._expire()
        found = [held for held in self._book.holders(digest) if held.peer != self.peer]
        found.sort(key=lambda held: (held.peer not in self._connected, self.rtt_ms(held.peer)))
        return [_peer_endpoint(held.peer, at) for held in found for at in held.endpoints]

    def endpoint(self, peer: PeerId) -> PeerEndpoint | None:
        """Return where a peer's HTTPS port is, as its advert says."""
        self._expire()
        held = self._book.get(peer)
        return _peer_endpoint(peer, held.endpoints[0]) if held and held.endpoints else None

    def rtt_ms(self, peer: PeerId) -> float:
        """Return the measured round trip to a peer; 0 when it is this node or unknown."""
        return 0.0 if peer == self.peer else self._rtt_ms(peer)

    def clocks(self) -> dict[PeerId, ClockReading]:
        """Return what the clocks of connected peers showed when they were last asked."""
        return dict(self._clocks)

    async def read_clocks(self, peers: Sequence[PeerId]) -> None:
        """Ask some connected peers anew: what one answers says when it was made."""
        await asyncio.gather(*(self._ask(peer) for peer in peers if peer in self._connected))

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call back with each peer whose advert changed or went; return how to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def _publish_for_ever(self) -> None:
        topic = adverts_topic(self._network)
        while True:
            self._changed.clear()
            try:
                await self._transport.publish(topic, self.refresh().raw)
            except HansaError as error:
                logger.debug("advert not published", reason=str(error))
            self._expire()
            await asyncio.sleep(PUBLISH_PAUSE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S - PUBLISH_PAUSE_S):
                    await self._changed.wait()

    def _sign(self, *, farewell: bool = False) -> bytes:
        # Never twice the same number, nor a lower one when the clock steps back.
        self._sequence_ms = max(int(self._now_s() * 1000), self._sequence_ms + 1)
        sources = self._sources
        advert = NodeAdvert(
            peer=self.peer,
            operator=self._operator,
            sequence_ms=self._sequence_ms,
            endpoints=() if farewell else tuple(sources.endpoints())[:8],
            builds=() if farewell else tuple(sources.builds())[-512:],
            offers=() if farewell else tuple(sources.offers())[:64],
        )
        return sign_advert(advert, self._network, self._key)

    def _accept(self, raw: bytes, *, preferred: bool = False) -> None:
        try:
            advert = check_advert(raw, self._network, self._now_s())
            if advert.peer != self.peer:
                self._take(advert, preferred=preferred or advert.peer in self._connected)
        except AdvertStale:
            return
        except RemoteFault as error:
            logger.info("advert refused", reason=str(error))

    def _take(self, advert: NodeAdvert, *, preferred: bool) -> None:
        if self._book.accept(advert, self._now_s(), preferred=preferred):
            self._tell(advert.peer)

    def _tell(self, peer: PeerId) -> None:
        for listener in list(self._listeners):
            listener(peer)

    def _expire(self) -> None:
        for peer in self._book.expire(self._now_s()):
            self._tell(peer)

    async def _ask(self, peer: PeerId) -> None:
        asked_s = self._now_s()
        try:
            raw = await self._transport.request(
                peer,
                adverts_protocol(self._network),
                encode(["adverts?", VERSION, self._network]),
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=ANSWER_BYTES_MAX,
            )
            parts = decode(raw, bytes_max=ANSWER_BYTES_MAX)
            _check_head(parts, "adverts", 4, self._network)
            rows = array(parts[3], "adverts")
            if len(rows) > ANSWER_COUNT_MAX:
                raise MalformedBytes(f"{len(rows)} adverts; at most {ANSWER_COUNT_MAX}")
            self._read_clock(peer, rows[:1], asked_s, self._now_s())
            for count, row in enumerate(rows, start=1):
                self._accept(typed(row, bytes, "advert"))
                if count % 64 == 0:
                    await asyncio.sleep(0)  # 64 signatures are 8 ms
        except HansaError as error:
            logger.info("peer gave no adverts", peer=peer, reason=str(error))

    def _read_clock(
        self, peer: PeerId, rows: Sequence[object], asked_s: float, answered_s: float
    ) -> None:
        """Note what a peer's clock shows: its own advert comes first, made for this answer."""
        with contextlib.suppress(RemoteFault):
            for row in rows:
                signer, at_ms = read_clock(typed(row, bytes, "advert"), self._network)
                if signer == peer and peer in self._connected:
                    middle_ms = int((asked_s + answered_s) * 500)
                    error_ms = int(abs(answered_s - asked_s) * 500)
                    self._clocks[peer] = ClockReading(at_ms - middle_ms, error_ms)

    async def _doubt(self, peer: PeerId) -> None:
        """Forget what a lost peer offers unless it comes back or answers at its own port."""
        await asyncio.sleep(DOUBT_S)
        held = self._book.get(peer)
        if peer in self._connected or held is None:
            return
        for at in held.endpoints:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(DOUBT_CONNECT_S):
                    _, writer = await asyncio.open_connection(at.host, at.port)
                writer.close()
                return
        if self._book.get(peer) is held and self._book.forget(peer):
            logger.info("peer is gone", peer=peer)
            self._tell(peer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._tasks) >= TASK_COUNT_MAX:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _peer_endpoint(peer: PeerId, at: Endpoint) -> PeerEndpoint:
    return PeerEndpoint(peer, at.host, at.port, at.certificate_sha256)


def _check_head(parts: tuple[object, ...], tag: str, length: int, network: NetworkId) -> None:
    if len(parts) != length or parts[0] != tag or natural(parts[1], "version") != VERSION:
        raise MalformedBytes(f"a frame of {length} fields that starts with {tag!r} is expected")
    if fixed_bytes(parts[2], 32, "network id") != network:
        raise WrongNetwork(f"frame {tag!r} is for another network")


assert ANSWER_BYTES_MAX > ADVERT_BYTES_MAX
