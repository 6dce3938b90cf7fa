"""What `hansa doctor` concludes from a checkup: reachability, clock and versions. Pure.

A checkup is what peers say (`POST /v1/checkup`). Nothing that one of them, or one network of them,
says makes a line red: a node works without being reached, and a liar must not have its clock set.
"""

from __future__ import annotations

from typing import Any

from node.cli import format as show_as
from node.cli.checks import Check
from node.clocks import NOTE_MS, WRONG_MS

NEWER_GROUP_COUNT_MIN = 2
"""Address groups that must speak something newer before an update is advised."""
_FROM = {
    "loopback": "on this machine",
    "private": "on this LAN",
    "public": "elsewhere on the internet",
}


def peer_checks(found: dict[str, Any]) -> list[Check]:
    """Return the lines about a node that come of its peers."""
    return [reachability(found), clock(found["clock"]), versions(found)]


def reachability(found: dict[str, Any]) -> Check:
    """Conclude whether peers can dial the node, and what lets them."""
    reach, name = found["reachability"], "reachable"
    if not found["peers"]:
        return Check(
            name, None, "nobody is connected who could try",
            "name a peer: hansa run --set p2p.bootstrap=ADDRESS",
        )  # fmt: skip
    if not reach["tried"]:
        if reach["inbound"]:
            came = show_as.counted(reach["inbound"], "peer")
            return Check(name, True, f"{came} came in; none could be asked to dial back")
        return Check(
            name, None, f"none of {show_as.counted(found['peers'], 'peer')} could be asked",
            "ask again in a minute, or when peers of this version are connected",
        )  # fmt: skip
    where = _FROM[reach["scope"]]
    said = f"{reach['reached']} of {show_as.counted(reach['tried'], 'peer')} {where} dialled back"
    if 2 * reach["reached"] <= reach["tried"]:
        return Check(name, None, f"{said} at TCP port {reach['port']}", _opened(found))
    return Check(name, True, said, _announced(found))


def clock(found: dict[str, Any]) -> Check:
    """Conclude whether this machine's clock is right, from the clocks of several networks."""
    offset_ms, groups, name = found["offset_ms"], found["groups"], "clock"
    if offset_ms is None:
        return Check(name, None, "no peer's clock was read", "connect to peers and ask again")
    side = "behind" if offset_ms > 0 else "ahead of"
    said = f"{show_as.duration(abs(offset_ms) / 1000)} {side} {_networks(groups)} of peers"
    if abs(offset_ms) <= NOTE_MS:
        return Check(name, True, f"within {NOTE_MS // 1000} s of {_networks(groups)} of peers")
    if not found["is_sure"]:
        return Check(
            name, None, f"{said}, too few or too different to go by",
            "compare with a time server: timedatectl timesync-status, or chronyc tracking",
        )  # fmt: skip
    mend = "set the clock: timedatectl set-ntp true, or install chrony"
    if abs(offset_ms) < WRONG_MS:
        return Check(name, None, said, mend)
    return Check(name, False, f"{said}: adverts and signed requests are refused", mend)


def versions(found: dict[str, Any]) -> Check:
    """Conclude whether this node is behind its peers."""
    seen, name = found["versions"], "versions"
    software = ", ".join(
        f"{show_as.counted(one['count'], 'peer')} {one['what']}" for one in seen["software"]
    )
    older = f"; {seen['older']} of them older" if seen["older"] else ""
    said = f"hansa {found['version']}; " + (f"{software}{older}" if software else "no peer says")
    newer = [one for one in seen["newer"] if one["count"] >= NEWER_GROUP_COUNT_MIN]
    if newer:
        spoken = ", ".join(f"{one['what']} in {_networks(one['count'])}" for one in newer)
        return Check(
            name, None, f"{said}; newer: {spoken}",
            "install the newest hansa: uv tool upgrade hansa, then start the node again",
        )  # fmt: skip
    few = ", ".join(one["what"] for one in seen["newer"])
    return Check(name, True, f"{said}; one network claims {few}" if few else said)


def _opened(found: dict[str, Any]) -> str:
    """Return what lets peers in: the port, and the address if it is another than ours."""
    port = found["reachability"]["port"]
    mend = f"let TCP port {port} in: forward it to this machine at the router, open the firewall"
    return f"{mend}; {more}" if (more := _announced(found)) else mend


def _announced(found: dict[str, Any]) -> str:
    """Return how peers are told of the address that they see, when they are told of another."""
    hosts = [one["what"] for one in found["observed"]]
    if not hosts or set(hosts) & set(found["own_hosts"]):
        return ""
    if found["reachability"]["scope"] != "public":
        return ""
    return f"peers see this machine at {hosts[0]} and are told {_told(found)}: set peer.advertise"


def _told(found: dict[str, Any]) -> str:
    return ", ".join(found["own_hosts"][:2]) or "nothing"


def _networks(count: int) -> str:
    return show_as.counted(count, "network")
