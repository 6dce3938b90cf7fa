# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (py-libp2p's signatures are partly untyped)
"""Everything that makes py-libp2p 0.8.1 safe to show to strangers, in one place.

Each guard names the fault it answers, seen in 0.8.1. After an upgrade: run
tests/node/network/test_guards.py with the guard taken out, and drop those that are not needed.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version as distribution_version
from typing import Any

import libp2p.host.basic_host as basic_host
import libp2p.identity.identify.identify as identify
import libp2p.protocol_muxer.multiselect_communicator as multistream
import libp2p.stream_muxer.muxer_multistream as muxer_choice
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ParseError
from libp2p.identity.update import update_peerstore_from_identify
from libp2p.io.exceptions import MessageTooLarge
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.pubsub.pubsub import Pubsub, ValidationCache
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, YAMUX_HEADER_FORMAT, Yamux
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.utils.varint import read_varint_prefixed_bytes_limited
from multiaddr.multiaddr import Multiaddr

from node.network.doors import Doors, Place
from node.network.economy import ThriftyGossipSub, economise
from node.network.layers import circuit_of, reset, socket_of
from node.network.settings import NEWCOMER_COUNT_MAX

MESH_PROTOCOLS = ("/meshsub/1.2.0", "/meshsub/1.1.0", "/meshsub/1.0.0")
RPC_BYTES_MAX = 1024 * 1024
"""One pubsub RPC. gossipsub's own limit; larger ones vanish silently, so it stays."""
GOSSIP_BYTES_MAX = 64 * 1024
MULTISTREAM_BYTES_MAX = 1024
"""One line of protocol negotiation: the longest id of ours has 40 characters."""
STREAM_COUNT_MAX = 256
"""Streams of one connection. The library blocks its own opens at 256, and nobody else's."""
CONNECTION_BUFFER_BYTES_MAX = 8 * 1024 * 1024
"""Bytes that one connection may have unread: eight answers of 1 MiB."""
UPGRADE_TIMEOUT_S = 4.0
"""From accept to multiplexed. 10 s by default, in which a slow-loris holds its slot."""
HANDLER_TIMEOUT_S = 60.0
"""One identify or ping. Gossip and our own protocols keep streams, with their own limits."""
CLOSE_TIMEOUT_S = 2.0

Penalty = Callable[[ID, int, str], None]
"""Told of each misdeed: who, how bad (100 is a ban), what."""


def make_host(seed: bytes, peer_count_max: int, doors: Doors) -> Any:
    """Return a host with every guard that concerns connections and streams."""
    bound_negotiation()
    economise()
    # So that a peer's operator sees what is run here, and not the library's name alone.
    identify.AGENT_VERSION = f"hansa/{distribution_version('hansa')}"
    # Fault: whatever class `muxer_opt` names, the library makes its own Yamux.
    muxer_choice.Yamux = BoundedYamux  # type: ignore[attr-defined]
    key_pair = create_new_key_pair(seed)
    host: Any = new_host(
        key_pair=key_pair,
        # Fault: by default plaintext and secio are accepted, so identity proves nothing.
        sec_opt={NOISE: NoiseTransport(key_pair, noise_privkey=create_noise_pair().private_key)},
        # Fault: mplex is offered; it has no flow control, and is eight times slower.
        muxer_opt={TProtocol(YAMUX): BoundedYamux},
        connection_config=make_connection_config(peer_count_max),
    )
    admit_inbound(host, doors)  # before the next: its handlers stay until the peer goes
    free_inbound_slots(host)
    forget_failed_dials(host)
    dial_nobody_unasked(host)
    contain_handlers(host)
    return host


def make_connection_config(peer_count_max: int) -> ConnectionConfig:
    """Return limits for connections."""
    count = peer_count_max + NEWCOMER_COUNT_MAX
    return ConnectionConfig(
        min_connections=0,
        low_watermark=0,
        high_watermark=count,
        max_connections=count,
        max_connections_per_peer=2,  # two nodes that dial each other at once
        inbound_upgrade_timeout=UPGRADE_TIMEOUT_S,
    )


