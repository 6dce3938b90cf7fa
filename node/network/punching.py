# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportCallIssue=false
# (py-libp2p's signatures are partly untyped, and trio's read in part)
"""From a connection through a relay to a direct one: both ends dial at once (DCUtR).

Each dials from the port that it listens at, so that either's NAT takes the other's packets for
answers; two dials that meet become one connection (TCP's simultaneous open). It works where the
NAT keeps a port's number and is silent to strangers; where it does not, the relay stays. Not the
library's `DCUtRProtocol`: it dials whatever the other end names, this machine's own network too,
and its inbound upgrade passes by the guards. The frames and the dial from a port are the library's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import dcutr_pb2 as pb
from multiaddr.multiaddr import Multiaddr

from crdt import HansaError
from node.network.addresses import PeerAddress, Scope, host_and_port, parse_address
from node.network.doors import Doors, Place
from node.network.guards import CLOSE_TIMEOUT_S
from node.network.layers import circuit_of, is_relayed, reset
from node.network.relay import SIGNAL_TIMEOUT_S, Penalise, read_message, write_message

DCUTR = TProtocol("/libp2p/dcutr")
ADDRESS_COUNT_MAX = 4
"""Addresses of the other end that are dialled: one a NAT, and some to spare."""
ROUND_COUNT = 3
ROUND_S = 4.0
"""One try: a SYN is sent again after 1 and 3 s."""
PAIR_COUNT_MAX = 4
"""Peers with whom it is tried at one time."""
DELAY_S_MAX = 2.0


class Puncher:
    """Makes direct connections of relayed ones.

    Args:
        may: Whether the operator allows a peer at a host.
        soon: Runs a function beside everything else.
    """

    def __init__(
        self,
        host: Any,
        doors: Doors,
        *,
        may: Callable[[str, str], bool],
        penalise: Penalise,
        log: Callable[..., None],
        soon: Callable[..., None],
    ) -> None:
        self._host = host
        self._doors = doors
        self._may = may
        self._penalise = penalise
        self._log = log
        self._soon = soon
        self._trying: set[ID] = set()

    async def start(self, peer: ID) -> None:
        """Try it with a peer that has called through a relay, and count the connection made."""
        if peer in self._trying or len(self._trying) >= PAIR_COUNT_MAX or self._is_direct(peer):
            return
        self._trying.add(peer)
        try:
            there, delay_s = await self._agree(peer)
            await trio.sleep(delay_s)
            await self._punch(peer, there, answering=True)
        except Exception as error:  # the library raises a dozen kinds; the relay stays
            self._log("info", "no hole punched", "peer", str(peer), "reason", type(error).__name__)
        finally:
            self._trying.discard(peer)

    async def serve(self, stream: Any) -> None:
        """Try it with a peer that was called through a relay and wants to."""
        peer: ID = stream.muxed_conn.peer_id
        busy = peer in self._trying or len(self._trying) >= PAIR_COUNT_MAX
        if busy or not is_relayed(stream.muxed_conn) or self._is_direct(peer):
            await reset(stream)
            return
        self._trying.add(peer)
        try:
            with trio.fail_after(SIGNAL_TIMEOUT_S):
                there = to_dial(peer, await read_message(stream, pb.HolePunch), self._may)
                await write_message(stream, self._own())
                sync = await read_message(stream, pb.HolePunch)
            if sync.type == pb.HolePunch.SYNC:
                await self._punch(peer, there, answering=False)
        except Exception as error:  # the library raises a dozen kinds; the relay stays
            self._log("info", "no hole punched", "peer", str(peer), "reason", type(error).__name__)
        finally:
            self._trying.discard(peer)
            with trio.CancelScope(shield=True):
                await reset(stream)

    # -- the words before

    async def _agree(self, peer: ID) -> tuple[list[PeerAddress], float]:
        """Return where to dial, and in how long the other end will have read that it is time."""
        with trio.fail_after(SIGNAL_TIMEOUT_S):
            stream = await self._host.new_stream(peer, [DCUTR])
            started_s = trio.current_time()
            await write_message(stream, self._own())
            there = to_dial(peer, await read_message(stream, pb.HolePunch), self._may)
            delay_s = min((trio.current_time() - started_s) / 2, DELAY_S_MAX)
            await write_message(stream, pb.HolePunch(type=pb.HolePunch.SYNC))
        return there, delay_s

    def _own(self) -> Any:
        """Return where this host may be dialled: its NAT as others see it, at its own port."""
        port = self._source()[1]
        # What peers say they see; it is theirs to dial, and who lies there is not reached.
        seen = self._host._observed_addr_manager.addrs(min_observers=1)
        hosts = {host_and_port(str(one))[0] for one in seen}
        kinds = {host: "ip6" if ":" in host else "ip4" for host in sorted(hosts) if host}
        texts = [f"/{kind}/{host}/tcp/{port}" for host, kind in kinds.items()][:ADDRESS_COUNT_MAX]
        addresses = [Multiaddr(text).to_bytes() for text in texts]
        return pb.HolePunch(type=pb.HolePunch.CONNECT, ObsAddrs=addresses)

    # -- the dials

    async def _punch(self, peer: ID, there: list[PeerAddress], *, answering: bool) -> None:
        for _round in range(ROUND_COUNT):
            async with trio.open_nursery() as nursery:
                for address in there:
                    nursery.start_soon(self._dial, peer, address, answering, nursery.cancel_scope)
                nursery.cancel_scope.deadline = trio.current_time() + ROUND_S
            if self._is_direct(peer):
                self._log("info", "hole punched", "peer", str(peer))
                if answering:  # it is the last to know that the direct one stands
                    await self._leave_relay(peer)
                return
        raise TimeoutError

    async def _dial(
        self, peer: ID, address: PeerAddress, answering: bool, done: trio.CancelScope
    ) -> None:
        place = self._place(address) if answering else None
        if answering and place is None:
            return
        raw, network, target = None, self._host.get_network(), Multiaddr(str(address))
        try:
            transport = network.transport_manager.transport_for_dialing(target)
            raw = await transport.dial_with_source(target, self._source())
            if place is None:
                await network.upgrade_outbound_raw_conn(raw, peer)
            else:
                # The class's own: what `guards.py` puts before it is for who comes by itself.
                muxed = await type(network).upgrade_inbound_raw_conn(network, raw, target)
                self._soon(self._keep_place, place, muxed)
                place = None
                if muxed.peer_id != peer:
                    self._penalise(peer, 5, "names an address where somebody else is")
                    await muxed.close()
                    return
            done.cancel()
        except BaseException as error:
            if raw is not None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(raw.stream.stream)
            if not isinstance(error, Exception):
                raise
        finally:
            if place is not None:
                self._doors.leave(place)

    def _place(self, address: PeerAddress) -> Place | None:
        """Return a place for a connection that counts as the other end's, since it called."""
        place = self._doors.enter(address.host, address.port)
        if place is not None:
            self._doors.stay(place)
        return place

    async def _keep_place(self, place: Place, muxed: Any) -> None:
        try:
            await muxed.event_closed.wait()
        finally:
            self._doors.leave(place)

    async def _leave_relay(self, peer: ID) -> None:
        for one in list(self._host.get_network().get_connections(peer)):
            circuit = circuit_of(one.muxed_conn)
            if circuit is not None:
                await circuit.close()
                with trio.move_on_after(CLOSE_TIMEOUT_S), suppress(Exception):
                    await one.close()  # it does not notice by itself

    def _is_direct(self, peer: ID) -> bool:
        connections = self._host.get_network().get_connections(peer)
        return any(not is_relayed(one.muxed_conn) for one in connections)

    def _source(self) -> tuple[str, int]:
        """Return where this host listens, which is where a NAT must think that a dial is from."""
        return host_and_port(str(self._host.get_addrs()[0]))


def to_dial(peer: ID, message: Any, may: Callable[[str, str], bool]) -> list[PeerAddress]:
    """Return what may be dialled of what a peer names: nothing of this machine's own network.

    Raises:
        ValueError: nothing, or the message is another.
    """
    found: list[PeerAddress] = []
    for raw in list(message.ObsAddrs)[:ADDRESS_COUNT_MAX]:
        try:
            one = parse_address(f"{Multiaddr(bytes(raw))}/p2p/{peer}")
        except (HansaError, ValueError):
            continue
        if one.scope is Scope.PUBLIC and one.relay is None and may(one.peer, one.host):
            found.append(one)
    if message.type != pb.HolePunch.CONNECT or not found:
        raise ValueError("it names no address that could be dialled")
    return found
