"""SIGKILL at random moments loses no acknowledged write and lets no invalid one in.

A share of what `python -m tests.e2e.crashing` does, with other kills each time; the seed is printed
and HANSA_CRASH_SEED brings the same ones back.
"""

from __future__ import annotations

import os
import secrets

import pytest

from tests.e2e.crashing import Figures, campaign

KILLS = 12


@pytest.mark.e2e
def test_no_kill_costs_an_acknowledged_write_or_lets_an_invalid_one_in(tmp_path, capsys):
    seed = int(os.environ.get("HANSA_CRASH_SEED") or secrets.randbits(32))
    with capsys.disabled():
        print(f"\nHANSA_CRASH_SEED={seed}")
    figures = Figures()
    campaign(tmp_path, figures, kills=KILLS, seed=seed, world_kills=KILLS // 2)
    assert figures.kills == KILLS
    assert (figures.acknowledged_lost, figures.invalid_found) == (0, 0)
    # What would make the rest say nothing: no load, or kills that hit nobody at work.
    assert figures.acknowledged_writes > 100
    assert figures.invalid_sent > 0
    assert figures.kills_with_write_in_flight > 0
