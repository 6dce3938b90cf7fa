"""Peers, addresses and books for the tests of membership."""

from __future__ import annotations

import functools
import random

from crdt import PeerId, PublicKey, peer_id_of
from node.network.addressbook import AddressBook
from node.network.addresses import PeerAddress
from tests.node.network.swarms import seed_of

NOW_S = 1_800_000_000.0


@functools.cache
def peer(name: str) -> PeerId:
    """Return a peer id per name; nobody has its key."""
    return peer_id_of(PublicKey(seed_of(name)))


OWN = peer("the node itself")


def address(host: str, name: str = "", port: int = 4001) -> PeerAddress:
    """Return an address of a peer that is named, or of one per host."""
    kind = "ip6" if ":" in host else "ip4" if host[-1].isdecimal() else "dns"
    return PeerAddress(kind, host, port, peer(name or f"{host} {port}"))


def public(number: int, *, network: int = 0) -> PeerAddress:
    """Return an address of its own /16, or one of many in the /16 of a number."""
    if network:
        return address(f"{20 + network // 256}.{network % 256}.{number // 250}.{1 + number % 250}")
    return address(f"{60 + number // 256}.{number % 256}.7.7")


def a_book() -> AddressBook:
    """Return an empty book."""
    return AddressBook(OWN)


def dice(seed: int = 1) -> random.Random:
    """Return randomness that is the same each time."""
    return random.Random(seed)
