"""Why there are no invitations (docs/decisions/0016): the argument, run on real items.

Guests are real geneses; an invitation is a signature of the inviter, which costs it nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import pytest

from crdt import LOCAL, Capability, EntryType, Item, ItemId, Status, make_entry
from node.storage.memory import MemoryDisk
from tests.crdt.replicas import new_replica
from tests.writers import NETWORK, Writer, key_of

QUOTA = 2
HOST = Writer("host")
GUESTS = [Writer(f"guest {n}").genesis for n in range(QUOTA + 1)]

Rule = Callable[[Sequence[Item]], set[ItemId]]
"""Which of the guests that came, in this order, count."""


def first_come(arrived: Sequence[Item]) -> set[ItemId]:
    return {guest.id for guest in arrived[:QUOTA]}


def least_ids(arrived: Sequence[Item]) -> set[ItemId]:
    return set(sorted(guest.id for guest in arrived)[:QUOTA])


def none_when_too_many(arrived: Sequence[Item]) -> set[ItemId]:
    return {guest.id for guest in arrived} if len(arrived) <= QUOTA else set()


def everybody(arrived: Sequence[Item]) -> set[ItemId]:
    return {guest.id for guest in arrived}


def orders(guests: Iterable[Item]) -> list[tuple[Item, ...]]:
    """Every order in which some of the guests may come."""
    some = list(guests)
    return [
        order for count in range(len(some) + 1) for order in itertools.permutations(some, count)
    ]


def agrees(rule: Rule) -> bool:
    """Whether nodes that hold the same show the same."""
    found: dict[frozenset[ItemId], set[ItemId]] = {}
    return all(
        found.setdefault(frozenset(one.id for one in order), rule(order)) == rule(order)
        for order in orders(GUESTS)
    )


def lasts(rule: Rule) -> bool:
    """Whether who counts still counts when more is known."""
    return all(rule(order[:-1]) <= rule(order) for order in orders(GUESTS) if order)


def is_bounded(rule: Rule) -> bool:
    return all(len(rule(order)) <= QUOTA for order in orders(GUESTS))


def is_useful(rule: Rule) -> bool:
    return all(
        rule(order) == {one.id for one in order} for order in orders(GUESTS) if len(order) <= QUOTA
    )


@pytest.mark.parametrize(
    ("rule", "fails"),
    [
        (first_come, agrees),
        (least_ids, lasts),
        (none_when_too_many, lasts),
        (everybody, is_bounded),
    ],
)
def test_each_rule_that_suggests_itself_fails_in_one_way(
    rule: Rule, fails: Callable[[Rule], bool]
) -> None:
    properties = (agrees, lasts, is_bounded, is_useful)
    assert [one for one in properties if not one(rule)] == [fails]


def test_no_rule_at_all_is_useful_bounded_and_judged_by_causes() -> None:
    """Guests cite no other guest: a rule by causes is a set of those that are valid."""
    good = []
    for valid in itertools.product((False, True), repeat=len(GUESTS)):
        chosen = {guest.id for guest, yes in zip(GUESTS, valid, strict=True) if yes}

        def rule(arrived: Sequence[Item], chosen: set[ItemId] = chosen) -> set[ItemId]:
            return {guest.id for guest in arrived} & chosen

        assert agrees(rule)
        assert lasts(rule)
        if is_useful(rule) and is_bounded(rule):
            good.append(chosen)
    assert good == []


def test_a_number_in_the_inviters_log_bounds_a_path_and_not_the_tree() -> None:
    """Forty entries with the number one: each is valid alone, so all of them are."""
    replica = new_replica(MemoryDisk(b"e" * 16))
    forks = [
        make_entry(
            network=NETWORK, type=EntryType.ADD_KEY, account=HOST.account,
            predecessor=HOST.genesis.id, signer=HOST.key, key=key_of(f"guest {n}").public,
            capabilities=Capability.EDITOR,
        )
        for n in range(40)
    ]  # fmt: skip
    outcomes = replica.accept([HOST.genesis, *forks], source=LOCAL, now_ms=0).outcomes
    assert [one.status for one in outcomes] == [Status.NEW] * 41


def test_whoever_invites_can_put_an_honest_guest_out_by_the_least_id() -> None:
    """Ids are hashes of what one chooses: lesser ones than all guests have are soon found."""
    honest = [Writer(f"honest {n}").genesis for n in range(QUOTA)]
    assert least_ids(honest) == {guest.id for guest in honest}
    least = min(guest.id for guest in honest)
    made = (Writer(f"grind {n}").genesis for n in range(10_000))
    lesser = list(itertools.islice((one for one in made if one.id < least), QUOTA))
    assert least_ids([*honest, *lesser]) == {one.id for one in lesser}
