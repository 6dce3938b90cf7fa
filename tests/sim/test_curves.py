"""A share of the curves: small towns, fewer operations; and that the picture is one."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.sim.charts import PANELS, draw
from tests.sim.curves import DROPPED, SIZES, Plan, Survey, survey
from tests.sim.independent import Violation
from tests.sim.shared import shared_work
from tests.sim.town import MESH_HIGH

SMALL = Plan(live_count=4, burst_count=50, parted_count=10)
DATA = Path(__file__).resolve().parents[2] / "docs" / "curves.json"


@pytest.mark.slow
@pytest.mark.parametrize("node_count", SIZES[:2])
def test_a_town_converges_and_what_it_sends_hangs_together(node_count: int) -> None:
    row = survey(node_count, 11, SMALL)
    assert 0 < row.half_s <= row.all_s <= row.worst_s < 1
    assert row.burst_s < 1, "gossip alone brought everything"
    assert row.healed_s < 60
    # Nobody is sent a frame by more neighbours than it has in its mesh; all but one are copies.
    assert 1 <= row.live.gossip_messages <= MESH_HIGH
    assert row.live.gossip_bytes > row.live.gossip_messages * row.item_bytes
    assert row.join_bytes > row.operations * row.item_bytes * 0.8
    assert row.operations == 4 + 2 * 50 + 2 * 10


@pytest.mark.slow
def test_one_seed_twice_gives_the_same_figures() -> None:
    first, again = (replace(survey(10, 5, SMALL), cpu_s=0) for _ in range(2))
    assert first == again


def test_a_survey_in_which_something_is_lost_has_no_figures() -> None:
    with shared_work():
        one = Survey(10, 1, Plan(live_count=1))
        one.town.run(60_000)
        one._live()
        node = one.town.nodes[one.names[3]]
        n = node.disk.numbers.pop(one.items[0].id)
        del node.disk.items[n]
        with pytest.raises(Violation, match="sets differ"):
            one.check()


def test_the_data_beside_the_page_have_every_size_and_all_that_is_drawn() -> None:
    said = json.loads(DATA.read_text())
    assert {row["nodes"] for row in said["rows"]} == set(SIZES)
    assert (said["plan"], said["dropped"]) == (asdict(Plan()), DROPPED)
    for panel in PANELS:
        for figure in panel.curves.values():
            assert all(figure(row) <= panel.ticks[-1] for row in said["rows"]), panel.title


def test_the_picture_is_a_png_with_every_curve_in_it() -> None:
    raw = draw(json.loads(DATA.read_text())["rows"])
    assert raw.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", raw[16:24])
    size = struct.unpack(">I", raw[33:37])[0]
    assert raw[37:41] == b"IDAT"
    pixels = zlib.decompress(raw[41 : 41 + size])
    assert len(pixels) == height * (1 + 3 * width)
    assert len({pixels[at : at + 3] for at in range(1, 3 * width, 3)}) >= 1
    assert pixels.count(b"\x09\x69\xda") > 500, "the first colour of the curves"
