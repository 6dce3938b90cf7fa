"""The production rules against the slow reading: small histories whole, large ones at random.

Small: every linear extension of what was signed, and after every step of each. An order that
breaks causality is no extension, and is what `tests/sim/schedules.py` delivers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from node.storage.memory import MemoryDisk
from tests.crdt.reference import RefEntry, RefOperation
from tests.crdt.replicas import accept
from tests.sim.attacks import draw_world
from tests.sim.independent import Whole, whole_of
from tests.sim.press import Print
from tests.sim.schedules import new_replica, shown_on
from tests.sim.worlds import Made, World

ORDER_COUNT_MAX = 150
"""Orders of one history: a handful of concurrent things has more, and says no more."""
ITEM_COUNT = (4, 8)


def valid_things(world: World) -> list[Made]:
    """What is valid of a world when all of it is known, causes first."""
    whole = whole_of(world, frozenset(one.id for one in world.made))
    valid = {one.id for one in (*whole.entries, *whole.operations)}
    return [one for one in world.made if one.id in valid]


def causes_of(made: Made) -> set[bytes]:
    what = made.what
    if isinstance(what, RefEntry):
        return {what.predecessor} if what.predecessor else set()
    assert isinstance(what, RefOperation)
    return {what.account_head, *what.predecessors}


def linear_extensions(things: list[Made]) -> Iterator[list[Made]]:
    """Yield every order in which each thing comes after its causes, sorted by id at each choice."""
    order: list[Made] = []
    left = {one.id: one for one in things}

    def choose() -> Iterator[list[Made]]:
        if not left:
            yield list(order)
            return
        for id_ in sorted(left):
            if not causes_of(left[id_]) & left.keys():
                order.append(left.pop(id_))
                yield from choose()
                left[id_] = order.pop()

    yield from choose()


class Readings:
    """The slow rules for every set of things that comes up, each read once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: dict[frozenset[bytes], Whole] = {}

    def of(self, ids: frozenset[bytes]) -> Whole:
        if ids not in self._found:
            self._found[ids] = whole_of(self._world, ids)
        return self._found[ids]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(3, 9))
def test_every_linear_extension_of_a_small_history(seed: int, moves: int) -> None:
    world = draw_world(seed, Print(), moves_max=moves)
    things = valid_things(world)
    assume(ITEM_COUNT[0] <= len(things) <= ITEM_COUNT[1])
    readings = Readings(world)
    for number, order in enumerate(linear_extensions(things)):
        if number == ORDER_COUNT_MAX:
            break
        disk = MemoryDisk(b"e" * 16)
        replica = new_replica(disk)
        delivered: frozenset[bytes] = frozenset()
        for made in order:
            accept(replica, made.item)
            delivered |= {made.id}
            whole = readings.of(delivered)
            assert shown_on(disk) == whole.shown
        assert set(disk.numbers) == delivered


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_large_histories_in_random_orders(seed: int) -> None:
    world = draw_world(seed, Print(), moves_max=90, made_max=120)
    things = [one for one in world.made if one.item is not None and not one.withheld]
    whole = whole_of(world, frozenset(one.id for one in things))
    rng = random.Random(seed)
    for size in (1, 7, 1000):
        disk = MemoryDisk(b"e" * 16)
        replica = new_replica(disk)
        rng.shuffle(things)
        for _ in range(2):  # what had to leave the waiting room comes again
            for start in range(0, len(things), size):
                accept(replica, *(one.item for one in things[start : start + size]))
        assert shown_on(disk) == whole.shown


def test_a_chain_has_one_extension_and_strangers_have_all() -> None:
    world = draw_world(5, Print(), moves_max=6)
    geneses = [one for one in valid_things(world) if not causes_of(one)]
    count = len(list(linear_extensions(geneses)))
    assert count == [1, 1, 2, 6, 24][len(geneses)]