def make_router() -> ThriftyGossipSub:
    """Return a gossipsub router whose extras are off.

    Faults: the heartbeat is 120 s; adaptive mode makes 1 s into 30 s; spam protection drops
    above 10 messages a second, our own included; eclipse protection is as untested; peer scoring
    has P4's sign inverted. Limits and scores are ours (`standing.py`).
    """
    return ThriftyGossipSub(
        protocols=[TProtocol(name) for name in MESH_PROTOCOLS],
        degree=6,
        degree_low=4,
        degree_high=12,
        gossip_window=3,
        gossip_history=5,
        heartbeat_initial_delay=0.1,
        heartbeat_interval=1,
        adaptive_gossip_enabled=False,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
    )


def make_pubsub(
    host: Any,
    topics: set[str],
    *,
    penalise: Penalty,
    within_rate: Callable[[ID], bool],
    deliver: Callable[[ID, Any], None],
) -> Any:
    """Return a pubsub service that outlives what peers send it, and delivers at once."""
    pubsub = GuardedPubsub(
        host,
        make_router(),
        strict_signing=True,
        max_inbound_rpc_size=RPC_BYTES_MAX,
        allowed_topics=topics,
    )
    pubsub.penalise = penalise
    pubsub.within_rate = within_rate
    pubsub.deliver = deliver
    pubsub.forwarders = {}
    pubsub.validation_cache = _NoVerdicts()
    # Fault: numbers start from the clock in seconds, so those of a quickly restarted node repeat
    # and its messages are taken for seen.
    pubsub.counter = time.time_ns()  # noqa: TID251 - an edge; must only grow over restarts
    return pubsub


class GuardedPubsub(Pubsub):
    """Pubsub in which a peer's bytes end the peer's stream and never the service.

    Faults: one invalid protobuf, one message with a garbage key, or a validator that raises ends
    the host; nothing limits what one neighbour forwards; the queue to a subscriber has 32 slots
    and drops silently; a verdict is kept for 300 s under author and number alone, so after the
    120 s for which a message counts as seen other bytes under the same number pass unjudged.
    """

    penalise: Penalty
    within_rate: Callable[[ID], bool]
    deliver: Callable[[ID, Any], None]
    forwarders: dict[int, ID]

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> None:
        """Pass one message on, or drop it and count it against who forwarded it."""
        if msg_forwarder != self.my_id:
            if not self.within_rate(msg_forwarder):
                self.penalise(msg_forwarder, 1, "forwards too many messages")
                return
            if len(msg.topicIDs) != 1 or len(msg.data) > GOSSIP_BYTES_MAX:
                self.penalise(msg_forwarder, 20, "forwards a message out of bounds")
                return
        self.forwarders[id(msg)] = msg_forwarder
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:
            self.penalise(msg_forwarder, 20, f"forwards a broken message: {type(error).__name__}")
        finally:
            del self.forwarders[id(msg)]

    def renew(self, peer: ID) -> None:
        """Gossip to a peer on a new stream: the old one was on a connection that has ended."""
        self._handle_dead_peer(peer)

    def _forget_all_subscriptions(self, peer_id: ID) -> None:
        """Forget what a peer has subscribed to, but not while it is connected.

        Fault: a peer says it once on a stream of its own. When ours to it breaks, because one of
        two connections ended, it is forgotten, and nothing is gossiped to that peer ever after.
        """
        if not self._peer_is_connected(peer_id):
            super()._forget_all_subscriptions(peer_id)

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Deliver a message that was judged, from whoever forwarded it."""
        self.deliver(self.forwarders[id(publish_message)], publish_message)

    async def stream_handler(self, stream: Any) -> None:
        """Read a neighbour's stream to its end, whatever that is."""
        peer = stream.muxed_conn.peer_id
        try:
            await super().stream_handler(stream)
        except Exception as error:
            self.penalise(peer, 50, f"sends broken gossip: {type(error).__name__}")
            await reset(stream)
            self._handle_dead_peer(peer)


class _NoVerdicts(ValidationCache):
    """Keeps no verdict: see `GuardedPubsub`."""

    def put(self, msg_id: bytes, result: Any) -> None:
        """Forget it."""


def contain_handlers(host: Any) -> None:
    """Let no stream handler end the host, nor run for ever.

    Fault: an exception that escapes any stream handler, negotiation included, ends the host.
    """
    network = host.get_network()
    inner: Callable[[Any], Awaitable[None]] = network.common_stream_handler

    async def contained(stream: Any) -> None:
        try:
            await inner(stream)
        except Exception:
            await reset(stream)

    network.set_stream_handler(contained)


