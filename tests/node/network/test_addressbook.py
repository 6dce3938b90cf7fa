"""The address book's bounds: what informants can put in, and what they cannot push out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.network import addressbook
from node.network.addressbook import (
    FRESH_S,
    INBOUND_COUNT_MAX,
    INFORMANT_COUNT_MAX,
    NAMED_COUNT_MAX,
    TRIED_COUNT_MAX,
    TRIED_FAILURES_MAX,
    TRIED_FORGOTTEN_S,
    UNTRIED_COUNT_MAX,
    UNTRIED_FAILURES_MAX,
    WAIT_MAX_S,
    AddressBook,
    Found,
    Known,
)
from tests.node.network.books import NOW_S, OWN, a_book, address, dice, peer, public

FOUND: list[Found] = ["exchange", "inbound"]
STEPS = ["hearing", "meeting", "working", "failing"]


def told_by(book: AddressBook, informant: str) -> list[Known]:
    return [one for one in book.all() if informant in one.informants]


def test_one_informant_names_so_many_and_then_displaces_only_its_own() -> None:
    book, rng = a_book(), dice()
    for number in range(10):
        book.hear(public(number), "exchange", "honest", NOW_S, rng)
    for number in range(100, 400):
        book.hear(public(number), "exchange", "liar", NOW_S, rng)
    assert len(told_by(book, "honest")) == 10
    assert len(told_by(book, "liar")) == INFORMANT_COUNT_MAX


def test_an_informant_that_repeats_others_takes_none_of_theirs_away() -> None:
    book, rng = a_book(), dice()
    for number in range(10):
        book.hear(public(number), "exchange", "honest", NOW_S, rng)
    for _ in range(3):
        for number in range(300):
            book.hear(public(number), "exchange", "liar", NOW_S, rng)
    assert len(told_by(book, "honest")) == 10
    assert len(told_by(book, "liar")) == INFORMANT_COUNT_MAX


def test_a_full_table_takes_from_whoever_told_most() -> None:
    book, rng = a_book(), dice()
    for number in range(UNTRIED_COUNT_MAX):
        informant = f"liar {number % (UNTRIED_COUNT_MAX // INFORMANT_COUNT_MAX)}"
        book.hear(public(number), "exchange", informant, NOW_S, rng)
    assert len(book) == UNTRIED_COUNT_MAX
    for number in range(5000, 5005):
        book.hear(public(number), "exchange", "honest", NOW_S, rng)
    assert len(book) == UNTRIED_COUNT_MAX
    assert len(told_by(book, "honest")) == 5


def test_a_crowd_that_comes_from_everywhere_leaves_alone_what_outbound_peers_told() -> None:
    book, rng = a_book(), dice()
    for number in range(40):
        book.hear(public(number), "exchange", "honest", NOW_S, rng)
    for number in range(100, 1500):
        one = public(number)
        book.hear(one, "inbound", one.group, NOW_S, rng)
    assert len(told_by(book, "honest")) == 40
    assert len(book) == 40 + INBOUND_COUNT_MAX


def test_the_first_informant_stays_named_whoever_repeats_it() -> None:
    book, rng = a_book(), dice()
    for name in ("honest", *(f"liar {n}" for n in range(50))):
        book.hear(public(1), "exchange", name, NOW_S, rng)
    (known,) = book.all()
    assert known.informants[0] == "honest"
    assert len(known.informants) == NAMED_COUNT_MAX


def test_the_operators_word_needs_no_informant_and_its_own_address_is_no_peer() -> None:
    book, rng = a_book(), dice()
    book.hear(address("8.8.8.8", "the node itself"), "exchange", "x", NOW_S, rng)
    assert not book.all()
    book.hear(public(1), "exchange", "liar", NOW_S, rng)
    book.hear(public(1), "operator", None, NOW_S, rng)
    assert book.all()[0].informants == []
    for _ in range(100):
        book.failed(public(1), NOW_S, rng, alone=False)
    assert len(book) == 1


def test_waits_double_up_to_an_hour_and_spread_by_half() -> None:
    book, rng = a_book(), dice()
    book.hear(public(1), "exchange", "x", NOW_S, rng)
    book.worked(public(1), NOW_S)
    waits = []
    for _ in range(20):
        book.failed(public(1), NOW_S, rng, alone=False)
        waits.append(book.all()[0].next_s - NOW_S)
    for failure, wait_s in enumerate(waits):
        middle_s = min(WAIT_MAX_S, 2.0 * 2**failure)
        assert 0.5 * middle_s <= wait_s <= 1.5 * middle_s
    assert len(set(waits)) == len(waits)
    known = book.all()[0]
    assert not known.due(NOW_S, alone=False)
    assert known.due(known.next_s, alone=False)
    assert known.due(NOW_S - 3 * WAIT_MAX_S, alone=False), "the clock was set back"
    book.stayed(public(1), NOW_S)
    assert known.failures == 0
    assert known.due(NOW_S, alone=False)


def test_failures_while_nobody_is_connected_are_not_held_against_anybody() -> None:
    book, rng = a_book(), dice()
    book.hear(public(1), "exchange", "x", NOW_S, rng)
    for _ in range(100):
        book.failed(public(1), NOW_S, rng, alone=True)
    (known,) = book.all()
    assert known.failures == 0
    for _ in range(UNTRIED_FAILURES_MAX - 1):
        book.failed(public(1), NOW_S, rng, alone=False)
    assert not known.due(NOW_S + 16, alone=False)
    assert known.due(NOW_S + 16, alone=True)
    assert not known.due(NOW_S + 1, alone=True)


def test_what_never_worked_is_forgotten_soon_and_what_did_only_after_a_week() -> None:
    book, rng = a_book(), dice()
    for number in (1, 2, 3):
        book.hear(public(number), "exchange", "x", NOW_S, rng)
    book.worked(public(2), NOW_S)
    book.worked(public(3), NOW_S)
    book.set_anchor(public(3), anchor=True)
    for _ in range(TRIED_FAILURES_MAX):
        for number in (1, 2, 3):
            book.failed(public(number), NOW_S, rng, alone=False)
    assert {one.address for one in book.all()} == {public(2), public(3)}
    for number in (2, 3):
        book.failed(public(number), NOW_S + TRIED_FORGOTTEN_S + 1, rng, alone=False)
    assert {one.address for one in book.all()} == {public(3)}


def test_more_that_worked_displace_the_oldest_of_the_most_crowded_group() -> None:
    book, rng = a_book(), dice()
    crowd = [public(number, network=9) for number in range(TRIED_COUNT_MAX - 1)]
    for order, one in enumerate([public(1), *crowd]):
        book.hear(one, "exchange", f"x{order // INFORMANT_COUNT_MAX}", NOW_S, rng)
        book.worked(one, NOW_S + order)
    book.set_anchor(crowd[0], anchor=True)
    for number in (2, 3):
        book.hear(public(number), "exchange", "y", NOW_S, rng)
        book.worked(public(number), NOW_S + 9999)
    tried = {one.address for one in book.all() if one.tried_s}
    assert len(tried) == TRIED_COUNT_MAX
    assert {public(1), public(2), public(3), crowd[0]} <= tried
    assert not {crowd[1], crowd[2]} & tried


def test_peers_are_told_of_that_were_met_in_the_last_day_one_address_each() -> None:
    book, rng = a_book(), dice()
    two = [address("8.8.8.8", "two homes"), address("9.9.9.9", "two homes")]
    for one in (*two, public(1), public(2), public(3)):
        book.hear(one, "exchange", "x", NOW_S, rng)
    for one in (*two, public(1)):
        book.met(one, NOW_S)
    book.worked(public(2), NOW_S - FRESH_S - 1)
    told = book.sample(lambda one: one != public(1), 32, NOW_S, rng)
    assert [one.peer for one in told] == [peer("two homes")]
    assert len(book.sample(lambda _one: True, 32, NOW_S, rng)) == 2
    assert len(book.sample(lambda _one: True, 1, NOW_S, rng)) == 1


def test_what_is_restored_is_within_the_bounds_and_without_the_node_itself() -> None:
    entries = [Known(public(n), "exchange", NOW_S, ["x"]) for n in range(UNTRIED_COUNT_MAX + 5)]
    tried = [
        Known(public(n, network=3), "exchange", NOW_S, ["x"], tried_s=1.0)
        for n in range(TRIED_COUNT_MAX + 5)
    ]
    book = AddressBook(OWN)
    book.restore([Known(address("8.8.8.8", "the node itself"), "exchange", 1), *entries, *tried])
    assert len(book) == UNTRIED_COUNT_MAX + TRIED_COUNT_MAX


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(
        st.tuples(st.sampled_from(STEPS), st.integers(0, 60)),
        max_size=200,
    ),
)
def test_whatever_happens_bounds_hold_and_hearing_displaces_nothing_tried(
    seed: int, steps: list[tuple[str, int]]
) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(addressbook, "UNTRIED_COUNT_MAX", 20)
        small.setattr(addressbook, "INBOUND_COUNT_MAX", 7)
        small.setattr(addressbook, "TRIED_COUNT_MAX", 8)
        small.setattr(addressbook, "INFORMANT_COUNT_MAX", 5)
        book, rng = a_book(), random.Random(seed)
        for order, (what, number) in enumerate(steps):
            one, now_s = public(number, network=1 + number % 7), NOW_S + order
            tried = {known.address for known in book.all() if known.tried_s}
            match what:
                case "hearing":
                    found = rng.choice(FOUND)
                    book.hear(one, found, f"i{rng.randrange(9)}", now_s, rng)
                    assert tried <= {known.address for known in book.all()}
                case "meeting":
                    book.met(one, now_s)
                case "working":
                    book.worked(one, now_s)
                case _:
                    book.failed(one, now_s, rng, alone=False)
            untried = [known for known in book.all() if not known.tried_s]
            assert len(untried) <= 20
            assert sum(known.found == "inbound" for known in untried) <= 7
            assert len(book) - len(untried) <= 8
            for name in {name for known in untried for name in known.informants}:
                assert sum(name in known.informants for known in untried) <= 5
            assert all(known.informants for known in book.all())
