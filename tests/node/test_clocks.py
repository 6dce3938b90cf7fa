"""What peers' clocks say together, and how little a liar can make of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.clocks import NOTE_MS, OFFSET_MS_MAX, ClockReading, Skew, skew_of

NEAR = st.integers(-NOTE_MS // 2, NOTE_MS // 2)
ANY = st.integers(-(2**70), 2**70)


def reading(offset_ms: int) -> ClockReading:
    return ClockReading(offset_ms, 3)


def test_nobody_read_says_nothing() -> None:
    assert skew_of({}) == Skew(None, 0, 0)
    assert skew_of({"8.1.0.0/16": []}) == Skew(None, 0, 0)


def test_three_networks_that_agree_are_believed_and_two_are_not() -> None:
    two = {"a": [reading(40_000)], "b": [reading(40_100)]}
    assert skew_of(two) == Skew(40_050, 2, 2)
    assert not skew_of(two).is_sure
    three = skew_of({**two, "c": [reading(39_000)]})
    assert (three.offset_ms, three.is_sure) == (40_000, True)
    apart = skew_of({"a": [reading(-60_000)], "b": [reading(0)], "c": [reading(60_000)]})
    assert not apart.is_sure


@given(st.lists(NEAR, min_size=2, max_size=6), st.data())
def test_fewer_liars_than_honest_networks_move_nothing_however_many_ids_they_have(
    honest: list[int], data: st.DataObject
) -> None:
    readings = {f"honest {n}": [reading(offset)] for n, offset in enumerate(honest)}
    for n in range(data.draw(st.integers(0, len(honest) - 1))):
        lies = data.draw(st.lists(ANY, min_size=1, max_size=20))
        readings[f"liar {n}"] = [reading(lie) for lie in lies]
    skew = skew_of(readings)
    assert skew.offset_ms is not None
    assert min(honest) - 1 <= skew.offset_ms <= max(honest) + 1
    assert skew.agreed >= len(honest)


@given(st.dictionaries(st.text(max_size=3), st.lists(ANY, max_size=4), max_size=5))
def test_whatever_is_said_the_result_is_bounded(said: dict[str, list[int]]) -> None:
    skew = skew_of({group: [reading(one) for one in lies] for group, lies in said.items()})
    assert skew.offset_ms is None or abs(skew.offset_ms) <= OFFSET_MS_MAX
    assert skew.agreed <= skew.groups <= len(said)
