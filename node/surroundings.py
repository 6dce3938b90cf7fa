"""What this machine says of itself in adverts: where it is reached, what it holds and serves."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import psutil

from crdt import ManifestDigest
from inference import Endpoint, Offer
from node.builds import Builds
from node.peer import PeerServer

ENDPOINT_COUNT_MAX = 8


class AdvertisedSelf:
    """Fits the `AdvertSources` port."""

    def __init__(
        self,
        server: PeerServer,
        hosts: Sequence[str],
        builds: Builds,
        offers: Callable[[], Sequence[Offer]],
    ) -> None:
        self._server = server
        self._hosts = tuple(hosts)[:ENDPOINT_COUNT_MAX]
        self._builds = builds
        self._offers = offers

    def endpoints(self) -> Sequence[Endpoint]:
        """Return where the peer port can be reached, best first."""
        found = [self._server.endpoint(host) for host in self._hosts]
        return [Endpoint(one.host, one.port, one.certificate_sha256) for one in found]

    def builds(self) -> Sequence[ManifestDigest]:
        """Return the whole builds held here."""
        return self._builds.digests()

    def offers(self) -> Sequence[Offer]:
        """Return what this node serves now."""
        return self._offers()


def reachable_hosts(host: str, advertise: Sequence[str]) -> list[str]:
    """Return the addresses peers may reach a port bound to `host` at, best first.

    What the operator says comes alone. A port bound to everything is at each of this machine's
    addresses: public ones first, then private ones; loopback only when there is nothing else.
    """
    if advertise:
        return list(advertise)
    if host not in ("0.0.0.0", "::"):
        return [host]
    found: list[str] = []
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family is socket.AF_INET and one.address not in found:
                found.append(one.address)
    ranked = sorted(found, key=_rank)
    useful = [one for one in ranked if not ip_address(one).is_loopback]
    return (useful or ranked or ["127.0.0.1"])[:ENDPOINT_COUNT_MAX]


def _rank(address: str) -> tuple[bool, bool]:
    parsed = ip_address(address)
    return (parsed.is_loopback or parsed.is_link_local, parsed.is_private)
