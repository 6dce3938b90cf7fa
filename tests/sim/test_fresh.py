"""A share of the endless search in every run of the suite: seeds that nobody has tried."""

from __future__ import annotations

import os
import secrets
import time

import pytest

from tests.sim.focus import focused
from tests.sim.scenario import live
from tests.sim.schedules import play

SHARE_S = float(os.environ.get("HANSA_SIM_SECONDS", "60"))
"""For all three together, on one core."""
WORLDS_SHARE, CARDS_SHARE, LIVES_SHARE = 0.4, 0.3, 0.3


def fresh_base() -> int:
    """Drawn anew each time; `HANSA_SIM_SEED` repeats one."""
    return int(os.environ.get("HANSA_SIM_SEED", secrets.randbelow(2**40)))


@pytest.mark.slow
def test_fresh_worlds_end_in_agreement_in_any_order() -> None:
    base, until = fresh_base(), time.monotonic() + SHARE_S * WORLDS_SHARE
    seed = base
    while time.monotonic() < until:
        failure = play(seed)[1]
        if failure is not None:
            pytest.fail(
                f"{failure.name}: {failure.message}\n"
                f"again: python -m tests.sim.schedules --seed {seed} --count 1"
            )
        seed += 1
    assert seed > base


@pytest.mark.slow
def test_fresh_worlds_have_equal_cards() -> None:
    base, until = fresh_base(), time.monotonic() + SHARE_S * CARDS_SHARE
    seed = base
    while time.monotonic() < until:
        try:
            focused(seed).run()
        except Exception as error:
            pytest.fail(f"{error!r}\nagain: python -m tests.sim --cards --seed {seed}")
        seed += 1
    assert seed > base


@pytest.mark.slow
def test_fresh_lives_of_swarms_end_in_agreement() -> None:
    base, until = fresh_base(), time.monotonic() + SHARE_S * LIVES_SHARE
    seed = base
    while time.monotonic() < until:
        node_count, step_count = (3, 5, 9)[seed % 3], 60
        try:
            live(seed, node_count, step_count)
        except Exception as error:
            pytest.fail(f"{error!r}\nagain: make sim SEED={seed} NODES={node_count}")
        seed += 1
    assert seed > base
