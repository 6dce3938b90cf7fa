"""Where a peer listens, as a value: parsed, put in one spelling, and placed in an address group.

A group is what one party is assumed to hold as a whole, so that a choice among groups is a choice
among parties. Pure: nothing here resolves or connects.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

from crdt import MalformedBytes, PeerId, UserFault, peer_id_of, public_key_of
from node.network.errors import BadAddress

ADDRESS_CHARACTERS_MAX = 360
"""The longest name (253), a peer id (52), and the words between."""
NAME_CHARACTERS_MAX = 253
PORT_MAX = 65535
RELAYED = "p2p-circuit"
"""The host and the address group of every peer behind a relay. A relay can make up peers without
end, so all of them together are one group, and one informant."""
NAMES_GROUP = "names"
"""Of every address by name: who holds a domain makes names without end, so all are one group."""
CACHED_COUNT_MAX = 4096
"""Hosts whose group is remembered: three full books. One takes 10 us, and a choice needs all."""
_NAT64 = ip_network("64:ff9b::/96")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
_HOST_KINDS = {"ip4", "ip6", "dns", "dns4", "dns6"}
_Ip: TypeAlias = "IPv4Address | IPv6Address"


class Scope(IntEnum):
    """From how far away an address can be meant."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """One place where one peer listens.

    Attributes:
        kind: `ip4`, `ip6`, `dns`, `dns4` or `dns6`.
        host: The IP address in its shortest spelling, or a name in lower case.
        relay: The peer that listens there and passes connections on; None for the peer itself.
    """

    kind: str
    host: str
    port: int
    peer: PeerId
    relay: PeerId | None = None

    def __str__(self) -> str:
        """Return the multiaddress."""
        through = "" if self.relay is None else f"/p2p/{self.relay}/{RELAYED}"
        return f"/{self.kind}/{self.host}/tcp/{self.port}{through}/p2p/{self.peer}"

    @property
    def group(self) -> str:
        """The address group: see `group_of`."""
        return group_of(self.seen_host, self.port)

    @property
    def seen_host(self) -> str:
        """The host that a connection to it is seen to go to."""
        return self.host if self.relay is None else RELAYED

    @property
    def scope(self) -> Scope:
        """From how far away the address can be meant."""
        return scope_of(self.host)


def parse_address(text: str) -> PeerAddress:
    """Return the address that a multiaddress spells, names in lower case.

    One through a relay has `/p2p/RELAY/p2p-circuit` before the `/p2p/PEER`, and an IP address.

    Raises:
        BadAddress: it is not `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT/p2p/PEER`, or nobody listens at
            such a host: unspecified, multicast, reserved, with a zone.
    """
    if f"/{RELAYED}/" in text:
        return _parse_relayed(text)
    parts = text.split("/") if len(text) <= ADDRESS_CHARACTERS_MAX else []
    if len(parts) != 7 or parts[0] or parts[3] != "tcp" or parts[5] != "p2p":
        raise _bad(text, "is not /ip4|ip6|dns/HOST/tcp/PORT/p2p/PEER")
    _, kind, host, _, port, _, peer = parts
    if not _NUMBER.fullmatch(port) or int(port) > PORT_MAX:
        raise _bad(text, f"has no port in 1..{PORT_MAX}")
    if kind not in _HOST_KINDS:
        raise _bad(text, "starts with none of /ip4, /ip6, /dns, /dns4, /dns6")
    try:
        known = PeerId(peer)
        if peer_id_of(public_key_of(known)) != known:
            raise _bad(text, "spells its peer id in another way than libp2p")
    except MalformedBytes as error:
        raise _bad(text, "names no peer with an Ed25519 key") from error
    return PeerAddress(kind, _host(kind, host, text), int(port), known)


@functools.lru_cache(CACHED_COUNT_MAX)
def group_of(host: str, port: int) -> str:
    """Return the address group of a host and port.

    A public IPv4 address belongs to its /16 and IPv6 to its /32, which is what a provider is
    given; IPv6 that only wraps an IPv4 address (6to4, Teredo, NAT64) to that one's. On a LAN the
    network says nothing about who is who, so a private address is a group of its own, and on
    loopback, where nodes differ by their ports, so is each host and port. All names are one group.
    """
    if host == RELAYED:
        return RELAYED
    ip = _ip(host)
    if ip is None:
        return NAMES_GROUP
    ip = _unwrapped(ip)
    if ip.is_loopback:
        return f"{host}:{port}"
    if not ip.is_global:
        return str(ip)
    length = 16 if ip.version == 4 else 32
    return str(ip_network(f"{ip}/{length}", strict=False))


def informant_of(host: str, peer: PeerId) -> str:
    """Return as whom a peer counts that tells of others: its group; on loopback, itself.

    Not its id, because ids cost nothing: a thousand of them behind one network are one informant.
    """
    return str(peer) if scope_of(host) is Scope.LOOPBACK else group_of(host, 0)


def scope_of(host: str) -> Scope:
    """Return from how far away a host can be meant; names without a dot are local ones.

    Whoever comes through a relay may be anywhere, and is told nothing of this node's own network.
    """
    if host == RELAYED:
        return Scope.PUBLIC
    ip = _ip(host)
    if ip is None:
        local = "." not in host or host.endswith((".local", ".localhost", ".internal", ".arpa"))
        return Scope.PRIVATE if local else Scope.PUBLIC
    ip = _unwrapped(ip)
    if ip.is_loopback:
        return Scope.LOOPBACK
    return Scope.PUBLIC if ip.is_global else Scope.PRIVATE


def host_and_port(address: str) -> tuple[str, int]:
    """Return what the start of a connection's multiaddress says; `("", 0)` when it says neither.

    Of one through a relay it is `RELAYED`: where the relay is says nothing of the peer.
    """
    if f"/{RELAYED}" in address:
        return RELAYED, 0
    parts = address.split("/")
    if len(parts) < 5 or parts[3] != "tcp" or not parts[4].isdecimal():
        return "", 0
    return parts[2], int(parts[4])


def relayed_address(at: str, relay: str, peer: str) -> str:
    """Return the multiaddress of a peer through a relay.

    Args:
        at: Where the relay listens, `/ip4/HOST/tcp/PORT`.
    """
    return f"{at}/p2p/{relay}/{RELAYED}/p2p/{peer}"


def plain_host(host: str) -> str:
    """Return the IP address of a socket as addresses spell it: no zone, IPv4 as IPv4."""
    ip = _ip(host.partition("%")[0])
    if ip is None:
        return host
    return str(getattr(ip, "ipv4_mapped", None) or ip)


def _parse_relayed(text: str) -> PeerAddress:
    first, _, last = text.partition(f"/{RELAYED}/")
    relay = parse_address(first)
    behind = parse_address(f"/{relay.kind}/{relay.host}/tcp/{relay.port}/{last}")
    if relay.kind.startswith("dns"):
        raise _bad(text, "names a relay by DNS; write its /ip4 or /ip6 address")
    if behind.relay is not None or relay.peer == behind.peer:
        raise _bad(text, "is no address of one peer behind one relay")
    return PeerAddress(relay.kind, relay.host, relay.port, behind.peer, relay.peer)


def _host(kind: str, host: str, text: str) -> str:
    if kind.startswith("dns"):
        name = host.lower()
        labels = name.split(".")
        if len(name) > NAME_CHARACTERS_MAX or not all(map(_LABEL.fullmatch, labels)):
            raise _bad(text, "has no DNS name where one is due")
        if labels[-1].isdecimal():
            raise _bad(text, "has a number where a DNS name is due; write /ip4/...")
        return name
    ip = _ip(host)
    if ip is None or f"ip{ip.version}" != kind:
        raise _bad(text, f"has no /{kind} address where one is due")
    inner = _unwrapped(ip)
    nowhere = inner.is_unspecified or inner.is_multicast
    if nowhere or (inner.version == 4 and inner.is_reserved) or getattr(ip, "ipv4_mapped", None):
        raise _bad(text, "is not an address that anybody listens at")
    return str(ip)


def _ip(host: str) -> _Ip | None:
    try:
        return None if "%" in host else ip_address(host)
    except ValueError:
        return None


def _unwrapped(ip: _Ip) -> _Ip:
    """Return the IPv4 address inside an IPv6 one that only carries it."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None, None))[1] or ip


def _bad(text: str, why: str) -> UserFault:
    return BadAddress(f"{text[:120]!r} {why}")
