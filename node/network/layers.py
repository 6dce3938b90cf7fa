# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (py-libp2p's signatures are partly untyped)
"""What is under a connection of the library: a socket, or a stream through a relay."""

from __future__ import annotations

from typing import Any

import trio
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.raw_connection import RawConnection
from multiaddr.multiaddr import Multiaddr

RESET_TIMEOUT_S = 2.0


class CircuitStream:
    """A stream through a relay, in the place of a socket under a connection.

    Attributes:
        where: The relay's multiaddress and `/p2p-circuit`.
    """

    def __init__(self, through: Any, where: str) -> None:
        self._through = through
        self.where = where

    async def read(self, n: int | None = None) -> bytes:
        """Return some bytes; none at the end, as of a socket."""
        try:
            return bytes(await self._through.read(n))
        except EOFError:
            return b""

    async def write(self, data: bytes) -> None:
        """Write bytes; the relay passes them on."""
        await self._through.write(data)

    async def close(self) -> None:
        """End the circuit."""
        await reset(self._through)

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return nothing: the other end's host is known to the relay only."""
        return None


def relayed_connection(through: Any, where: str, *, initiator: bool) -> RawConnection:
    """Return what the library makes a connection of, over a stream through a relay."""
    return RawConnection(
        CircuitStream(through, where),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        initiator,
        ConnectionType.RELAYED,
        [Multiaddr(where)],
    )


def circuit_of(muxed: Any) -> CircuitStream | None:
    """Return the stream through a relay that a multiplexed connection runs over, if it does."""
    found = _under(muxed, CircuitStream)
    return found if isinstance(found, CircuitStream) else None


def is_relayed(muxed: Any) -> bool:
    """Whether a multiplexed connection runs through a relay."""
    return circuit_of(muxed) is not None


def socket_of(connection: Any) -> trio.SocketStream | None:
    """Return the TCP socket under a swarm connection; None of one through a relay."""
    found = _under(getattr(connection, "muxed_conn", None), trio.SocketStream)
    return found if isinstance(found, trio.SocketStream) else None


def _under(muxed: Any, kind: type) -> Any:
    """Return what is at the bottom of a connection (private attributes of 0.8.1)."""
    layer = getattr(muxed, "secured_conn", None)
    for _ in range(8):
        if layer is None or isinstance(layer, (kind, CircuitStream)):
            return layer
        layer = next(
            (
                under
                for name in ("conn", "raw_conn", "stream", "read_writer")
                if (under := getattr(layer, name, None)) is not None
            ),
            None,
        )
    return None


async def reset(stream: Any) -> None:
    """Reset a stream, in bounded time and without complaint."""
    with trio.move_on_after(RESET_TIMEOUT_S):
        try:
            await stream.reset()
        except Exception:  # it was broken before
            return