def timed(handler: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """Return a stream handler that is cut off after `HANDLER_TIMEOUT_S`."""

    async def limited(stream: Any) -> None:
        with trio.move_on_after(HANDLER_TIMEOUT_S) as scope:
            await handler(stream)
        if scope.cancelled_caught:
            await reset(stream)

    return limited


class _ConnectionEnded(Exception):
    """Ends the library's inbound handler; it is caught and its slot given back."""


def free_inbound_slots(host: Any) -> None:
    """Give an inbound connection's slot back when it closes.

    Fault: the handler of an inbound connection waits for the end of the swarm, so every past
    connection keeps its slot, and after 250 in a lifetime all new peers are refused.
    """
    swarm = host.get_network()
    upgrade = swarm.upgrade_inbound_raw_conn

    async def upgrade_and_wait(raw_conn: Any, address: Any) -> Any:
        muxed = await upgrade(raw_conn, address)
        await muxed.event_closed.wait()
        raise _ConnectionEnded

    swarm.upgrade_inbound_raw_conn = upgrade_and_wait


def admit_inbound(host: Any, doors: Doors) -> None:
    """Let the node judge an inbound connection by its address, before any handshake.

    Faults: a stranger that connects and says nothing holds a slot until its handshake times out,
    and whoever comes meanwhile is refused: 80 sockets, opened anew each 4 s, keep all peers out.
    And the library's own gate knows lists and no counts, and asks it about names too.
    """
    swarm = host.get_network()
    handle, upgrade = swarm._handle_inbound_connection, swarm.upgrade_inbound_raw_conn
    inside: dict[Place, tuple[Any, trio.Event]] = {}
    place_of: dict[trio.lowlevel.Task, Place] = {}

    async def enter(remote: tuple[str, int]) -> Place | None:
        place = doors.enter(*remote)
        while place is None and (newcomer := doors.who_makes_room(*remote)) is not None:
            conn, gone = inside[newcomer]
            # Not by cancelling: then the library never gives back what it counts of it.
            await trio.aclose_forcefully(conn.stream)
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                await gone.wait()
            place = doors.enter(*remote)
        return place

    async def handle_if_admitted(conn: Any, address: Any) -> None:
        remote = conn.get_remote_address()
        place = None if remote is None else await enter((str(remote[0]), int(remote[1])))
        if place is None:
            await conn.close()
            return
        task, gone = trio.lowlevel.current_task(), trio.Event()
        inside[place], place_of[task] = (conn, gone), place
        try:
            await handle(conn, address)
        finally:
            del inside[place], place_of[task]
            doors.leave(place)
            gone.set()

    async def upgrade_and_stay(raw_conn: Any, address: Any) -> Any:
        muxed = await upgrade(raw_conn, address)
        if (place := place_of.get(trio.lowlevel.current_task())) is not None:
            doors.stay(place)
        return muxed

    swarm._handle_inbound_connection = handle_if_admitted
    swarm.upgrade_inbound_raw_conn = upgrade_and_stay


def forget_failed_dials(host: Any) -> None:
    """Let a peer be dialled again as soon as we like.

    Fault: a peer whose addresses failed once is refused for 60 s without being tried, so a
    restarted neighbour stays lost for a minute. When to dial again is our own loop's decision.
    """

    def forget(_peer: str) -> None:
        return

    host.get_network()._negative_peer_cache.mark_failed = forget


def dial_nobody_unasked(host: Any) -> None:
    """Leave the choice of whom to dial to us.

    Faults: every 30 s, and after every lost connection, the library dials peers that it has heard
    of. Lower marks of zero do not stop it: it aims at the middle of the marks. And a stream to a
    peer that is not connected dials it, so that a retry of gossip, identify or a ping fetches back
    whom we have just dropped or banned.
    """
    network = host.get_network()
    open_stream: Callable[[ID], Awaitable[Any]] = network.new_stream

    async def dial_nobody() -> None:
        return

    async def open_connected(peer: ID) -> Any:
        if not network.get_connections(peer):
            raise SwarmException(f"peer {peer} is not connected")
        return await open_stream(peer)

    network.auto_connector.maybe_connect = dial_nobody
    network.new_stream = open_connected


def hear_identify(host: Any, tell: Callable[[ID, str, list[str], str], None]) -> None:
    """Have `tell` called with what a peer answers to identify: agent, protocols, observed address.

    The library asks every peer once, keeps what it likes, and lets nobody hear of the rest. Who
    listens is kept with the host's own peerstore, because the function is one for all hosts.
    """
    host.get_peerstore().heard = tell


async def _update_and_tell(peerstore: Any, peer: ID, said: Any) -> None:
    await update_peerstore_from_identify(peerstore, peer, said)
    if (tell := getattr(peerstore, "heard", None)) is not None:
        observed = ""
        with suppress(Exception):  # multiaddr raises a dozen kinds
            observed = str(Multiaddr(bytes(said.observed_addr)))
        tell(peer, str(said.agent_version), [str(one) for one in said.protocols], observed)


basic_host.update_peerstore_from_identify = _update_and_tell  # type: ignore[assignment,attr-defined]  # pyright: ignore[reportPrivateImportUsage]


class _BoundedStreams(dict[int, Any]):
    """A connection's streams; one too many closes the connection."""

    def __setitem__(self, stream_id: int, stream: Any) -> None:
        if len(self) >= STREAM_COUNT_MAX and stream_id not in self:
            raise RawConnError(f"more than {STREAM_COUNT_MAX} streams")
        super().__setitem__(stream_id, stream)


class BoundedYamux(Yamux):
    """Yamux that closes a connection whose peer ignores flow control.

    Fault: a peer that overruns its window is only logged (+186 MB in 0.9 s), and the number of
    streams it opens is not limited.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.streams = _BoundedStreams()

    async def ping(self) -> None:
        """Send a ping frame and return when one is answered; the caller limits how long.

        Not a stream of the ping protocol: opening one is eight frames and two negotiations. Nothing
        ties an answer to its question, so it shows that the peer lives and not how far away it is.
        """
        self._ping_id = (self._ping_id + 1) % 2**32
        self._ping_event = trio.Event()
        self._ping_sent_time = trio.current_time()
        frame = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id)
        await self._write_frame(frame)
        await self._ping_event.wait()

    async def _measure_rtt_loop(self) -> None:
        """Leave it to `ping`: each would take the other's answer for its own."""

    async def _read_data_body(self, length: int) -> bytes:
        unread = sum(map(len, self.stream_buffers.values()))
        if unread + length > CONNECTION_BUFFER_BYTES_MAX:
            # Not by raising alone: for a plain data frame the library then goes on in mid-frame.
            await self._cleanup_on_error()
            raise RawConnError(f"{unread} bytes unread and {length} more sent")
        return await super()._read_data_body(length)


def bound_negotiation() -> None:
    """Bound what protocol negotiation reads.

    Fault: a stranger announces a line of any length before any handshake, and it is collected in
    memory (+50 MB measured); one that is not UTF-8 raises where nobody expects it.
    """

    async def read_line(reader: Any) -> bytes:
        try:
            raw = await read_varint_prefixed_bytes_limited(reader, MULTISTREAM_BYTES_MAX)
        except MessageTooLarge as error:
            raise ParseError(str(error)) from error
        if raw[-1:] != b"\n":
            raise ParseError("a line of negotiation without its end")
        if not raw.isascii():
            raise ParseError("a line of negotiation that is not ASCII")
        return raw[:-1]

    multistream.read_delim = read_line  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateImportUsage]


async def close_sockets(host: Any, peer: ID) -> None:
    """Close a peer's connections from the socket up.

    Fault: the library's close writes first, shielded, so against a peer that is stopped or
    unplugged it never ends and no timeout fires. A closed socket ends all of it.
    """
    connections = list(host.get_network().get_connections(peer))
    for connection in connections:
        raw = socket_of(connection)
        if raw is not None:
            await trio.aclose_forcefully(raw)
        elif (circuit := circuit_of(connection.muxed_conn)) is not None:
            await circuit.close()  # and not the relay's socket under it
    for connection in connections:
        # A closed socket under it is an error to it.
        with trio.move_on_after(CLOSE_TIMEOUT_S), suppress(Exception):
            await connection.close()
