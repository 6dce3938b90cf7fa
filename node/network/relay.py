# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false, reportCallIssue=false
# (py-libp2p's signatures are partly untyped, and trio's read in part)
"""Serving as a relay: circuit relay v2's HOP protocol, with bounds (`circuits.py`).

Not the library's `CircuitV2Protocol`, because it lets anybody reserve for anybody, ends one
caller's circuits together, never ends a silent one, and has no bound on all circuits together
(seen in 0.8.1; `tests/node/network/test_relay_faults.py`). Its frames are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited

from node.network.circuits import Circuit, Pace, RelayLimits, Switchboard
from node.network.layers import is_relayed, reset

HOP = TProtocol("/libp2p/circuit/relay/0.2.0/hop")
STOP = TProtocol("/libp2p/circuit/relay/0.2.0/stop")
MESSAGE_BYTES_MAX = 4096
"""One HOP or STOP message; go-libp2p's own bound. Ours have under 400."""
SIGNAL_TIMEOUT_S = 10.0
"""One message, and the whole of what a circuit needs before its first byte."""
STALL_TIMEOUT_S = 30.0
"""A write that waits so long for its reader ends the circuit."""
LAST_WORD_S = 2.0
CHUNK_BYTES = 64 * 1024
SIGNALS_PER_PEER_MAX = 4
"""HOP streams that one peer may have before they are circuits or answered."""


class Penalise(Protocol):
    """Told of each misdeed: who, how bad (100 is a ban), what."""

    def __call__(self, peer: ID, points: int, why: str, /) -> None:
        """Take note of it."""
        ...


