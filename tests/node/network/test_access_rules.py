"""The operator's lists, and how many strangers are let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network import BadAddress
from node.network.access_rules import AccessRules
from node.network.doors import Doors
from tests.node.network.books import peer

GOOD, BAD = peer("good"), peer("bad")
OPEN = AccessRules.parse((), ())


def test_without_lists_everybody_may() -> None:
    assert OPEN.may_knock("8.8.4.4")
    assert OPEN.may_stay(BAD, "8.8.4.4")


def test_deny_keeps_out_by_network_before_the_handshake_and_by_id_after() -> None:
    rules = AccessRules.parse((), ("8.8.0.0/16", "2600::/16", BAD))
    assert not rules.may_knock("8.8.4.4")
    assert not rules.may_knock("::ffff:8.8.4.4")
    assert not rules.may_knock("2600::1")
    assert rules.may_knock("8.9.4.4")
    assert not rules.may_stay(BAD, "8.9.4.4")
    assert rules.may_stay(GOOD, "8.9.4.4")


def test_allow_leaves_out_all_others_and_deny_wins() -> None:
    rules = AccessRules.parse((GOOD, "10.0.0.0/8"), ("10.6.0.0/16",))
    assert rules.may_stay(GOOD, "8.8.4.4")
    assert rules.may_stay(BAD, "10.1.2.3")
    assert not rules.may_stay(BAD, "8.8.4.4")
    assert not rules.may_stay(GOOD, "10.6.0.1")
    assert rules.may_knock("8.8.4.4"), "it may be the peer whose id is allowed"
    assert not AccessRules.parse(("10.0.0.0/8",), ()).may_knock("8.8.4.4")
    assert not AccessRules.parse(("10.0.0.0/8",), ()).may_stay(GOOD, "a.name.org")


@pytest.mark.parametrize("entry", ["", "nobody", "10.0.0.1/8", "300.1.1.1/8", GOOD[:-1]])
def test_an_entry_that_is_neither_is_named(entry: str) -> None:
    with pytest.raises(BadAddress, match="neither a peer id nor a network"):
        AccessRules.parse((), (entry,))


def test_one_group_fills_its_share_of_the_house_and_others_still_get_in() -> None:
    doors = Doors(OPEN, count_max=10, group_count_max=3)
    crowd = [doors.enter(f"8.8.{n}.1", 5000 + n) for n in range(5)]
    assert [one is not None for one in crowd] == [True, True, True, False, False]
    assert doors.enter("9.9.9.9", 1) is not None
    doors.leave("8.8.0.0/16")
    assert doors.enter("8.8.9.9", 1) == "8.8.0.0/16"
    ports = [doors.enter("127.0.0.1", n) for n in range(5)]
    assert all(ports), "nodes of one machine are many"
    assert doors.enter("127.0.0.1", 9) is not None
    assert doors.enter("7.7.7.7", 1) is None, "the house is full"


def test_who_is_denied_takes_no_place() -> None:
    doors = Doors(AccessRules.parse((), ("8.8.0.0/16",)), count_max=1, group_count_max=1)
    assert doors.enter("8.8.4.4", 1) is None
    assert doors.enter("9.9.9.9", 1) is not None


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_whoever_comes_and_goes_no_bound_is_passed(steps: list[tuple[int, bool]]) -> None:
    doors = Doors(OPEN, count_max=6, group_count_max=2)
    inside: list[str] = []
    for network, leaves in steps:
        if leaves and inside:
            doors.leave(inside.pop(0))
        elif (group := doors.enter(f"8.{network}.1.1", 7)) is not None:
            inside.append(group)
        assert len(inside) <= 6
        assert all(inside.count(group) <= 2 for group in inside)
    for group in inside:
        doors.leave(group)
    assert sum(doors.enter(f"9.{n}.1.1", 7) is not None for n in range(9)) == 6
