"""Whom this node has to do with at all: the operator's allow and deny lists. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from crdt import MalformedBytes, PeerId, public_key_of
from node.network.errors import BadAddress

_Net: TypeAlias = "IPv4Network | IPv6Network"


@dataclass(frozen=True, slots=True)
class _Rules:
    peers: frozenset[str]
    nets: tuple[_Net, ...]

    def __bool__(self) -> bool:
        return bool(self.peers or self.nets)

    def names(self, host: str) -> bool:
        """Whether a network of the list holds this address; never true of a name."""
        try:
            ip = ip_address(host)
        except ValueError:
            return False
        inner = getattr(ip, "ipv4_mapped", None) or ip
        return any(inner in net for net in self.nets if net.version == inner.version)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """Both lists. Deny wins; an allow list that is not empty leaves out all others."""

    allow: _Rules
    deny: _Rules

    @classmethod
    def parse(cls, allow: Sequence[str], deny: Sequence[str]) -> AccessRules:
        """Return the rules that two lists of peer ids and networks spell.

        Raises:
            BadAddress: an entry is neither; the message names it.
        """
        return cls(_parse(allow), _parse(deny))

    def may_knock(self, host: str) -> bool:
        """Whether an address may begin a handshake, before it is known which peer is there."""
        if self.deny.names(host):
            return False
        return not self.allow or bool(self.allow.peers) or self.allow.names(host)

    def may_stay(self, peer: str, host: str) -> bool:
        """Whether a peer at an address, or at a name that is not resolved yet, may be connected."""
        if peer in self.deny.peers or self.deny.names(host):
            return False
        return not self.allow or peer in self.allow.peers or self.allow.names(host)


def _parse(entries: Sequence[str]) -> _Rules:
    peers: set[str] = set()
    nets: list[_Net] = []
    for entry in entries:
        try:
            nets.append(ip_network(entry))
        except ValueError as no_net:
            try:
                public_key_of(PeerId(entry))
            except MalformedBytes as error:
                raise BadAddress(
                    f"{entry[:80]!r} is neither a peer id nor a network like 203.0.113.0/24 "
                    f"({no_net})"
                ) from error
            peers.add(entry)
    return _Rules(frozenset(peers), tuple(nets))
