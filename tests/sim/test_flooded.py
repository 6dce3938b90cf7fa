"""One account at full flood: others keep their speed, and a quota is kept without a loop."""

from __future__ import annotations

import pytest

from tests.sim.flooded import play_fairness, play_quota


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_beside_a_flood_a_quiet_account_takes_at_most_twice_its_time(seed: int) -> None:
    calm, loud = play_fairness(seed)
    assert 0 < loud <= 2 * calm


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_over_a_quota_is_left_alone_and_taken_once_there_is_room(seed: int) -> None:
    play_quota(seed)
