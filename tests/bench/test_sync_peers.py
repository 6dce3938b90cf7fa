"""What a comparison makes of its samples, and what it says where it cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.sync_peers import LOWER_IS_BETTER, Comparison, Sizes, ratios, rounded, summary
from bench.systems import System

SYSTEMS = [System(name, {name: "1"}, (), {}) for name in ("hansa", "orbitdb", "hyperbee")]


def comparison(repeats: int = 3) -> Comparison:
    return Comparison(Path("nowhere"), Sizes(10, 5, 4, 4, 2, repeats), SYSTEMS)


def filled(factors: dict[str, float]) -> Comparison:
    """Three samples of every figure, of which the middle one is the system's factor."""
    one = comparison()
    for row, figures in LOWER_IS_BETTER.items():
        for system in SYSTEMS:
            factor = factors[system.name]
            for scale in (9, 1, 0.5):
                one.add(row, system, dict.fromkeys(figures, factor * scale))
    one.latencies_ms = {name: [factor] * 20 for name, factor in factors.items()}
    return one


def test_a_figure_is_the_median_of_the_repeats() -> None:
    rows = summary(filled({"hansa": 2, "orbitdb": 4, "hyperbee": 8}))
    assert rows["join"]["orbitdb"] == dict.fromkeys(LOWER_IS_BETTER["join"], 4)
    assert rows["put"]["hyperbee"] == {"per_s": 8, "cpu_ms": 8}


def test_percentiles_are_of_all_live_writes_together() -> None:
    one = filled({"hansa": 2, "orbitdb": 4, "hyperbee": 8})
    one.latencies_ms["hansa"] = [float(number) for number in range(100)]
    live = summary(one)["live"]["hansa"]
    assert (live["p50_ms"], live["p95_ms"]) == (49.5, 95)


def test_a_ratio_over_one_means_that_hansa_is_better_whichever_way_the_figure_goes() -> None:
    found = ratios(summary(filled({"hansa": 2, "orbitdb": 4, "hyperbee": 1})))
    assert found["put"]["orbitdb"] == {"per_s": 0.5, "cpu_ms": 2}
    assert found["put"]["hyperbee"] == {"per_s": 2, "cpu_ms": 0.5}
    assert found["live"]["orbitdb"]["p95_ms"] == 2


def test_no_ratio_is_made_of_a_figure_that_is_too_small_to_be_seen() -> None:
    found = ratios(summary(filled({"hansa": 2, "orbitdb": 0, "hyperbee": 1})))
    assert found["join"]["orbitdb"] == {}


def test_every_system_has_its_turn_in_every_repeat_and_each_place_in_the_order() -> None:
    turns = [(number, system.name) for number, system in comparison().turns()]
    assert sorted(turns) == sorted((n, one.name) for n in range(3) for one in SYSTEMS)
    assert {turns[0][1], turns[3][1], turns[6][1]} == {one.name for one in SYSTEMS}


def test_figures_have_three_digits_and_whole_ones_all_of_theirs() -> None:
    assert [rounded(one) for one in (0.012345, 1.2345, 99.96, 1234567.8)] == [
        0.0123, 1.23, 100.0, 1234568,
    ]  # fmt: skip


def test_without_node_one_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["sync-peers", "--json", "--no-record"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[1:] == [
        "sync-peers: node is not found; install Node.js and npm, which bench/rivals needs"
    ]
