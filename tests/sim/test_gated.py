"""On a network that asks for work, false stamps found nothing, in whatever order they come."""

from __future__ import annotations

import pytest

from tests.crdt import reference as ref
from tests.crdt.reference import RefEntry
from tests.sim.gated import BITS, play_gated


def test_false_stamps_are_refused_by_all_and_good_ones_admitted() -> None:
    works: list[int] = []
    for seed in range(40):
        world = play_gated(seed)
        geneses = [one.what for one in world.made if isinstance(one.what, RefEntry)]
        works += [one.work for one in geneses if one.type == ref.GENESIS]
    assert works.count(-1) > 20, "no stamp, and stamps of another length"
    assert sum(0 <= work < BITS for work in works) > 20, "wrong, another's, of elsewhere"
    assert sum(work >= BITS for work in works) > 2 * 40 + 5, "newcomers who did the work"


def play_many(count: int) -> None:
    for seed in range(count):
        play_gated(seed)


def test_a_forgotten_stamp_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crdt.stamps.StampBatch.check", lambda *_: None)
    with pytest.raises(AssertionError, match="admitted invalid"):
        play_many(40)
