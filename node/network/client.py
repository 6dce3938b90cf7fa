"""The asyncio side of the network: calls in, handlers out, and a child process in between.

A child that dies is started again by `Supervisor`; until it is back every call is refused with
`PeerUnreachable`, at once, and nothing else in the node notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import replace
from typing import Any, Literal, cast

import structlog

from crdt import HansaError, PeerId, short
from crdt.wire import Value
from node.launch import NetworkProcess
from node.network import wire
from node.network.circuits import RelayLimits
from node.network.errors import (
    BY_CODE,
    NetworkBusy,
    NetworkFailed,
    PeerUnreachable,
    TooLarge,
)
from node.network.settings import (
    PUBLISH_BYTES_MAX,
    REQUEST_BYTES_MAX,
    ConnectedPeer,
    NetworkHandlers,
    NetworkSettings,
)
from node.network.supervisor import Link, Supervisor, require_free_ports

START_TIMEOUT_S = 30.0
"""Importing libp2p takes 1 to 3 s on a busy core; ten times that is not slowness any more."""
PUBLISH_TIMEOUT_S = 5.0
DIAL_TIMEOUT_S = 20.0
PROBE_TIMEOUT_S = 6.0
ANSWER_TIMEOUT_S = 30.0
CALL_COUNT_MAX = 1024
"""Calls that wait for the child."""
ASK_COUNT_MAX = 128
"""Peers' requests answered at once; more are refused, and peers ask again."""
BAN_COUNT_MAX = 1024

logger = structlog.stdlib.get_logger(__name__)


