"""`/v1/checkup`: what the node finds out about itself by its peers, for `hansa doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aiohttp import web

from node.api.operations import Auth, operation
from node.api.records import answer
from node.api.views import View
from node.checkup import SPOKEN, Checkup, Findings
from node.network.addresses import Scope

TAG_NODE = "node"


class ReachabilityView(View):
    """Whether peers can dial this node."""

    port: int
    """Where peers were asked to dial it; 0: it listens nowhere."""
    reached: int
    """Peers that dialled it back, handshake included."""
    tried: int
    """Peers that tried and said how it went; of 3 that are asked, one of an address group."""
    scope: Literal["loopback", "private", "public"] | None
    """From how far away they looked; null: nobody tried."""
    inbound: int
    """Connected peers from as far away that came by themselves."""


class SeenView(View):
    """Something that peers say, and how many address groups have a peer that says it."""

    what: str
    count: int


class ClockView(View):
    """How far the clock of the node's machine is from its peers'."""

    offset_ms: int | None
    """The median over address groups; positive: this clock is behind. Null: none was read."""
    groups: int
    agreed: int
    """Of these, within 5 s of the median."""
    is_sure: bool
    """Three groups or more, and most of them agree."""


class VersionsView(View):
    """What peers run, as they say."""

    spoken: list[str]
    """Protocols of this node."""
    software: list[SeenView]
    """By peers, not by groups."""
    unknown: int
    """Peers that have not said."""
    newer: list[SeenView]
    """Protocols that this node does not speak."""
    older: int
    """Peers that lack some of this node's."""


class CheckupView(View):
    """What a node finds out by its peers. All of it is what they say."""

    version: str
    peers: int
    groups: int
    """Address groups that they are in."""
    reachability: ReachabilityView
    observed: list[SeenView]
    """Hosts at which peers see this node."""
    own_hosts: list[str]
    """Where it says that it is reached."""
    clock: ClockView
    versions: VersionsView


def checkup_routes(checkup: Checkup) -> list[web.RouteDef]:
    """Return the route."""

    @operation(
        summary="Look at the node through its peers' eyes", tag=TAG_NODE, auth=Auth.OPERATOR,
        responses={200: CheckupView},
    )  # fmt: skip
    async def look(_request: web.Request) -> web.StreamResponse:
        """Ask some peers to dial back and what time they have; takes up to 10 s."""
        return answer(checkup_view(await checkup.look()))

    return [web.post(f"{base}/checkup", look) for base in ("/v1", "")]


def checkup_view(found: Findings) -> CheckupView:
    """Return what was found, as JSON has it."""
    reach, clock, versions = found.reachability, found.clock, found.versions
    return CheckupView(
        version=found.version,
        peers=found.peers,
        groups=found.groups,
        reachability=ReachabilityView(
            port=reach.port,
            reached=reach.reached,
            tried=reach.tried,
            scope=None if reach.scope is None else _SCOPES[reach.scope],
            inbound=reach.inbound,
        ),
        observed=_seen(found.observed),
        own_hosts=list(found.own_hosts),
        clock=ClockView(
            offset_ms=clock.offset_ms,
            groups=clock.groups,
            agreed=clock.agreed,
            is_sure=clock.is_sure,
        ),
        versions=VersionsView(
            spoken=list(SPOKEN),
            software=_seen(versions.software),
            unknown=versions.unknown,
            newer=_seen(versions.newer),
            older=versions.older,
        ),
    )


_SCOPES: dict[Scope, Literal["loopback", "private", "public"]] = {
    Scope.LOOPBACK: "loopback",
    Scope.PRIVATE: "private",
    Scope.PUBLIC: "public",
}


def _seen(counts: Sequence[tuple[str, int]]) -> list[SeenView]:
    return [SeenView(what=what, count=count) for what, count in counts]
