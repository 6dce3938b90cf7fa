# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportCallIssue=false
# (py-libp2p's signatures are partly untyped, and trio's read in part)
"""Being reached through a relay, and reaching others through one: circuit relay v2's client side.

What runs through a relay is Noise and Yamux between the two ends, as on a socket: the relay sees
how much and when, and can only end it. Not the library's transport, for it accepts a call from
whoever likes to be a relay, and says the wrong relay of it (0.8.1).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from node.network.access_rules import AccessRules
from node.network.addresses import RELAYED, relayed_address
from node.network.doors import Doors
from node.network.errors import PeerUnreachable
from node.network.layers import is_relayed, relayed_connection, reset
from node.network.relay import (
    HOP,
    SIGNAL_TIMEOUT_S,
    Penalise,
    read_message,
    read_to_end,
    write_message,
)

RESERVED_COUNT = 2
"""Relays to be reachable through, so that one may go."""
LOOK_S = 5.0
REFUSED_WAIT_S = 60.0
"""Before a peer is asked again that is no relay, or has no room."""
RENEW_BEFORE_S = 300.0
RESERVATION_S_MAX = 86400.0

Where = Callable[[ID], str]
"""Where a directly connected peer listens, as this node dialled it: `/ip4/HOST/tcp/PORT`, or ''."""


class Relayed:
    """What this host has reserved, and its calls through relays, both ways.

    Args:
        where: Says where a peer that this host dialled listens; empty for others.
        candidates: The peers that may be asked to be a relay, those that this host dialled.
        changed: Called with the circuit addresses whenever they are others.
        called: Called with each peer that came through a relay.
    """

    def __init__(
        self,
        host: Any,
        doors: Doors,
        rules: AccessRules,
        *,
        penalise: Penalise,
        where: Where,
        candidates: Callable[[], list[ID]],
        changed: Callable[[list[str]], None],
        called: Callable[[ID], None],
    ) -> None:
        self._host = host
        self._doors = doors
        self._rules = rules
        self._penalise = penalise
        self._where = where
        self._candidates = candidates
        self._changed = changed
        self._called = called
        self._held: dict[ID, tuple[str, float]] = {}
        self._refused: dict[ID, float] = {}
        self._wake = trio.Event()

    def look(self) -> None:
        """Look at the relays again soon: a connection came or went."""
        self._wake.set()

    # -- out

    async def call(self, relay: ID, at: str, callee: ID) -> None:
        """Connect to a peer through a relay that is connected.

        Args:
            at: Where the relay listens.

        Raises:
            PeerUnreachable: the relay does not know the peer, or refuses.
        """
        if not self._is_direct(relay):
            raise PeerUnreachable(f"relay {relay} is not connected directly")
        stream = await self._host.new_stream(relay, [HOP])
        try:
            with trio.fail_after(2 * SIGNAL_TIMEOUT_S):
                await write_message(stream, pb.HopMessage(
                    type=pb.HopMessage.CONNECT, peer=pb.PeerId(id=callee.to_bytes())
                ))  # fmt: skip
                answer = await read_message(stream, pb.HopMessage)
            if answer.type != pb.HopMessage.STATUS or answer.status != pb.OK:
                raise PeerUnreachable(
                    f"relay {relay} does not connect to {callee}: {_status(answer.status)}"
                )
            where = f"{at}/p2p/{relay}/{RELAYED}"
            raw = relayed_connection(stream, where, initiator=True)
            await self._host.get_network().upgrade_outbound_raw_conn(raw, callee)
        except BaseException:
            with trio.CancelScope(shield=True):
                await reset(stream)
            raise

    # -- in

    async def serve(self, stream: Any) -> None:
        """Take a call that a relay passes on, and stay until the connection ends."""
        relay: ID = stream.muxed_conn.peer_id
        if relay not in self._held or is_relayed(stream.muxed_conn):
            self._penalise(relay, 5, "passes on a call without a reservation")
            await reset(stream)
            return
        place = self._doors.enter_relayed()
        try:
            await self._take(stream, relay, has_room=place is not None)
        except Exception as error:  # the library raises a dozen kinds for one broken stream
            if isinstance(error, trio.TooSlowError):
                self._penalise(relay, 2, "passes on a call and says nothing")
        finally:
            if place is not None:
                self._doors.leave(place)
            with trio.CancelScope(shield=True):
                await reset(stream)

    async def _take(self, stream: Any, relay: ID, *, has_room: bool) -> None:
        with trio.fail_after(SIGNAL_TIMEOUT_S):
            message = await read_message(stream, pb.StopMessage)
            caller = ID(message.peer.id)
            if message.type != pb.StopMessage.CONNECT:
                status = pb.UNEXPECTED_MESSAGE
            elif not self._rules.may_stay(str(caller), RELAYED):
                status = pb.PERMISSION_DENIED
            else:
                status = pb.OK if has_room else pb.RESOURCE_LIMIT_EXCEEDED
            answer = pb.StopMessage(type=pb.StopMessage.STATUS, status=status)
            await write_message(stream, answer)
        if status != pb.OK:
            await read_to_end(stream)
            return
        where = f"{self._held[relay][0]}/p2p/{relay}/{RELAYED}"
        raw = relayed_connection(stream, where, initiator=False)
        at = raw.get_transport_addresses()[0]
        network = self._host.get_network()
        # The class's own: what `guards.py` puts before it is for sockets and their places.
        muxed = await type(network).upgrade_inbound_raw_conn(network, raw, at)
        if muxed.peer_id != caller:
            self._penalise(relay, 20, "passes on another peer than it says")
            await muxed.close()
            return
        self._called(caller)
        await muxed.event_closed.wait()

    # -- reservations

    def addresses(self) -> list[str]:
        """Return where others reach this host through relays."""
        own = str(self._host.get_id())
        return [relayed_address(at, str(relay), own) for relay, (at, _) in self._held.items()]

    async def keep_reserved(self) -> None:
        """Keep places at relays for ever."""
        while True:
            self._wake = trio.Event()
            await self._look()
            with trio.move_on_after(LOOK_S):
                await self._wake.wait()

    async def _look(self) -> None:
        before = self.addresses()
        candidates = self._candidates()
        for gone in [relay for relay in self._held if relay not in candidates]:
            del self._held[gone]
        self._refused = {p: t for p, t in self._refused.items() if p in candidates}
        now_s = trio.current_time()
        for relay in candidates:
            held = self._held.get(relay)
            if held is None and len(self._held) >= RESERVED_COUNT:
                continue
            if now_s < (self._refused.get(relay, 0.0) if held is None else held[1]):
                continue
            await self._reserve(relay)
        if self.addresses() != before:
            self._changed(self.addresses())

    async def _reserve(self, relay: ID) -> None:
        """Ask a peer to be a relay, or to go on being one."""
        now_s, lasts_s, stream = trio.current_time(), None, None
        try:
            with trio.fail_after(SIGNAL_TIMEOUT_S):
                stream = await self._host.new_stream(relay, [HOP])
                await write_message(stream, pb.HopMessage(type=pb.HopMessage.RESERVE))
                answer = await read_message(stream, pb.HopMessage)
            if answer.type == pb.HopMessage.STATUS and answer.status == pb.OK:
                lasts_s = answer.reservation.expire - time.time()  # noqa: TID251 - an edge
        except Exception:  # it is no relay, or it is gone
            lasts_s = None
        finally:
            if stream is not None:
                with trio.CancelScope(shield=True):
                    await reset(stream)
        at = self._where(relay)
        if lasts_s is None or not at:
            self._held.pop(relay, None)
            self._refused[relay] = now_s + REFUSED_WAIT_S
            return
        # A clock that differs, here or there, does not make it ask in a loop, nor never again.
        wait_s = max(REFUSED_WAIT_S, min(lasts_s, RESERVATION_S_MAX) - RENEW_BEFORE_S)
        self._held[relay] = (at, now_s + wait_s)

    def _is_direct(self, peer: ID) -> bool:
        connections = self._host.get_network().get_connections(peer)
        return any(not is_relayed(one.muxed_conn) for one in connections)


def _status(number: Any) -> str:
    """Return the name of a status, in words."""
    try:
        return str(pb.Status.Name(number)).lower().replace("_", " ")
    except ValueError:
        return f"status {number}"
