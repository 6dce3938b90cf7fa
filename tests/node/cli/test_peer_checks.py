"""What `hansa doctor` concludes from what peers say, and what it says to change."""

from __future__ import annotations

from typing import Any

import pytest

from node.cli.checks import Check
from node.cli.peer_checks import clock, peer_checks, reachability, versions

FINE: dict[str, Any] = {
    "version": "0.1.0", "peers": 5, "groups": 4,
    "reachability": {"port": 4001, "reached": 3, "tried": 3, "scope": "public", "inbound": 1},
    "observed": [{"what": "8.8.8.1", "count": 4}], "own_hosts": ["8.8.8.1"],
    "clock": {"offset_ms": 120, "groups": 4, "agreed": 4, "is_sure": True},
    "versions": {
        "spoken": ["sync/0"], "software": [{"what": "hansa/0.1.0", "count": 5}],
        "unknown": 0, "newer": [], "older": 0,
    },
}  # fmt: skip


def reached(**changes: Any) -> Check:
    rest = {k: changes.pop(k) for k in ("observed", "own_hosts", "peers") if k in changes}
    return reachability({**FINE, **rest, "reachability": {**FINE["reachability"], **changes}})


def timed(**changes: Any) -> Check:
    return clock({**FINE["clock"], **changes})


def ran(*newer: tuple[str, int], **changes: Any) -> Check:
    seen = [{"what": what, "count": count} for what, count in newer]
    return versions({**FINE, "versions": {**FINE["versions"], "newer": seen, **changes}})


def test_a_node_in_order_needs_nothing() -> None:
    assert [(one.ok, one.mend) for one in peer_checks(FINE)] == [(True, "")] * 3


def test_who_cannot_be_dialled_is_told_which_port_to_open_and_which_address_to_say() -> None:
    check = reached(reached=1, own_hosts=["192.168.0.7"])
    assert check.ok is None
    assert "1 of 3 peers elsewhere on the internet" in check.found
    assert "TCP port 4001" in check.mend
    assert "8.8.8.1" in check.mend
    assert "192.168.0.7" in check.mend
    assert "peer.advertise" in check.mend


def test_who_is_reached_and_tells_peers_another_address_is_told_so() -> None:
    check = reached(own_hosts=["192.168.0.7"])
    assert check.ok is True
    assert check.mend.endswith("set peer.advertise")
    on_lan = reached(own_hosts=["10.0.0.9"], scope="private")
    assert (on_lan.ok, on_lan.mend) == (True, "")
    assert "on this LAN" in on_lan.found


@pytest.mark.parametrize(
    ("changes", "ok", "mend"),
    [
        ({"peers": 0, "tried": 0, "reached": 0}, None, "p2p.bootstrap"),
        ({"tried": 0, "reached": 0, "scope": None, "inbound": 0}, None, "ask again"),
        ({"tried": 0, "reached": 0, "scope": None, "inbound": 2}, True, ""),
        ({"tried": 2, "reached": 1}, None, "TCP port 4001"),
    ],
)
def test_what_cannot_be_known_is_no_fault(
    changes: dict[str, Any], ok: bool | None, mend: str
) -> None:
    check = reached(**changes)
    assert check.ok is ok
    assert mend in check.mend
    assert bool(check.mend) is bool(mend)


def test_a_clock_is_called_wrong_by_most_of_three_networks_and_by_nobody_else() -> None:
    wrong = timed(offset_ms=-40_000)
    assert wrong.ok is False
    assert "ahead of 4 networks" in wrong.found
    assert "timedatectl" in wrong.mend
    assert timed(offset_ms=9_000).ok is None
    unsure = timed(offset_ms=10**11, groups=2, agreed=2, is_sure=False)
    assert unsure.ok is None
    assert "too few" in unsure.found
    assert unsure.mend.startswith("compare with a time server")
    assert timed(offset_ms=None, groups=0).ok is None


def test_an_update_is_advised_when_two_networks_speak_something_newer() -> None:
    one = ran(("sync/1", 1))
    assert (one.ok, one.mend) == (True, "")
    assert "one network claims sync/1" in one.found
    two = ran(("sync/1", 2))
    assert two.ok is None
    assert "sync/1 in 2 networks" in two.found
    assert "uv tool upgrade hansa" in two.mend
    assert "2 of them older" in ran(older=2).found
    assert "no peer says" in ran(software=[]).found
