"""Golden bytes of card operations and of what the engine is given, and garbage for the decoder.

The engine's own bytes are pinned too: another pycrdt that writes others has to be looked at before
it is let in, because an operation's body starts as what it writes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes, encode
from crdt.cards import CardDocument, open_card
from crdt.cards.engine import VERSION
from tests.crdt.cards.writing import ANN, edit, seed, shown
from tests.wire.hexdump import hexdump

ROOT = Path(__file__).resolve().parents[2]
START = seed("Hi 😀", "old")

BODY = hexdump("""
    93  # array of 3
    00  # version
    91  # table: one id, that of the put the edit was made on
    c4 20 bf 7d b3 5a 61 03 2f 8e 45 d1 01 d1 cb c3 c1 17 34 2c fb
    d8 4b de b5 93 51 1f 1a cc 8c 6e 5b e4
    c4 8f  # the update
    01 05 00 00  # one client with 5 structs: client 0, from clock 0
    84 01 04 03 c3 a9 21  # clocks 0, 1: String after unit 4 of the put, "é!"
    28 01 04 74 61 67 73 03 6e 65 77 01 78  # clock 2: in "tags" under "new", true
    27 01 05 65 76 61 6c 73 40  # clock 3: in "evals" under the writer's key in hex ...
    33 35 30 36 39 63 65 61 35 31 64 34 62 37 34 31 35 37 61 66 64 62 33 64
    64 62 39 65 61 32 31 31 65 30 62 35 30 66 38 39 39 64 37 35 61 38 61 66
    30 30 39 63 33 63 36 39 30 61 38 32 37 36 36 64
    01  # ... a Map
    28 00 00 03 04 6d 6d 6c 75 01 7c 3f 00 00 00  # clock 4: in own clock 3, "mmlu", 0.5
    28 00 00 03 04 72 75 6e 73  # clock 5: in own clock 3, "runs",
    01 76 02 01 61 78 01 62 75 02 7c 3f 80 00 00 7e  # {"a": true, "b": [1, null]}
    01 01 01 03 03  # deleted: of client 1, one range, clocks 3 to 5: the character and the tag
""")

WOVEN_SEED = hexdump("""
    01 02 01 00  # one client with 2 structs: client 1, which is the document, from clock 0
    04 01 04 74 65 78 74 07 48 69 20 f0 9f 98 80  # in "text", "Hi 😀"
    28 01 04 74 61 67 73 03 6f 6c 64 01 78  # in "tags" under "old", true
    00  # nothing deleted
""")


def change(draft) -> None:
    draft.splice(3, 1, "é!")
    draft.add_tag("new")
    draft.remove_tag("old")
    draft.set_evaluation(ANN, "mmlu", 0.5)
    draft.set_evaluation(ANN, "runs", {"b": [1, None], "a": True})


def test_the_engine_is_the_one_whose_bytes_are_pinned_here() -> None:
    assert VERSION == "0.14.13"


def test_an_edit_makes_exactly_these_bytes() -> None:
    assert edit([START], change).content.raw == BODY


def test_these_bytes_make_exactly_this_card() -> None:
    card = open_card(BODY)
    assert card.table == (START.id,)
    content = shown(START, edit([START], change))
    assert content.digest().hex() == (
        "c3d9f99b8525e7d42ed33c5735c6b4532b752b31a547587f2a84315df2c46acd"
    )
    assert content.canonical_json().startswith(b'{"evals":{"35069cea51d4')


def test_a_document_of_a_seed_is_exactly_these_bytes() -> None:
    assert CardDocument.of([START]).state() == WOVEN_SEED


@given(st.binary(max_size=200))
def test_garbage_is_malformed_and_nothing_worse(raw: bytes) -> None:
    for body in (raw, encode([0, [], raw]), encode([0, [b"1" * 32], raw])):
        try:
            card = open_card(body)
        except MalformedBytes:
            continue
        assert card.raw == body


@given(st.data())
def test_a_golden_body_with_bytes_changed_is_another_or_malformed(data: st.DataObject) -> None:
    body = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        card = open_card(bytes(body))
    except MalformedBytes:
        return
    assert card.raw == bytes(body)


@pytest.mark.slow
def test_mutated_bodies_crash_nothing() -> None:
    # In a process of its own, because a crash of the engine takes its process along.
    command = [sys.executable, "-m", "tests.crdt.cards.fuzzing", "4000", "1"]
    ended = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert '"applied"' in ended.stdout
