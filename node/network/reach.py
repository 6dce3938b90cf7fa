"""The frames by which a peer is asked to dial back: can you reach me at this port? Pure.

Only a port is said. The host is the one that the asker is seen at, so nobody can have a third party
dialled; and it is dialled without a name, so nothing is looked up for it.
"""

from __future__ import annotations

from enum import IntEnum

from crdt import MalformedBytes, NetworkId, WrongNetwork, decode, encode, natural

VERSION = 0
FRAME_BYTES_MAX = 128
PORT_MAX = 65535


class Reached(IntEnum):
    """What came of dialling back."""

    YES = 0
    """The asker itself answered there: its identity was proved in a handshake."""
    NO = 1
    NOT_NOW = 2
    """It was not tried: somebody of there asked a moment ago, or too many do."""


def reach_protocol(network: NetworkId) -> str:
    """Return the protocol by which a peer is asked to dial back."""
    return f"/hansa/{network.hex()[:16]}/reach/{VERSION}"


def encode_reach(network: NetworkId, port: int) -> bytes:
    """Return the request."""
    assert 0 < port <= PORT_MAX
    return encode(["reach?", VERSION, network, port])


def decode_reach(raw: bytes, network: NetworkId) -> int:
    """Return the port that an asker wants to be dialled at.

    Raises:
        RemoteFault: it is not such a request, or for another network.
    """
    port = _field(raw, "reach?", network, PORT_MAX)
    if port == 0:
        raise MalformedBytes("nobody listens at port 0")
    return port


def encode_reached(network: NetworkId, reached: Reached) -> bytes:
    """Return the answer."""
    return encode(["reached", VERSION, network, int(reached)])


def decode_reached(raw: bytes, network: NetworkId) -> Reached:
    """Return what came of it, as the peer says.

    Raises:
        RemoteFault: it is not such an answer, or for another network.
    """
    return Reached(_field(raw, "reached", network, max(Reached)))


def _field(raw: bytes, tag: str, network: NetworkId, maximum: int) -> int:
    parts = decode(raw, bytes_max=FRAME_BYTES_MAX)
    if len(parts) != 4 or parts[0] != tag or natural(parts[1], "version") != VERSION:
        raise MalformedBytes(f"a frame of 4 fields that starts with {tag!r} is expected")
    if parts[2] != network:
        raise WrongNetwork(f"frame {tag!r} is for another network")
    return natural(parts[3], tag, maximum=maximum)
