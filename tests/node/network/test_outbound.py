"""Whom a node chooses to connect to, and how little of that an attacker decides."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import PeerId
from node.network.addressbook import AddressBook
from node.network.addresses import PeerAddress
from node.network.outbound import (
    ANCHOR_AFTER_S,
    ANCHOR_COUNT_MAX,
    ANCHOR_FAILURES_MAX,
    RETURN_S,
    STABLE_S,
    Outbound,
    group_max,
    informant_max,
)
from tests.node.network.books import NOW_S, a_book, address, dice, peer, public


def outbound_of(book: AddressBook, *, count: int = 8, bootstrap: set[PeerId] | None = None):
    return Outbound(book, count=count, bootstrap=bootstrap or set(), may=lambda _peer, _host: True)


def fill(outbound: Outbound, now_s: float, rng: random.Random) -> list[PeerAddress]:
    """Dial whomever is chosen, until nobody is; all answer."""
    chosen: list[PeerAddress] = []
    while (one := outbound.next_dial([], now_s, rng)) is not None:
        outbound.connected(one, one.group, now_s)
        outbound.proven(one.peer, now_s)
        chosen.append(one)
    return chosen


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 24),
    liar_count=st.integers(1, 4),
    network_count=st.integers(1, 30),
    honest_count=st.integers(0, 6),
)
def test_a_flood_through_few_informants_gets_no_more_than_their_share(
    seed: int, count: int, liar_count: int, network_count: int, honest_count: int
) -> None:
    """An eclipse attempt: unlimited addresses that all answer, told again and again.

    The attacker holds some informants and networks. It also repeats what honest ones tell, so that
    their addresses count as its own, and everything restarts from the file now and then.
    """
    rng = random.Random(seed)
    evil = {public(n, network=1 + n % network_count) for n in range(400)}
    good = [public(n) for n in range(10 * honest_count)]
    book, now_s = a_book(), NOW_S
    outbound = outbound_of(book, count=count)
    share = min(liar_count * informant_max(count), network_count * group_max(count))
    for _ in range(8):
        for _ in range(60):
            liar = f"liar {rng.randrange(liar_count)}"
            told = (
                rng.choice(good)
                if good and rng.random() < 0.2
                else rng.choice(sorted(evil, key=str))
            )
            book.hear(told, "exchange", liar, now_s, rng)
        for number, one in enumerate(good):
            if rng.random() < 0.2:
                book.hear(one, "exchange", f"honest {number % honest_count}", now_s, rng)
        fill(outbound, now_s, rng)
        links = outbound.links()
        assert sum(link.address in evil for link in links) <= share
        assert len(links) <= count
        groups = Counter(link.group for link in links)
        assert max(groups.values(), default=0) <= group_max(count)
        now_s += 5000.0
        outbound.look(now_s)
        for link in links:
            if link.address not in evil and rng.random() < 0.5:  # honest ones come and go
                outbound.lost(link.address.peer, now_s, rng)
        if rng.random() < 0.2:
            restarted = a_book()
            restarted.restore(book.all())
            book, outbound = restarted, outbound_of(restarted, count=count)


def test_under_a_flood_the_other_slots_go_to_honest_peers() -> None:
    for seed in range(20):
        book, rng = a_book(), dice(seed)
        evil = [public(n, network=1 + n % 99) for n in range(500)]
        for one in evil:
            book.hear(one, "exchange", "liar", NOW_S, rng)
        good = [public(n) for n in range(12)]
        for number, one in enumerate(good):
            book.hear(one, "exchange", f"honest {number % 4}", NOW_S, rng)
        chosen = fill(outbound_of(book), NOW_S, rng)
        assert len(chosen) == 8
        assert sum(one in good for one in chosen) >= 8 - informant_max(8) == 6


def test_one_network_is_chosen_once_whoever_tells_of_it() -> None:
    book, rng = a_book(), dice()
    for number in range(50):
        book.hear(public(number, network=5), "exchange", f"informant {number}", NOW_S, rng)
    assert len(fill(outbound_of(book), NOW_S, rng)) == 1


def test_nodes_of_one_lan_or_one_machine_are_each_their_own() -> None:
    book, rng = a_book(), dice()
    for number in range(1, 9):
        near = (
            address("127.0.0.1", port=4000 + number) if number % 2 else address(f"10.0.0.{number}")
        )
        book.hear(near, "exchange", f"informant {number}", NOW_S, rng)
    assert len(fill(outbound_of(book), NOW_S, rng)) == 8


def test_a_name_is_charged_to_the_network_that_it_turns_out_to_be() -> None:
    book, rng = a_book(), dice()
    for number in range(5):
        book.hear(address(f"n{number}.example.org"), "exchange", f"i{number}", NOW_S, rng)
        book.hear(public(number, network=3), "exchange", f"j{number}", NOW_S, rng)
    outbound = outbound_of(book)
    one = outbound.next_dial([], NOW_S, rng)
    while one is not None and one.kind != "dns":
        outbound.released(one.peer)
        one = outbound.next_dial([], NOW_S, rng)
    assert one is not None
    outbound.connected(one, public(0, network=3).group, NOW_S)
    left = fill(outbound, NOW_S, rng)
    assert [other.kind for other in left] == ["dns"], "that network has its share already"


def test_nobody_is_chosen_who_is_connected_bootstrap_kept_out_or_not_due() -> None:
    book, rng = a_book(), dice()
    inbound, boot, denied, late, free = (public(n) for n in range(5))
    for number, one in enumerate((inbound, boot, denied, late, free)):
        book.hear(one, "exchange", f"i{number}", NOW_S, rng)
    book.failed(late, NOW_S, rng, alone=False)
    outbound = Outbound(
        book, count=8, bootstrap={boot.peer}, may=lambda peer, host: host != denied.host
    )
    assert outbound.next_dial([inbound.peer], NOW_S, rng) == free
    assert outbound.next_dial([inbound.peer], NOW_S, rng) is None, "it is being dialled"


def test_bootstrap_peers_take_slots_and_anchors_come_first() -> None:
    book, rng = a_book(), dice()
    boot, anchor, other = (public(n) for n in range(3))
    for number, one in enumerate((anchor, other)):
        book.hear(one, "exchange", f"i{number}", NOW_S, rng)
        book.worked(one, NOW_S)
    book.set_anchor(anchor, anchor=True)
    outbound = outbound_of(book, count=2, bootstrap={boot.peer})
    outbound.connected(boot, boot.group, NOW_S)
    assert outbound.next_dial([], NOW_S, rng) == anchor
    assert outbound.missing_count == 0
    assert outbound.next_dial([], NOW_S, rng) is None
    assert outbound.up_count == 1


def test_peers_that_stayed_become_anchors_and_are_dropped_when_they_are_gone() -> None:
    book, rng = a_book(), dice()
    boot = public(99)
    for number in range(6):
        book.hear(public(number), "exchange", f"i{number}", NOW_S, rng)
    book.hear(boot, "bootstrap", None, NOW_S, rng)
    outbound = outbound_of(book, bootstrap={boot.peer})
    outbound.connected(boot, boot.group, NOW_S - 5)
    outbound.proven(boot.peer, NOW_S)
    chosen = []
    for order in range(6):
        one = outbound.next_dial([], NOW_S, rng)
        assert one is not None
        outbound.connected(one, one.group, NOW_S + order)
        chosen.append(one)
    for one in chosen[:5]:  # the last one never answered
        outbound.proven(one.peer, NOW_S)
    outbound.look(NOW_S + ANCHOR_AFTER_S - 1)
    assert not any(one.anchor for one in book.all())
    outbound.look(NOW_S + ANCHOR_AFTER_S + 9)
    anchors = {one.address for one in book.all() if one.anchor}
    assert anchors == set(chosen[:ANCHOR_COUNT_MAX])
    gone = chosen[0]
    outbound.lost(gone.peer, NOW_S + 700, rng)
    now_s = NOW_S + 700
    for _ in range(ANCHOR_FAILURES_MAX):
        known = book.get(gone)
        assert known is not None
        assert known.anchor
        now_s = known.next_s
        assert outbound.next_dial([chosen[4].peer], now_s, rng) == gone
        outbound.failed(gone.peer, now_s, rng, alone=False)
    outbound.look(now_s)
    assert {one.address for one in book.all() if one.anchor} == set(
        chosen[1 : ANCHOR_COUNT_MAX + 1]
    )


def test_a_connection_that_does_not_last_or_never_answers_is_a_failure() -> None:
    book, rng = a_book(), dice()
    for number in range(3):
        book.hear(public(number), "exchange", f"i{number}", NOW_S, rng)
    outbound = outbound_of(book)
    short, mute, good = fill_mutely(outbound, rng)
    outbound.proven(short.peer, NOW_S)
    outbound.proven(good.peer, NOW_S)
    outbound.lost(short.peer, NOW_S + STABLE_S - 1, rng)
    outbound.lost(mute.peer, NOW_S + STABLE_S + 1, rng)
    outbound.lost(good.peer, NOW_S + STABLE_S + 1, rng)
    failures = [known.failures for one in (short, mute, good) if (known := book.get(one))]
    assert failures == [1, 1, 0]
    known = book.get(good)
    assert known is not None
    assert RETURN_S <= known.next_s - (NOW_S + STABLE_S + 1) <= 2 * RETURN_S
    assert not outbound.links()


def fill_mutely(outbound: Outbound, rng: random.Random) -> list[PeerAddress]:
    chosen: list[PeerAddress] = []
    while (one := outbound.next_dial([], NOW_S, rng)) is not None:
        outbound.connected(one, one.group, NOW_S)
        chosen.append(one)
    return chosen


def test_an_attempt_at_a_peer_that_came_meanwhile_costs_it_nothing() -> None:
    book, rng = a_book(), dice()
    book.hear(public(1), "exchange", "i", NOW_S, rng)
    outbound = outbound_of(book)
    one = outbound.next_dial([], NOW_S, rng)
    assert one is not None
    outbound.released(one.peer)
    assert not outbound.links()
    assert book.all()[0].failures == 0
    outbound.connected(one, one.group, NOW_S)
    outbound.released(one.peer)
    assert outbound.up_count == 1, "what stands is not given up"


def test_a_node_that_wants_no_connections_of_its_own_makes_none() -> None:
    book, rng = a_book(), dice()
    book.hear(public(1), "exchange", "i", NOW_S, rng)
    assert outbound_of(book, count=0).next_dial([], NOW_S, rng) is None


def behind(relay: PeerAddress, name: str) -> PeerAddress:
    return replace(relay, peer=peer(name), relay=relay.peer)


def test_a_peer_behind_a_relay_is_dialled_only_while_the_relay_is_connected_anyway() -> None:
    rng, book, relay = dice(), a_book(), public(1)
    book.hear(behind(relay, "hidden"), "exchange", "x", NOW_S, rng)
    outbound = outbound_of(book)
    assert outbound.next_dial([], NOW_S, rng) is None
    assert outbound.next_dial([public(2).peer], NOW_S, rng) is None
    assert outbound.next_dial([relay.peer], NOW_S, rng) == behind(relay, "hidden")


def test_all_peers_behind_all_relays_get_the_share_of_one_group() -> None:
    rng, book = dice(), a_book()
    relays = [public(number) for number in range(20)]
    for number, relay in enumerate(relays):
        book.hear(behind(relay, f"hidden {number}"), "exchange", f"x {number}", NOW_S, rng)
    for count in (8, 16):
        outbound = outbound_of(book, count=count)
        connected = [relay.peer for relay in relays]
        got = 0
        while (one := outbound.next_dial(connected, NOW_S, rng)) is not None:
            outbound.connected(one, one.group, NOW_S)
            got += 1
        assert got == group_max(count)
