"""Each bug planted in the production code is caught, by seeds that nobody picked."""

from __future__ import annotations

import os
import random
import secrets

import pytest

from tests.sim import planted_quotas
from tests.sim.planted import BUGS, Bug
from tests.sim.schedules import play

WORLD_COUNT_MAX, LIFE_COUNT_MAX = 1_500, 200
"""The rarest bug shows in about one world of fifty, or one life of twenty."""
PLAY_COUNT_MAX = 3
"""A play of its own (`Bug.play`) is made to show its bug, whatever the seed."""
SOUND_COUNT = 4


def seed_base() -> int:
    """Drawn anew each time; `HANSA_SIM_SEED` repeats one."""
    return int(os.environ.get("HANSA_SIM_SEED", secrets.randbelow(10**9)))


def caught_by(bug: Bug, base: int) -> int:
    """Return the first seed that shows the bug."""
    count = WORLD_COUNT_MAX if bug.steps is None else LIFE_COUNT_MAX
    if bug.play is not None:
        count = PLAY_COUNT_MAX
    with bug.plant():
        for seed in range(base, base + count):
            try:
                bug.run(seed)
            except Exception:  # whatever a bug makes of it: nobody fails to see that
                return seed
    pytest.fail(f"{bug.name} got by {count} seeds from {base} on: {bug.breaks}")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BUGS))
def test_a_planted_bug_is_caught_and_its_seed_is_sound_without_it(name: str) -> None:
    bug, base = BUGS[name], seed_base()
    print(f"HANSA_SIM_SEED={base}")
    seed = caught_by(bug, base)
    for one in {seed, *range(max(base, seed - SOUND_COUNT), seed)}:
        bug.run(one)


def test_there_are_enough_of_them_and_each_says_what_it_breaks() -> None:
    assert len(BUGS) >= 30
    assert planted_quotas.quota_ignored.__name__ in BUGS
    assert all(len(bug.breaks) > 20 for bug in BUGS.values())


def test_nothing_stays_planted() -> None:
    seed = random.Random(1).randrange(10**6)
    for bug in BUGS.values():
        with bug.plant():
            pass
    assert play(seed)[1] is None
