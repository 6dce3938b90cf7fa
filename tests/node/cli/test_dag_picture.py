"""The picture of a history: whole, well-formed, without overlaps, and inert."""

from __future__ import annotations

import itertools
import random
import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from crdt import Audit, EntryType
from node.cli.dag_layout import layout
from node.cli.dag_picture import BOX_HEIGHT, BOX_WIDTH, OPERATION_COUNT_MAX, Words, picture
from tests.crdt.histories import History
from tests.writers import key_of

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</title><script>alert("x")</script>&amp;\x00\x1b\u202e\ud800'


def drawn(audited: Audit, words: Words | None = None) -> ET.Element:
    return ET.fromstring(picture(audited, words or Words("thing", ("It shows.",), {}, {})))


def boxes(root: ET.Element) -> dict[str, tuple[float, float]]:
    """Return the corner of every box, on the whole picture."""
    found: dict[str, tuple[float, float]] = {}
    for block in root.findall(f"{SVG}g"):
        x, y = moved(block)
        for node in block.iter(f"{SVG}g"):
            if node.get("data-id"):
                dx, dy = moved(node)
                found[node.get("data-id", "")] = (x + dx, y + dy)
    return found


def moved(node: ET.Element) -> tuple[float, float]:
    x, y = re.findall(r"[-\d.]+", node.get("transform", ""))
    return float(x), float(y)


def overlaps(root: ET.Element) -> list[tuple[str, str]]:
    return [
        (one, other)
        for (one, (x, y)), (other, (u, v)) in itertools.combinations(boxes(root).items(), 2)
        if abs(x - u) < BOX_WIDTH and abs(y - v) < BOX_HEIGHT
    ]


def many_heads() -> History:
    made = History()
    first = made.put()
    for _ in range(50):
        made.put(first)
    return made


def tangled(count: int, seed: int) -> History:
    made, rng = History(), random.Random(seed)
    keys = [made.grant(f"d{number}") for number in range(3)]
    tips = [made.put()]
    for _ in range(count - 1):
        by, head = rng.choice(keys)
        recent = tips[-8:]
        cites = rng.sample(recent, min(len(recent), rng.randint(1, 4)))
        tips.append(made.put(*cites, by=by, head=head))
    made.entry(EntryType.REVOKE, by=made.recovery, key=keys[0][0])
    return made


def forked() -> History:
    made = History()
    first = made.put()
    thief = made.entry(EntryType.ADD_KEY, key=key_of("thief"))
    made.put(first, by=key_of("thief"), head=thief)
    made.entry(EntryType.ADOPT, by=made.recovery, on=made.entries[0])
    return made


def three_eras() -> History:
    made = History()
    made.put(made.put())
    one = made.checkpoint(1)
    made.put(one, era=one)
    made.checkpoint(1, b"rival")
    two = made.checkpoint(2)
    made.put(two, era=two)
    return made


def test_hard_cases_are_whole_and_nothing_lies_on_anything() -> None:
    for history in (many_heads(), tangled(200, 1), forked(), three_eras()):
        audited = history.audited()
        assert audited.refusals == ()
        root = drawn(audited)
        expected = {item.id.hex() for item in (*history.entries, *history.operations)}
        assert set(boxes(root)) == expected
        assert overlaps(root) == []
        x_max, y_max = float(root.get("width", "")), float(root.get("height", ""))
        for x, y in boxes(root).values():
            assert 0 <= x <= x_max - BOX_WIDTH
            assert 0 <= y <= y_max - BOX_HEIGHT


def test_the_same_audit_gives_the_same_bytes() -> None:
    words = Words("thing", (), {}, {})
    one, other = (picture(tangled(60, 3).audited(), words) for _ in range(2))
    assert one == other


def test_the_winner_the_loser_and_the_void_look_different() -> None:
    history = forked()
    late = history.put(history.operations[0])
    early = history.put(history.operations[0])
    audited = history.audited()
    kinds = {
        node.get("data-id"): node.get("class", "").split()
        for node in drawn(audited).iter(f"{SVG}g")
        if node.get("data-id")
    }
    winner, loser = sorted((late, early), key=lambda item: item.id, reverse=True)
    assert "win" in kinds[winner.id.hex()]
    assert "lost" in kinds[loser.id.hex()]
    assert "good" in kinds[history.operations[0].id.hex()]
    assert "void" in kinds[history.operations[1].id.hex()]
    assert "fork" in kinds[history.entries[0].id.hex()]
    assert "void" in kinds[history.entries[1].id.hex()]


def test_edges_of_a_fork_and_of_void_writes_are_marked() -> None:
    kinds = [node.get("class") for node in drawn(forked().audited()).iter(f"{SVG}path")]
    assert sorted(kinds) == ["edge adopted", "edge lost", "edge void"]


def test_hostile_text_injects_no_markup() -> None:
    history = History()
    put = history.put()
    words = Words(HOSTILE, (HOSTILE,), {put.id: HOSTILE}, {put.id: HOSTILE})
    text = picture(history.audited(), words)
    root = ET.fromstring(text)
    names = {node.tag.removeprefix(SVG) for node in root.iter()}
    assert names <= {"svg", "style", "g", "rect", "text", "title", "path"}
    assert not re.search("[\x00\x1b\u202e\ud800]", text)
    for node in root.iter():
        assert not [name for name in node.attrib if name.startswith("on") or "href" in name]
    assert '<script>alert("x")</script>' in "".join(root.itertext())


def test_light_and_dark_are_both_there() -> None:
    text = picture(History().audited(), Words("nothing", (), {}, {}))
    assert "prefers-color-scheme: dark" in text


def test_a_very_long_history_draws_its_newest_part() -> None:
    history = History()
    last = history.put()
    for _ in range(OPERATION_COUNT_MAX + 20):
        last = history.put(last)
    root = drawn(history.audited())
    shown = boxes(root)
    assert len(shown) == OPERATION_COUNT_MAX + 1
    assert last.id.hex() in shown
    assert "21 older operations are not drawn." in "".join(root.itertext())


def test_quiet_entries_of_a_long_log_are_cut() -> None:
    history = History()
    for number in range(40):
        history.grant(f"d{number}")
    put = history.put(head=history.entries[20])
    root = drawn(history.audited())
    entries = set(boxes(root)) - {put.id.hex()}
    assert entries == {history.entries[at].id.hex() for at in (0, 20, 40)}
    assert "+19" in "".join(root.itertext())


@given(st.data())
def test_a_layout_keeps_everything_apart(data: st.DataObject) -> None:
    layers = {
        bytes([number]): layer
        for number, layer in enumerate(data.draw(st.lists(st.integers(0, 5), max_size=20)))
    }
    pairs = [(a, b) for a in layers for b in layers if layers[a] < layers[b]]
    edges = data.draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []
    found = layout(layers, edges, size=10, gap=2)
    for one, other in itertools.combinations(layers, 2):
        if layers[one] == layers[other]:
            assert abs(found.places[one] - found.places[other]) >= 12 - 1e-6
    for (low, high), bends in found.bends.items():
        assert len(bends) == layers[high] - layers[low] - 1
    for place in found.places.values():
        assert 5 - 1e-6 <= place <= found.extent - 5 + 1e-6


def test_branches_of_an_open_fork_look_open() -> None:
    history = History()
    for name in ("left", "right"):
        history.grant(name, on=history.entries[0])
    kinds = [node.get("class") for node in drawn(history.audited()).iter(f"{SVG}path")]
    assert kinds == ["edge open", "edge open"]
