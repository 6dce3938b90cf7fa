"""What a node says of itself on its LAN, and what it takes from what others say. Pure.

A DNS-SD service `_hansa._tcp.local.`: the instance is the peer id, its address and port are where
libp2p listens, and two properties say which network and which peer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.network.addresses import PORT_MAX, Scope, parse_address, scope_of
from node.network.errors import BadAddress

SERVICE = "_hansa._tcp.local."
HOST_COUNT_MAX = 4
"""Addresses of its own that a node says, and of a peer that are looked at."""


@dataclass(frozen=True, slots=True)
class LanSelf:
    """Who announces itself.

    Attributes:
        net: The first 16 hex digits of the network id.
        hosts: Private IPv4 addresses of this machine at which it listens.
    """

    net: str
    peer: str
    port: int
    hosts: tuple[str, ...]

    @property
    def service_name(self) -> str:
        """The name of its service instance."""
        return f"{self.peer}.{SERVICE}"


def self_in(parts: Mapping[str, Any]) -> LanSelf:
    """Return what the node told its child in JSON."""
    return LanSelf(parts["net"], parts["peer"], parts["port"], tuple(parts["hosts"]))


def properties_of(own: LanSelf) -> dict[str, str]:
    """Return the properties of an announcement."""
    return {"net": own.net, "peer": own.peer}


def address_in(
    properties: Mapping[bytes, bytes | None], hosts: Sequence[str], port: int, own: LanSelf
) -> str | None:
    """Return where an announced node listens; None: it is none of this network, or not on a LAN.

    Only private addresses are taken: whoever is on the LAN must not send this node elsewhere. One
    that only we could dial (loopback) is none either.
    """
    net, peer = properties.get(b"net"), properties.get(b"peer")
    if net != own.net.encode() or peer is None or not 0 < port <= PORT_MAX:
        return None
    for host in hosts[:HOST_COUNT_MAX]:
        text = f"/ip4/{host}/tcp/{port}/p2p/{peer.decode('ascii', 'replace')}"
        try:
            address = parse_address(text)
        except BadAddress:
            continue
        if address.peer != own.peer and scope_of(address.host) is Scope.PRIVATE:
            return str(address)
    return None
