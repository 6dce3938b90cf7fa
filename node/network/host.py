# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (py-libp2p's signatures are partly untyped)
"""The guarded libp2p host, on trio: gossip, requests, dialling, liveness and bans."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING
from libp2p.host.ping import handle_ping
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.tools.anyio_service import background_trio_service
from multiaddr.multiaddr import Multiaddr

from crdt import HansaError, Verdict
from node.network.access_rules import AccessRules
from node.network.addresses import RELAYED, group_of, host_and_port, parse_address
from node.network.doors import Doors
from node.network.errors import BadAddress, NetworkBusy, PeerUnreachable, PortInUse
from node.network.guards import (
    close_sockets,
    hear_identify,
    make_host,
    make_pubsub,
    timed,
)
from node.network.identified import identified
from node.network.layers import is_relayed
from node.network.links import Links, remote_address
from node.network.punching import DCUTR, Puncher
from node.network.relay import HOP, STOP, Relay
from node.network.relayed import Relayed
from node.network.rpc import Requester, Responder, read_exactly
from node.network.settings import HostNode, NetworkSettings
from node.network.standing import Standing, TokenBucket
from node.network.validation import make_validators

PUBLISH_QUEUE_MAX = 64
"""Frames that wait in a topic: three seconds of pace."""
PUBLISH_RATE_S = 20
PUBLISH_BURST = 12
"""Of the 32 slots of the library's send queue, which drops silently what does not fit."""
DIAL_TIMEOUT_S = 15.0
PROBE_TIMEOUT_S = 5.0
DIAL_WAITS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Between attempts at a bootstrap peer. The first two make a restarted one found in 1.5 s."""
LEAVE_RELAY_S = 10.0
"""The other end closes a relayed connection when both are connected directly."""
PING_FAILURES_MAX = 2
FAR_PING_EVERY = 10
"""Every so many pings is one of the ping protocol, whose answer cannot be given before it is asked
for: it tells how far away a peer is. The others are ping frames, a tenth of the work."""
PEERSTORE_CLEANUP_S = 60


class GuardedHost:
    """One libp2p host and what this project wants of it."""

    def __init__(self, settings: NetworkSettings, node: HostNode, bans_s: dict[str, float]) -> None:
        self._settings = settings
        self._node = node
        self._standing = Standing(
            gossip_rate_s=settings.gossip_rate_s, request_rate_s=settings.request_rate_s
        )
        for peer, seconds in bans_s.items():
            self._standing.ban(peer, trio.current_time() + seconds)
        self._rules = AccessRules.parse(settings.allow, settings.deny)
        doors = Doors(
            self._rules,
            count_max=settings.inbound_count_max,
            group_count_max=settings.inbound_group_count_max,
        )
        self._host: Any = make_host(settings.node_seed, settings.peer_count_max, doors)
        hear_identify(self._host, self._identified)
        self._topics = make_validators(settings)
        self._pubsub: Any = make_pubsub(
            self._host,
            set(self._topics),
            penalise=self._penalise,
            within_rate=self._may_gossip,
            deliver=self._deliver,
        )
        self._requester = Requester(self._host)
        self._queues: dict[str, trio.MemorySendChannel[bytes]] = {}
        self._relay = self._make_relay()
        self._relayed = Relayed(
            self._host,
            doors,
            self._rules,
            penalise=self._penalise,
            where=self._dialled_at,
            candidates=self._dialled_peers,
            changed=node.circuits,
            called=lambda peer: self._soon(self._puncher.start, peer),
        )
        self._puncher = Puncher(
            self._host,
            doors,
            may=self._rules.may_stay,
            penalise=self._penalise,
            log=node.log,
            soon=self._soon,
        )
        self._known: dict[ID, bool] = {}
        """Whom the node was told of, and whether as one behind a relay."""
        self._failed_pings: dict[ID, int] = {}
        self._pinging: set[ID] = set()
        self._ping_counts: dict[ID, int] = {}
        self._closing: set[ID] = set()
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Listen, gossip, dial and ping inside the block.

        Raises:
            PortInUse: it cannot listen.
        """
        network = self._host.get_network()
        network.register_notifee(Links(self._link_changed))
        self._host.set_stream_handler(TProtocol(PING), timed(handle_ping))
        for protocol in self._settings.protocols:
            responder = Responder(
                protocol, self._answer, may_request=self._may_request, penalise=self._penalise
            )
            self._host.set_stream_handler(TProtocol(protocol), responder.serve)
        if self._relay is not None:
            self._host.set_stream_handler(HOP, self._relay.serve)
        if self._settings.reserve:
            self._host.set_stream_handler(STOP, self._relayed.serve)
            self._host.set_stream_handler(DCUTR, self._puncher.serve)
        addresses = [Multiaddr(address) for address in self._settings.listen]
        router = self._pubsub.router
        async with (
            self._host.run(listen_addrs=addresses),
            background_trio_service(self._pubsub),
            background_trio_service(router),
            trio.open_nursery() as nursery,
        ):
            self._nursery = nursery
            missing = [a for a in self._settings.listen if a not in network.listeners]
            if missing:
                raise PortInUse(f"cannot listen on {', '.join(missing)}; set p2p.listen")
            await self._pubsub.wait_until_ready()
            await self._start_tasks(nursery)
            self._node.ready(str(self._host.get_id()), [str(a) for a in self._host.get_addrs()])
            yield
            self._nursery = None
            nursery.cancel_scope.cancel()

    # -- what the node asks for

    def enqueue(self, topic: str, data: bytes) -> HansaError | None:
        """Queue a gossip frame; what went wrong, or None."""
        queue = self._queues.get(topic)
        if queue is None:
            return BadAddress(f"there is no topic {topic!r}")
        try:
            queue.send_nowait(data)
        except trio.WouldBlock:
            return NetworkBusy(
                f"{PUBLISH_QUEUE_MAX} frames wait on {topic}; catch-up carries the rest"
            )
        return None

    async def request(self, peer: str, protocol: str, payload: bytes, answer_max: int) -> bytes:
        """Return a peer's answer; see `Requester.request`."""
        return await self._requester.request(_peer_id(peer), protocol, payload, answer_max)

    async def dial(self, address: str) -> None:
        """Connect to a peer.

        Raises:
            BadAddress, PeerUnreachable: as they say.
        """
        if f"/{RELAYED}/" in address:
            await self._dial_through_relay(address)
            return
        info = _info(address)
        if info.peer_id == self._host.get_id():
            raise BadAddress(f"{address} is this node itself")
        self._require_wanted(info.peer_id, host_and_port(address)[0])
        if not self._host.get_network().get_connections(info.peer_id):
            # What it was told or tried before is the node's business: this address, and no other.
            self._host.get_peerstore().clear_addrs(info.peer_id)
        try:
            with trio.fail_after(DIAL_TIMEOUT_S):
                await self._host.connect(info)
        except Exception as error:  # the library raises a dozen kinds
            raise PeerUnreachable(
                f"nobody with that identity answers at {address} ({_cause(error)})"
            ) from error

    async def probe(self, address: str) -> None:
        """Connect anew as far as the handshake that proves who is there, and hang up.

        Raises:
            BadAddress, PeerUnreachable: as they say.
        """
        info = _info(address)
        upgrader = self._host.get_network().upgrader
        try:
            with trio.fail_after(PROBE_TIMEOUT_S):
                stream = await trio.open_tcp_stream(*host_and_port(address))
                try:
                    raw = RawConnection(TrioTCPStream(stream), True)
                    await upgrader.upgrade_security(raw, True, info.peer_id)
                finally:
                    await trio.aclose_forcefully(stream)
        except Exception as error:  # the library raises a dozen kinds
            raise PeerUnreachable(
                f"nobody with that identity answers at {address} ({_cause(error)})"
            ) from error

    async def _dial_through_relay(self, address: str) -> None:
        """Connect to a peer behind a relay, and to the relay before that."""
        try:
            there = parse_address(address)
        except HansaError as error:
            raise BadAddress(str(error)) from error
        assert there.relay is not None
        peer, relay = _peer_id(there.peer), _peer_id(there.relay)
        if self._host.get_id() in (peer, relay):
            raise BadAddress(f"{address} leads through this node itself")
        self._require_wanted(peer, RELAYED)
        at = f"/{there.kind}/{there.host}/tcp/{there.port}"
        network = self._host.get_network()
        if network.get_connections(peer):
            return
        if not network.get_connections(relay):
            await self.dial(f"{at}/p2p/{relay}")
        try:
            with trio.fail_after(DIAL_TIMEOUT_S):
                await self._relayed.call(relay, at, peer)
        except HansaError:
            raise
        except Exception as error:  # the library raises a dozen kinds
            raise PeerUnreachable(
                f"nobody with that identity answers at {address} ({_cause(error)})"
            ) from error

    def _require_wanted(self, peer: ID, host: str) -> None:
        if self._standing.is_banned(str(peer), trio.current_time()):
            raise PeerUnreachable(f"peer {peer} is banned here for now")
        if not self._rules.may_stay(str(peer), host):
            raise PeerUnreachable(f"peer {peer} is not dialled: p2p.allow or p2p.deny keeps it out")

    async def drop(self, peer: str, reason: str, ban_s: float) -> None:
        """Close the connections to a peer; with `ban_s`, keep it out so long."""
        try:
            ident = _peer_id(peer)
        except BadAddress:
            return
        if ban_s > 0:
            self._standing.ban(peer, trio.current_time() + ban_s)
        self._node.log("info", "peer closed", "peer", peer, "reason", reason)
        await self._close(ident)

    # -- tasks

    async def _start_tasks(self, nursery: trio.Nursery) -> None:
        for topic, validator in self._topics.items():
            self._pubsub.set_topic_validator(topic, self._validator(validator), False)
            await self._pubsub.subscribe(topic)
            queue, frames = trio.open_memory_channel[bytes](PUBLISH_QUEUE_MAX)
            self._queues[topic] = queue
            nursery.start_soon(self._publish, topic, frames)
        for address in self._settings.bootstrap:
            nursery.start_soon(self._stay_connected, address)
        nursery.start_soon(self._keep_alive, nursery)
        if self._settings.reserve:
            nursery.start_soon(self._relayed.keep_reserved)
        nursery.start_soon(self._host.get_peerstore().start_cleanup_task, PEERSTORE_CLEANUP_S)

    async def _publish(self, topic: str, frames: trio.MemoryReceiveChannel[bytes]) -> None:
        """Publish at a pace: 200 at once deliver 16."""
        pace = TokenBucket(PUBLISH_RATE_S, PUBLISH_BURST)
        async for data in frames:
            await trio.sleep(pace.wait_s(trio.current_time()))
            pace.take(trio.current_time())
            try:
                await self._pubsub.publish(topic, data)
            except Exception as error:  # anti-entropy carries what is not gossiped
                self._node.log("warning", "publish failed", "reason", str(error)[:200])

    async def _stay_connected(self, address: str) -> None:
        """Dial a bootstrap peer for ever: the library forgets one that is down at start."""
        try:
            peer = _peer_id(parse_address(address).peer)
        except HansaError as error:
            self._node.log("warning", "bootstrap address ignored", "reason", str(error))
            return
        if peer == self._host.get_id():
            return
        attempt, complained = 0, False
        while True:
            if self._host.get_network().get_connections(peer):
                attempt, complained = 0, False
            else:
                try:
                    await self.dial(address)
                    continue
                except HansaError as error:
                    if attempt and not complained:
                        complained = True
                        self._node.log("warning", "peer unreachable", "reason", str(error))
                attempt += 1
            await trio.sleep(DIAL_WAITS_S[min(attempt, len(DIAL_WAITS_S) - 1)])

    async def _keep_alive(self, nursery: trio.Nursery) -> None:
        """Ping every peer: a stopped or unplugged one is noticed by nothing else."""
        while True:
            await trio.sleep(self._settings.ping_interval_s)
            for peer in self._host.get_connected_peers():
                self._link_changed(peer)
                if peer not in self._pinging:
                    nursery.start_soon(self._ping_with_limit, peer, nursery)
            for peer in list(self._known):
                self._link_changed(peer)

    async def _ping_with_limit(self, peer: ID, nursery: trio.Nursery) -> None:
        """Ping in a task of its own, because a shielded write outlives every time-out."""
        done = trio.Event()
        self._pinging.add(peer)
        nursery.start_soon(self._ping, peer, done)
        with trio.move_on_after(self._settings.ping_timeout_s):
            await done.wait()
        if done.is_set():
            self._failed_pings.pop(peer, None)
        else:
            self._failed_pings[peer] = self._failed_pings.get(peer, 0) + 1
            if self._failed_pings[peer] >= PING_FAILURES_MAX:
                self._failed_pings.pop(peer)
                self._node.log("warning", "peer does not answer pings", "peer", str(peer))
                await self._close(peer)
        self._pinging.discard(peer)

    async def _ping(self, peer: ID, done: trio.Event) -> None:
        count = self._ping_counts.get(peer, 0)
        if peer in self._known:
            self._ping_counts[peer] = count + 1
        if count % FAR_PING_EVERY == 0:
            await self._ping_on_stream(peer, done)
            return
        connections = self._host.get_network().get_connections(peer)
        with trio.move_on_after(self._settings.ping_timeout_s), suppress(Exception):
            await connections[0].muxed_conn.ping()
            done.set()

    async def _ping_on_stream(self, peer: ID, done: trio.Event) -> None:
        nonce = secrets.token_bytes(32)
        try:
            stream = await self._host.new_stream(peer, [PING])
            started = time.monotonic()
            await stream.write(nonce)
            if await read_exactly(stream, len(nonce)) == nonce:
                done.set()
                self._node.rtt(str(peer), time.monotonic() - started)
            await stream.close()
        except Exception:  # what matters is that `done` is not set
            return

    # -- what peers do

    async def _close(self, peer: ID) -> None:
        """Close a peer's connections; it is lost from now on, however long that takes."""
        if peer in self._closing:
            return
        self._closing.add(peer)
        self._tell_lost(peer)
        try:
            await close_sockets(self._host, peer)
        finally:
            self._closing.discard(peer)
        self._link_changed(peer)

    def _tell_lost(self, peer: ID) -> None:
        if peer in self._known:
            del self._known[peer]
            self._failed_pings.pop(peer, None)
            self._ping_counts.pop(peer, None)
            self._requester.forget(peer)
            self._node.lost(str(peer))

    def _link_changed(self, peer: ID) -> None:
        """Compare what is connected with what the node was told, and tell the difference."""
        if peer in self._closing:  # a connection may look alive until it is closed
            return
        connections = self._host.get_network().get_connections(peer)
        # A direct one says more: where the peer is, and that it is reached without help.
        connections = sorted(connections, key=lambda one: is_relayed(one.muxed_conn))
        moved = bool(self._known.get(peer) and connections) and not is_relayed(
            connections[0].muxed_conn
        )
        if moved:
            self._requester.forget(peer)  # its streams go through the relay
            self._soon(self._leave_relay, peer)
        if connections and (moved or peer not in self._known):
            if self._standing.is_banned(str(peer), trio.current_time()):
                self._soon(self._close, peer)
                return
            address = remote_address(connections[0])
            if not self._rules.may_stay(str(peer), host_and_port(address)[0]):
                self._soon(self._close, peer)
                return
            muxed = connections[0].muxed_conn
            self._known[peer] = is_relayed(muxed)
            self._node.connected(
                str(peer), address, outgoing=bool(getattr(muxed, "is_initiator_value", False))
            )
        elif not connections:
            self._tell_lost(peer)
            if self._relay is not None:
                self._relay.lost(peer)
        self._relayed.look()

    async def _leave_relay(self, peer: ID) -> None:
        """Gossip to a peer directly once its connection through a relay has ended."""
        relayed = [
            one.muxed_conn
            for one in self._host.get_network().get_connections(peer)
            if is_relayed(one.muxed_conn)
        ]
        for muxed in relayed:
            with trio.move_on_after(LEAVE_RELAY_S):
                await muxed.event_closed.wait()
        self._pubsub.renew(peer)

    def _make_relay(self) -> Relay | None:
        if self._settings.relay is None:
            return None
        return Relay(
            self._host,
            self._settings.relay,
            penalise=self._penalise,
            group_of_peer=self._group_of,
            unix_s=time.time,  # noqa: TID251 - an edge: a reservation names the time of day
        )

    def _dialled_peers(self) -> list[ID]:
        return [peer for peer in self._known if self._dialled_at(peer)]

    def _dialled_at(self, peer: ID) -> str:
        """Return where a peer listens that this host dialled, and not through a relay."""
        for one in self._host.get_network().get_connections(peer):
            if one.muxed_conn.is_initiator_value and not is_relayed(one.muxed_conn):
                return remote_address(one)
        return ""

    def _group_of(self, peer: ID) -> str:
        addresses = map(remote_address, self._host.get_network().get_connections(peer))
        return min((group_of(*host_and_port(one)) for one in addresses), default="")

    def _identified(self, peer: ID, agent: str, protocols: list[str], observed: str) -> None:
        if peer in self._known or self._host.get_network().get_connections(peer):
            self._link_changed(peer)  # so that the node hears of the peer first
            said = identified(agent, protocols, observed, prefix=self._settings.prefix)
            self._node.identified(str(peer), said)

    def _deliver(self, forwarder: ID, message: Any) -> None:
        author = ID(message.from_id)
        if author != self._host.get_id():
            self._node.gossip(message.topicIDs[0], str(author), str(forwarder), bytes(message.data))

    async def _answer(self, peer: ID, protocol: str, payload: bytes) -> bytes | None:
        return await self._node.ask(str(peer), protocol, payload)

    def _may_request(self, peer: ID) -> bool:
        return self._standing.may_request(str(peer), trio.current_time())

    def _may_gossip(self, peer: ID) -> bool:
        return self._standing.may_gossip(str(peer), trio.current_time())

    def _penalise(self, peer: ID, points: int, why: str) -> None:
        if self._standing.penalise(str(peer), points, trio.current_time()):
            self._node.log("warning", "peer banned", "peer", str(peer), "reason", why)
            self._soon(self._close, peer)

    def _validator(self, judge: Callable[[bytes], Verdict]) -> Callable[[ID, Any], bool]:
        """Return a synchronous validator: slow asynchronous ones deliver duplicates."""

        def validate(forwarder: ID, message: Any) -> bool:
            verdict = judge(bytes(message.data))
            if verdict is Verdict.REJECT and forwarder != self._host.get_id():
                self._penalise(forwarder, 10, "forwards an invalid frame")
            return verdict is Verdict.ACCEPT

        return validate

    def _soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(function, *arguments)


def _info(address: str) -> Any:
    try:
        return info_from_p2p_addr(Multiaddr(address))
    except Exception as error:  # multiaddr raises a dozen kinds
        raise BadAddress(
            f"{address[:120]!r} is not an address like /ip4/HOST/tcp/PORT/p2p/PEER"
        ) from error


def _peer_id(text: str) -> ID:
    try:
        return ID.from_string(text)
    except Exception as error:  # base58 raises several kinds
        raise BadAddress(f"{text[:80]!r} is not a peer id") from error


def _cause(error: BaseException) -> str:
    """Return the last cause of a library error, which says what happened."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error)[:160]}"
