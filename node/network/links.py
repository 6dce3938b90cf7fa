# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (py-libp2p's signatures are partly untyped)
"""The library's connections, seen from outside: when one comes or goes, and where it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from libp2p.abc import INotifee
from libp2p.peer.id import ID

from node.network.addresses import plain_host
from node.network.layers import circuit_of, socket_of


class Links(INotifee):
    """Passes on that a connection came or went."""

    def __init__(self, changed: Callable[[ID], None]) -> None:
        self._changed = changed

    async def connected(self, network: Any, conn: Any) -> None:  # noqa: ARG002
        """Look at a peer again."""
        self._changed(conn.muxed_conn.peer_id)

    async def disconnected(self, network: Any, conn: Any) -> None:  # noqa: ARG002
        """Look at a peer again."""
        self._changed(conn.muxed_conn.peer_id)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Nothing: streams are their handlers' business."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Nothing: streams are their handlers' business."""

    async def listen(self, network: Any, multiaddr: Any) -> None:
        """Nothing: `running` checks the listeners."""

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        """Nothing: the child ends with its listeners."""


def remote_address(connection: Any) -> str:
    """Return where a connection goes to: of its socket, since the library says what peers say.

    Of one through a relay it is the relay, and then `/p2p-circuit`.
    """
    circuit = circuit_of(connection.muxed_conn)
    if circuit is not None:
        return circuit.where
    raw = socket_of(connection)
    try:
        host, port = raw.socket.getpeername()[:2] if raw is not None else ("", 0)
    except OSError:  # it is closed already
        return ""
    host = plain_host(str(host))
    return f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}" if host else ""