class NetworkClient:
    """What the node calls to reach its peers; start it once, stop it once."""

    def __init__(
        self,
        settings: NetworkSettings,
        handlers: NetworkHandlers,
        first: NetworkProcess | None = None,
    ) -> None:
        """Make a client; `first` is a child that was launched ahead, and is the client's now."""
        self._settings = settings
        self._handlers = handlers
        self._first = first
        self._link: Link | None = None
        self._supervisor: Supervisor | None = None
        self._ready: asyncio.Future[None] | None = None
        self._peer_id = PeerId("")
        self._addresses: tuple[str, ...] = ()
        self._circuits: tuple[str, ...] = ()
        self._listen = settings.listen
        self._peers: dict[PeerId, ConnectedPeer] = {}
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._call_ids = itertools.count(1)
        self._asks: set[asyncio.Task[None]] = set()
        self._banned_until: dict[PeerId, float] = {}

    # -- what the node calls

    async def start(self) -> None:
        """Start the child and return once it listens.

        Raises:
            PortInUse: a listen port is taken.
            NetworkFailed: the child does not start.
        """
        assert self._supervisor is None, "a network is started once"
        require_free_ports(self._settings.listen)
        self._ready = asyncio.get_running_loop().create_future()
        self._supervisor = Supervisor(self, self._first)
        self._supervisor.start()
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_S)
        except TimeoutError as error:
            await self.stop()
            raise NetworkFailed(
                f"the network child is not ready after {START_TIMEOUT_S:.0f} s; see the log above"
            ) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the child; peers see the connections close. Calling it again does nothing."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            await supervisor.stop()
        if self._ready is not None and self._ready.done() and not self._ready.cancelled():
            self._ready.exception()
        for task in list(self._asks):
            task.cancel()
        await asyncio.gather(*self._asks, return_exceptions=True)

    @property
    def peer_id(self) -> PeerId:
        """The node's own peer id; empty before `start`."""
        return self._peer_id

    @property
    def addresses(self) -> tuple[str, ...]:
        """The multiaddresses, with `/p2p/PEER`, that peers can dial; those through relays last."""
        return (*self._addresses, *self._circuits)

    @property
    def child_pid(self) -> int | None:
        """The child's process id, or None while it is away (for status pages and tests)."""
        return None if self._link is None else self._link.pid

    def peers(self) -> list[ConnectedPeer]:
        """Return the peers that are connected now, by id."""
        return [self._peers[peer] for peer in sorted(self._peers)]

    def peer(self, peer: PeerId) -> ConnectedPeer | None:
        """Return a peer if it is connected now."""
        return self._peers.get(peer)

    @property
    def is_up(self) -> bool:
        """Whether the child is there; without it nothing can be dialled."""
        return self._link is not None

    async def dial(self, multiaddr: str) -> None:
        """Connect to a peer at an address with `/p2p/PEER`.

        Raises:
            BadAddress: it cannot be dialled at all.
            PeerUnreachable: nobody with that identity answers there.
        """
        await self._call("dial", multiaddr[:512], timeout_s=DIAL_TIMEOUT_S)

    async def probe(self, multiaddr: str) -> None:
        """Dial an address and hang up at once: whether a peer answers there, nothing else.

        Raises:
            BadAddress: it cannot be dialled at all.
            PeerUnreachable: nobody with that identity answers there.
        """
        await self._call("probe", multiaddr[:512], timeout_s=PROBE_TIMEOUT_S)

    async def publish(self, topic: str, data: bytes) -> None:
        """Queue a gossip frame; about 20 a second and topic leave the node.

        Raises:
            TooLarge: over 64 KiB.
            NetworkBusy: the topic's queue is full; anti-entropy carries what is not gossiped.
            PeerUnreachable: the child is away.
        """
        if len(data) > PUBLISH_BYTES_MAX:
            raise TooLarge(f"a gossip frame of {len(data)} bytes; at most {PUBLISH_BYTES_MAX}")
        await self._call("publish", topic, data, timeout_s=PUBLISH_TIMEOUT_S)

    async def request(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        *,
        timeout_s: float,
        answer_bytes_max: int,
    ) -> bytes:
        """Ask a peer and return its answer.

        Raises:
            TooLarge: the request is over 1 MiB.
            PeerUnreachable: not connected, or no answer in time.
            PeerRefused: it does not answer this, or its answer is too long.
            NetworkBusy: too many calls wait already.
        """
        if len(payload) > REQUEST_BYTES_MAX:
            raise TooLarge(f"a request of {len(payload)} bytes; at most {REQUEST_BYTES_MAX}")
        assert timeout_s > 0
        answer_max = min(answer_bytes_max, REQUEST_BYTES_MAX)
        return await self._call(
            "request",
            peer,
            protocol,
            payload,
            max(1, int(timeout_s * 1000)),
            answer_max,
            timeout_s=timeout_s,
        )

    async def drop(self, peer: PeerId, reason: str) -> None:
        """Close the connection to a peer; it may come back."""
        with contextlib.suppress(PeerUnreachable):
            self._send("drop", peer, reason[:200], 0)

    async def ban(self, peer: PeerId, seconds: float) -> None:
        """Close the connection to a peer and refuse it for a while, child restarts included."""
        while len(self._banned_until) >= BAN_COUNT_MAX:
            self._banned_until.pop(min(self._banned_until, key=lambda key: self._banned_until[key]))
        self._banned_until[peer] = time.monotonic() + seconds
        with contextlib.suppress(PeerUnreachable):
            self._send("drop", peer, "banned", int(seconds * 1000))

    # -- what the supervisor calls

    def start_frame(self) -> bytes:
        """Return the frame that a new child reads first."""
        settings, now = self._settings, time.monotonic()
        relay = settings.relay
        self._banned_until = {k: t for k, t in self._banned_until.items() if t > now}
        bans = [(peer, int((t - now) * 1000)) for peer, t in self._banned_until.items()]
        return wire.pack(
            "start",
            settings.node_seed,
            settings.network,
            self._listen,
            settings.bootstrap,
            settings.peer_count_max,
            int(settings.request_rate_s),
            int(settings.gossip_rate_s),
            int(settings.ping_interval_s * 1000),
            int(settings.ping_timeout_s * 1000),
            bans,
            settings.memory_bytes_max,
            settings.outbound_count,
            settings.inbound_group_count_max,
            settings.allow,
            settings.deny,
            () if relay is None else relay_numbers(relay),
            settings.reserve,
        )

    def child_ended(self, *, reason: str) -> None:
        """Forget the child: every peer is lost and every call has failed."""
        self._link = None
        self._circuits = ()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(PeerUnreachable(f"the network child ended: {reason}"))
        self._calls.clear()
        for peer in list(self._peers):
            self._lost(peer)

    def child_failed(self, error: HansaError) -> bool:
        """Tell `start` that the first child cannot start; whether anybody waited for that."""
        if self._ready is None or self._ready.done():
            return False
        self._ready.set_exception(error)
        return True

    def frame_received(self, link: Link, frame: tuple[object, ...]) -> None:
        """Carry out what a child says."""
        match frame:
            case ("ready", str(peer), tuple()):
                self._is_ready(link, PeerId(peer), cast("tuple[str, ...]", frame[2]))
            case ("failed", str(code), str(message)):
                self.child_failed(BY_CODE.get(code, NetworkFailed)(message))
            case ("connected", str(peer), str(address), bool(outgoing)):
                self._connected(PeerId(peer), address, outgoing=outgoing)
            case ("lost", str(peer)):
                self._lost(PeerId(peer))
            case ("circuits", tuple()):
                self._circuits = cast("tuple[str, ...]", frame[1])
                logger.info("reachable through relays", addresses=self._circuits)
                self._handlers.addresses_changed()
            case ("rtt", str(peer), int(micros)):
                self._learn(PeerId(peer), rtt_ms=micros / 1000)
            case ("identified", str(peer), str(software), tuple(), str(observed)):
                protocols = cast("tuple[str, ...]", frame[3])
                self._learn(PeerId(peer), software=software, protocols=protocols, observed=observed)
            case ("gossip", str(topic), str(author), str(forwarder), bytes(data)):
                self._handlers.gossip(topic, PeerId(author), PeerId(forwarder), data)
            case ("ask", int(ask), str(peer), str(protocol), bytes(payload)):
                self._ask(link, ask, PeerId(peer), protocol, payload)
            case ("done", int(call), str(code), str(message), bytes(payload)):
                self._done(call, code, message, payload)
            case ("log", str(level), str(event), tuple()):
                _log(level, event, cast("tuple[object, ...]", frame[3]))
            case _:
                logger.error("the network child says what only the node may", frame=frame[0])

    # -- inside

    def _is_ready(self, link: Link, peer: PeerId, addresses: tuple[str, ...]) -> None:
        self._link = link
        self._peer_id = peer
        self._addresses = addresses
        # A port that the system chose is kept, so that peers find a restarted child.
        if any(address.endswith("/tcp/0") for address in self._listen):
            self._listen = tuple(address.split("/p2p/")[0] for address in addresses)
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        logger.info("network is up", peer=peer, addresses=addresses)

    def _connected(self, peer: PeerId, address: str, *, outgoing: bool) -> None:
        since_s = int(time.time())  # noqa: TID251 - an edge; for people to read
        if peer in self._peers:
            # Through a relay until now. What it is charged to as a neighbour does not change.
            self._peers[peer] = replace(self._peers[peer], address=address)
            logger.info("peer is connected directly now", peer=peer, address=address)
            return
        direction: Literal["in", "out"] = "out" if outgoing else "in"
        self._peers[peer] = ConnectedPeer(peer, address, direction, since_s)
        logger.info("peer connected", peer=peer, address=address, direction=direction)
        self._handlers.peer_connected(peer, address)

    def _learn(self, peer: PeerId, **news: Any) -> None:
        known = self._peers.get(peer)
        if known is not None:
            self._peers[peer] = replace(known, **news)

    def _lost(self, peer: PeerId) -> None:
        if self._peers.pop(peer, None) is not None:
            logger.info("peer lost", peer=peer)
            self._handlers.peer_lost(peer)

    def _send(self, kind: str, *fields: Value) -> None:
        if self._link is None:
            raise PeerUnreachable("the network child is away; it is back in about 2 s")
        self._link.send(wire.pack(kind, *fields))

    async def _call(self, kind: str, *fields: Value, timeout_s: float) -> bytes:
        if len(self._calls) >= CALL_COUNT_MAX:
            raise NetworkBusy(f"{CALL_COUNT_MAX} calls wait for the network; try again later")
        call = next(self._call_ids)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[call] = future
        try:
            self._send(kind, call, *fields)
            # Not wait_for: before Python 3.12 it swallows a cancel that comes with the result.
            async with asyncio.timeout(timeout_s):
                return await future
        except BaseException as error:
            if not isinstance(error, HansaError) and self._link is not None:
                self._link.send(wire.pack("cancel", call))
            if isinstance(error, TimeoutError):
                raise PeerUnreachable(f"no answer to a {kind} within {timeout_s:.0f} s") from error
            raise
        finally:
            self._calls.pop(call, None)

    def _done(self, call: int, code: str, message: str, payload: bytes) -> None:
        future = self._calls.get(call)
        if future is None or future.done():
            return
        if code:
            future.set_exception(BY_CODE.get(code, NetworkFailed)(message))
        else:
            future.set_result(payload)

    def _ask(self, link: Link, ask: int, peer: PeerId, protocol: str, payload: bytes) -> None:
        if len(self._asks) >= ASK_COUNT_MAX:
            link.send(wire.pack("answer", ask, False, b""))
            return
        task = asyncio.create_task(self._answer(link, ask, peer, protocol, payload))
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)

    async def _answer(
        self, link: Link, ask: int, peer: PeerId, protocol: str, payload: bytes
    ) -> None:
        try:
            answer = await asyncio.wait_for(
                self._handlers.answer(peer, protocol, payload), ANSWER_TIMEOUT_S
            )
        except (HansaError, TimeoutError) as error:
            logger.info("request refused", peer=short(peer), protocol=protocol, reason=str(error))
            link.send(wire.pack("answer", ask, False, b""))
            return
        except Exception:
            logger.exception("answering a peer failed", peer=peer, protocol=protocol)
            link.send(wire.pack("answer", ask, False, b""))
            return
        assert len(answer) <= REQUEST_BYTES_MAX, f"an answer of {len(answer)} bytes on {protocol}"
        link.send(wire.pack("answer", ask, True, answer))


def relay_numbers(limits: RelayLimits) -> tuple[int, ...]:
    """Return what the operator sets of a relay; the rest is the same everywhere."""
    return limits.reservation_count_max, limits.circuit_count_max, limits.bytes_s


def _log(level: str, event: str, details: tuple[object, ...]) -> None:
    """Log what the child reports, as `name, value` pairs."""
    pairs = {str(k): v for k, v in zip(details[::2], details[1::2], strict=False)}
    say = logger.warning if level == "warning" else logger.info
    say(event[:200], **{f"child_{k}" if k == "event" else k: v for k, v in pairs.items()})
