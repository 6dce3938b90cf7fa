"""Seeds that failed once on real code.

What a seed draws changes with the generators, so each find has an example of its own as well, where
it says; these cost little and have a better chance than most of being near something.
"""

from __future__ import annotations

import pytest

from tests.sim import worlds
from tests.sim.focus import focused
from tests.sim.scenario import cut, disk_full, live, prune
from tests.sim.schedules import play

SCHEDULES = {
    1379: "a keep list that names a card of a present delegate (test_late_words)",
    351: "a keep list that names what cites a lost branch (test_late_words)",
    22_600: "the root's operation of an unknown type endorses (test_late_words)",
}
REVOKED = {worlds.add_delegate: 30, worlds.revoke: 60}
ERAS = {worlds.put: 30, worlds.checkpoint: 40, worlds.rotate: 40}


@pytest.mark.parametrize("seed", SCHEDULES)
def test_a_schedule_that_failed_once(seed: int) -> None:
    assert play(seed)[1] is None


@pytest.mark.parametrize("seed", [93, 100_153, 200_373])
def test_a_world_with_cards_that_failed_once(seed: int) -> None:
    """93: a checkpoint on a lost branch under a root's edit; the others: as 22 600."""
    focused(seed).run()
    focused(seed, REVOKED).run()


@pytest.mark.parametrize("seed", [0, 47])
def test_a_life_with_eras_that_failed_once(seed: int) -> None:
    """0: a pruned store's last page was never done (test_storage); 47: a page of ids was passed
    while another fetch was under way (test_sync).
    """
    live(seed, 5 if seed == 0 else 4, 60, emphasis=ERAS, more_steps={prune: 30})


@pytest.mark.parametrize("seed", [70_001_293, 70_002_272, 70_003_445])
def test_a_life_in_which_a_kept_era_came_instead_of_an_endorsed_one(seed: int) -> None:
    """The checker knew only of eras that the present root endorses."""
    live(seed, 2, 50, more_steps={disk_full: 20, cut: 10})
