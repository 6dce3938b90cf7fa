"""The operator's lists, and how many strangers are let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.network import BadAddress
from node.network.access_rules import AccessRules
from node.network.doors import Doors, Place
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
    assert crowd[0] is not None
    doors.leave(crowd[0])
    assert doors.enter("8.8.9.9", 1) is not None
    ports = [doors.enter("127.0.0.1", n) for n in range(5)]
    assert all(ports), "nodes of one machine are many"
    assert doors.enter("127.0.0.1", 9) is not None
    assert doors.enter("7.7.7.7", 1) is None, "the house is full"


def test_who_is_denied_takes_no_place() -> None:
    doors = Doors(AccessRules.parse((), ("8.8.0.0/16",)), count_max=1, group_count_max=1)
    assert doors.enter("8.8.4.4", 1) is None
    assert doors.enter("9.9.9.9", 1) is not None


def test_a_newcomer_makes_room_and_whoever_proved_who_it_is_stays() -> None:
    doors = Doors(OPEN, count_max=4, group_count_max=2)
    first, second, third, fourth = (doors.enter(f"8.{network}.1.1", 7) for network in (1, 1, 2, 3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert fourth is not None
    doors.stay(first)
    assert doors.who_makes_room("8.1.9.9", 7) is second, "the only one of its own network"
    assert doors.who_makes_room("8.1.9.9", 7) is None, "it was told already"
    assert doors.who_makes_room("9.9.9.9", 7) is third, "the longest there"
    doors.leave(third)
    assert doors.who_makes_room("9.9.9.9", 7) is None, "there is room"
    assert doors.enter("9.9.9.9", 7) is not None
    doors.stay(fourth)
    assert doors.enter("7.7.7.7", 7) is None


def test_nobody_makes_room_for_whom_the_operator_denies() -> None:
    doors = Doors(AccessRules.parse((), ("8.8.0.0/16",)), count_max=1, group_count_max=1)
    assert doors.enter("9.9.9.9", 1) is not None
    assert doors.who_makes_room("8.8.4.4", 1) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["comes", "stays", "goes"]))))
def test_whoever_comes_and_goes_no_bound_is_passed(steps: list[tuple[int, str]]) -> None:
    doors = Doors(OPEN, count_max=6, group_count_max=2)
    inside: list[Place] = []
    proved: list[Place] = []
    for network, step in steps:
        if step == "goes" and inside:
            gone = inside.pop(0)
            doors.leave(gone)
            proved = [one for one in proved if one is not gone]
        elif step == "stays" and inside:
            doors.stay(inside[-1])
            proved.append(inside[-1])
        elif (place := doors.enter(f"8.{network}.1.1", 7)) is not None:
            inside.append(place)
        elif (newcomer := doors.who_makes_room(f"8.{network}.1.1", 7)) is not None:
            assert newcomer not in proved
            inside.remove(newcomer)
            doors.leave(newcomer)
            place = doors.enter(f"8.{network}.1.1", 7)
            assert place is not None
            inside.append(place)
        groups = [one.group for one in inside]
        assert len(inside) <= 6
        assert all(groups.count(group) <= 2 for group in groups)
    for place in inside:
        doors.leave(place)
    assert sum(doors.enter(f"9.{n}.1.1", 7) is not None for n in range(9)) == 6


def test_those_behind_relays_share_a_group_and_send_nobody_away() -> None:
    doors = Doors(OPEN, count_max=4, group_count_max=2)
    first, second = doors.enter_relayed(), doors.enter_relayed()
    assert first is not None
    assert second is not None
    assert doors.enter_relayed() is None
    direct = [doors.enter("8.8.4.4", 1), doors.enter("9.9.4.4", 1)]
    assert None not in direct
    assert doors.who_makes_room("7.7.4.4", 1) is direct[0], "a newcomer's socket, and no circuit"
    doors.leave(first)
    assert doors.enter_relayed() is not None
    assert doors.enter_relayed() is None