class Relay:
    """Answers RESERVE and CONNECT, and passes bytes on that it cannot read.

    Args:
        group_of_peer: The address group that a peer is seen in.
        unix_s: The time of day, which a reservation names.
    """

    def __init__(
        self,
        host: Any,
        limits: RelayLimits,
        *,
        penalise: Penalise,
        group_of_peer: Callable[[ID], str],
        unix_s: Callable[[], float],
    ) -> None:
        self._host = host
        self._limits = limits
        self._penalise = penalise
        self._group_of_peer = group_of_peer
        self._unix_s = unix_s
        self._pace = Pace(limits.bytes_s)
        self._signals: dict[ID, int] = {}
        self.board = Switchboard(limits)

    def lost(self, peer: ID) -> None:
        """Forget the reservation of a peer that is gone."""
        self.board.forget(str(peer))

    async def serve(self, stream: Any) -> None:
        """Answer one HOP stream, and be its circuit if it becomes one."""
        peer: ID = stream.muxed_conn.peer_id
        if self._signals.get(peer, 0) >= SIGNALS_PER_PEER_MAX:
            self._penalise(peer, 2, "asks a relay for too much at once")
            await reset(stream)
            return
        self._signals[peer] = self._signals.get(peer, 0) + 1
        try:
            made = await self._signal(stream, peer)
        except Exception as error:  # the library raises a dozen kinds for one broken stream
            self._penalise(peer, 5, f"speaks to a relay in no known way: {type(error).__name__}")
            made = None
        finally:
            self._signals[peer] -= 1
            if not self._signals[peer]:
                del self._signals[peer]
        if made is not None:
            await self._carry(stream, *made)
        else:
            await read_to_end(stream)
        await reset(stream)

    # -- the words before

    async def _signal(self, stream: Any, peer: ID) -> tuple[Any, Circuit] | None:
        with trio.fail_after(SIGNAL_TIMEOUT_S):
            message = await read_message(stream, pb.HopMessage)
        if is_relayed(stream.muxed_conn):
            # Else a circuit over a circuit, charged to nobody that this node sees.
            await self._say(stream, pb.PERMISSION_DENIED)
        elif message.type == pb.HopMessage.RESERVE:
            await self._reserve(stream, peer)
        elif message.type == pb.HopMessage.CONNECT:
            return await self._connect(stream, peer, ID(message.peer.id))
        else:
            await self._say(stream, pb.UNEXPECTED_MESSAGE)
        return None

    async def _reserve(self, stream: Any, peer: ID) -> None:
        """Reserve for who is connected: what the message says of whom is not looked at."""
        now_s = self._unix_s()
        until_s = self.board.reserve(str(peer), self._group_of_peer(peer), now_s)
        if until_s is None:
            await self._say(stream, pb.RESERVATION_REFUSED)
            return
        await self._say(stream, pb.OK, reservation=pb.Reservation(expire=int(until_s)))

    async def _connect(self, stream: Any, caller: ID, callee: ID) -> tuple[Any, Circuit] | None:
        connected = bool(self._host.get_network().get_connections(callee))
        if not connected or not self.board.has_reserved(str(callee), self._unix_s()):
            await self._say(stream, pb.NO_RESERVATION)
            return None
        circuit = self.board.open(str(caller), str(callee))
        if circuit is None:
            await self._say(stream, pb.RESOURCE_LIMIT_EXCEEDED)
            return None
        far = None
        try:
            with trio.fail_after(SIGNAL_TIMEOUT_S):
                far = await self._host.new_stream(callee, [STOP])
                await write_message(far, pb.StopMessage(
                    type=pb.StopMessage.CONNECT, peer=pb.PeerId(id=caller.to_bytes()),
                    limit=self._limit(),
                ))  # fmt: skip
                answer = await read_message(far, pb.StopMessage)
            accepted = (
                answer.type == pb.StopMessage.STATUS
                and answer.status == pb.OK
                and not is_relayed(far.muxed_conn)
            )
            if accepted:
                await self._say(stream, pb.OK)
                return far, circuit
        except BaseException as error:
            self.board.close(circuit)
            if far is not None:
                await reset(far)
            if not isinstance(error, Exception):
                raise
        else:
            self.board.close(circuit)
            await reset(far)
        await self._say(stream, pb.CONNECTION_FAILED)
        return None

    async def _say(self, stream: Any, status: Any, reservation: Any = None) -> None:
        message = pb.HopMessage(type=pb.HopMessage.STATUS, status=status)
        if status == pb.OK:
            message.limit.CopyFrom(self._limit())
        if reservation is not None:
            message.reservation.CopyFrom(reservation)
        with trio.fail_after(SIGNAL_TIMEOUT_S):
            await write_message(stream, message)

    def _limit(self) -> Any:
        return pb.Limit(duration=int(self._limits.circuit_s), data=self._limits.circuit_bytes_max)

    # -- the circuit

    async def _carry(self, near: Any, far: Any, circuit: Circuit) -> None:
        """Pass bytes on both ways until an end goes, is slow, or the circuit has had its share."""
        try:
            with trio.move_on_after(self._limits.circuit_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, near, far, circuit, nursery.cancel_scope)
                    nursery.start_soon(self._pump, far, near, circuit, nursery.cancel_scope)
        finally:
            self.board.close(circuit)
            with trio.CancelScope(shield=True):
                await reset(far)
                await reset(near)

    async def _pump(
        self, source: Any, sink: Any, circuit: Circuit, ended: trio.CancelScope
    ) -> None:
        try:
            while chunk := await source.read(CHUNK_BYTES):
                if not circuit.pass_on(len(chunk)):
                    break
                await trio.sleep(self._pace.wait_s(len(chunk), trio.current_time()))
                with trio.fail_after(STALL_TIMEOUT_S):
                    await sink.write(chunk)
        except Exception:
            return  # however an end broke, the circuit is over
        finally:
            ended.cancel()


async def read_message(stream: Any, kind: Any) -> Any:
    """Return the next message of a stream, which must be of this kind."""
    raw = await read_varint_prefixed_bytes_limited(stream, MESSAGE_BYTES_MAX)
    message = kind()
    message.ParseFromString(raw)
    return message


async def read_to_end(stream: Any) -> None:
    """Let the other end read the last message: a reset throws away what is not read yet."""
    with trio.move_on_after(LAST_WORD_S), suppress(Exception):
        while await stream.read(MESSAGE_BYTES_MAX):
            pass


async def write_message(stream: Any, message: Any) -> None:
    """Write a message, its length before it."""
    await stream.write(encode_varint_prefixed(message.SerializeToString()))
