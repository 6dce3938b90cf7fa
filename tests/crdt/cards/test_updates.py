"""The parser of updates: what it takes comes back byte for byte, and nothing else passes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes, OperationId, decode, encode
from crdt.cards import CardBody, encode_card, open_card
from crdt.cards.updates import encode_update, parse_update
from crdt.cards.values import TRUE, Budget, canonical_value, read_value, write_value
from crdt.cards.varints import VARUINT_MAX, Reader, varuint
from tests.crdt.cards.worlds import make_world
from tests.wire.hexdump import hexdump

HELLO = "01 01 00 00  04 01 04 74657874 02 6869  00"

GOOD = {
    "one String": HELLO,
    "a String after another's unit": "01 01 00 00  84 01 03 01 68  00",
    "a String before another's unit": "01 01 00 00  44 01 03 01 68  00",
    "own deletions": "01 02 00 00  01 01 04 74657874 05  00 03  00",
    "a tag": "01 01 00 00  28 01 04 74616773 01 78 01 78  00",
    "a tag over another": "01 01 00 00  a8 01 03 01 78  00",
    "a Map and a number in it": "01 02 00 00  27 01 05 6576616c73 01 78 01"
    " 28 00 00 00 01 6e 01 7c 3f000000  00",
    "a deletion": "00  01  01 01 05 02",
    "two deletions": "00  01  01 02 00 02 03 01",
}

BAD = {
    "nothing": "",
    "a change of nothing": "00 00",
    "two clients": "02 01 00 00  04 01 04 74657874 01 68  00",
    "structs of another client": "01 01 01 00  04 01 04 74657874 01 68  00",
    "structs from a later clock": "01 01 00 01  04 01 04 74657874 01 68  00",
    "no struct": "01 00 00 00  00",
    "more structs than there are": "01 02 00 00  04 01 04 74657874 01 68  00",
    "trailing bytes": HELLO + " 00",
    "a count that is not minimal": "81 00 01 00 00  04 01 04 74657874 01 68  00",
    "a length that is not minimal": "01 01 00 00  04 01 04 74657874 81 00 68  00",
    "an integer over 53 bits": "01 01 00 00  84 ff ff ff ff ff ff ff 1f 00 01 68  00",
    "an integer without end": "01 01 00 00  84" + " ff" * 12,
    "an empty String": "01 01 00 00  04 01 04 74657874 00  00",
    "not UTF-8": "01 01 00 00  04 01 04 74657874 01 ff  00",
    "a surrogate in UTF-8": "01 01 00 00  04 01 04 74657874 03 eda080  00",
    "an unknown root": "01 01 00 00  04 01 04 6d657461 01 68  00",
    "a parent of unknown form": "01 01 00 00  04 02 04 74657874 01 68  00",
    "text under a key": "01 01 00 00  24 01 04 74657874 01 78 01 68  00",
    "a tag without a key": "01 01 00 00  08 01 04 74616773 01 78  00",
    "a value in a Map without a key": "01 01 00 00  08 00 01 00 01 78  00",
    "a skip": "01 01 00 00  0a 01  00",
    "JSON": "01 01 00 00  02 01 04 74657874 01 01 31  00",
    "binary": "01 01 00 00  23 01 04 74616773 01 78 01 00  00",
    "an embed": "01 01 00 00  05 01 04 74657874 01 31  00",
    "a format": "01 01 00 00  06 01 04 74657874 01 62 01 31  00",
    "a subdocument": "01 01 00 00  29 01 04 74616773 01 78 01 61 01 7e  00",
    "a move": "01 01 00 00  2b 01 04 74616773 01 78 00 00 00  00",
    "an Array": "01 01 00 00  27 01 05 6576616c73 01 78 00  00",
    "a Text in a Map": "01 01 00 00  27 01 05 6576616c73 01 78 02  00",
    "two values in a struct": "01 01 00 00  28 01 04 74616773 01 78 02 78 78  00",
    "GC of nothing": "01 01 00 00  00 00  00",
    "GC with flags": "01 01 00 00  20 01  00",
    "Deleted of nothing": "01 01 00 00  01 01 04 74657874 00  00",
    "Deleted without end": "01 01 00 00  01 01 04 74657874 81 80 04  00",
    "a reference to itself": "01 01 00 00  84 00 00 01 68  00",
    "a reference to what follows": "01 01 00 00  44 00 01 01 68  00",
    "a Map that follows": "01 01 00 00  28 00 00 05 01 6e 01 78  00",
    "a deletion of own clocks": "01 01 00 00  04 01 04 74657874 02 6869  01 00 01 00 01",
    "an empty deletion": "00  01  01 01 05 00",
    "a client without deletions": "00  01  01 00",
    "deletions that touch": "00  01  01 02 00 02 02 01",
    "deletions out of order": "00  01  01 02 05 01 00 01",
    "clients out of order": "00  02  02 01 00 01 01 01 00 01",
    "a client twice": "00  02  01 01 00 01 01 01 05 01",
    "more deletions than bytes": "00  ff ff ff ff 0f",
    "more ranges than bytes": "00  01  01 ff ff ff ff 0f",
    "more structs than bytes": "01 ff ff ff ff 0f 00 00",
    "a String longer than the update": "01 01 00 00  04 01 04 74657874 ff ff ff ff 0f 68  00",
    "undefined": "01 01 00 00  28 01 04 74616773 01 78 01 7f  00",
    "a big integer": "01 01 00 00  28 01 04 74616773 01 78 01 7a 0000000000000001  00",
    "an integer": "01 01 00 00  28 01 04 74616773 01 78 01 7d 01  00",
    "bytes": "01 01 00 00  28 01 04 74616773 01 78 01 74 01 00  00",
    "a double that fits a float": "01 01 00 00  28 01 04 74616773 01 78 01 7b 3fe0000000000000  00",
    "minus zero": "01 01 00 00  28 01 04 74616773 01 78 01 7c 80000000  00",
    "not a number": "01 01 00 00  28 01 04 74616773 01 78 01 7c 7fc00000  00",
    "infinity": "01 01 00 00  28 01 04 74616773 01 78 01 7c 7f800000  00",
    "two to the 53": "01 01 00 00  28 01 04 74616773 01 78 01 7c 5a000000  00",
    "unsorted keys": "01 01 00 00  28 01 04 74616773 01 78 01 76 02 01 62 78 01 61 78  00",
    "a key twice": "01 01 00 00  28 01 04 74616773 01 78 01 76 02 01 61 78 01 61 78  00",
    "the empty key twice": "01 01 00 00  28 01 04 74616773 01 78 01 76 02 00 78 00 78  00",
    "an array longer than the update": "01 01 00 00  28 01 04 74616773 01 78 01 75 ff ff ff 0f",
}


@pytest.mark.parametrize("dump", GOOD.values(), ids=GOOD.keys())
def test_a_good_update_comes_back_byte_for_byte(dump: str) -> None:
    raw = hexdump(dump)
    assert encode_update(parse_update(raw)) == raw


@pytest.mark.parametrize("dump", BAD.values(), ids=BAD.keys())
def test_anything_else_is_malformed(dump: str) -> None:
    with pytest.raises(MalformedBytes):
        parse_update(hexdump(dump))


def test_every_cut_of_a_good_update_is_malformed() -> None:
    for dump in GOOD.values():
        raw = hexdump(dump)
        for end in range(len(raw)):
            with pytest.raises(MalformedBytes):
                parse_update(raw[:end])


def test_structs_values_and_ranges_together_are_at_most_4096() -> None:
    def array(count: int) -> bytes:
        head = hexdump("01 01 00 00  28 01 04 74616773 01 78 01 75")
        return head + varuint(count) + TRUE * count + b"\0"

    assert parse_update(array(4094)).length == 1
    with pytest.raises(MalformedBytes, match="more than 4096"):
        parse_update(array(4095))


def test_values_nest_at_most_16_deep() -> None:
    def nested(depth: int) -> bytes:
        head = hexdump("01 01 00 00  28 01 04 74616773 01 78 01")
        return head + b"\x75\x01" * depth + TRUE + b"\0"

    assert parse_update(nested(16)).length == 1
    with pytest.raises(MalformedBytes, match="nested deeper than 16"):
        parse_update(nested(17))


def test_the_clocks_of_an_update_are_bounded() -> None:
    raw = b"\x01\x02\x00\x00" + (b"\x01\x01\x04text" + varuint(40_000)) * 2 + b"\0"
    with pytest.raises(MalformedBytes, match="more than 65536 clocks"):
        parse_update(raw)


@given(st.integers(0, VARUINT_MAX))
def test_integers_come_back(number: int) -> None:
    assert Reader(varuint(number)).varuint() == number


@given(st.binary(max_size=10))
def test_an_integer_has_one_spelling(raw: bytes) -> None:
    reader = Reader(raw)
    try:
        number = reader.varuint()
    except MalformedBytes:
        return
    assert varuint(number) == raw[: reader.at]


NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(JSON)
def test_values_come_back_in_their_canonical_form(value: object) -> None:
    raw = write_value(value)
    reader = Reader(raw)
    again = read_value(reader, Budget(4096))
    reader.end()
    assert again == canonical_value(value) == canonical_value(again)
    assert write_value(again) == raw


@given(st.binary(max_size=40))
def test_a_value_has_one_spelling(raw: bytes) -> None:
    reader = Reader(raw)
    try:
        value = read_value(reader, Budget(100))
    except MalformedBytes:
        return
    assert write_value(value) == raw[: reader.at]


@given(st.integers(0, 2**32), st.data())
def test_a_body_that_is_opened_says_what_it_was_made_of(number: int, data: st.DataObject) -> None:
    world = make_world(number, steps=3)
    for part in world.parts.values():
        if isinstance(part.content, CardBody):
            assert encode_card(part.content.table, part.update) == part.content.raw


@pytest.mark.parametrize(
    "body",
    [
        encode([1, [], hexdump(HELLO)]),
        encode([0, [], hexdump(HELLO), 0]),
        encode([0, [b"short"], hexdump(HELLO)]),
        encode([0, [b"1" * 32, b"2" * 32], hexdump(HELLO)]),
        encode([0, [b"1" * 32, b"1" * 32], hexdump(GOOD["a deletion"])]),
        encode([0, [], hexdump(GOOD["a deletion"])]),
        encode([0, [b"1" * 32, b"2" * 32], hexdump("00  01  02 01 00 01")]),
        encode([0, [b"%032d" % n for n in range(257)], hexdump(HELLO)]),
        encode([0, [], "text"]),
        b"\x93" + hexdump("00 dc0000 c400"),
    ],
    ids=[
        "another version", "four fields", "a short id", "two unused ids", "an id twice",
        "an id missing", "used out of order", "a long table", "text", "not canonical",
    ],
)  # fmt: skip
def test_a_body_that_is_not_in_order_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBytes):
        open_card(body)


def test_one_unused_id_may_end_a_table() -> None:
    seed = OperationId(b"1" * 32)
    assert open_card(encode([0, [seed], hexdump(HELLO)])).table == (seed,)


def test_a_changed_body_is_another_body_or_malformed() -> None:
    rng = random.Random(1)
    world = make_world(5)
    bodies = [p.content.raw for p in world.parts.values() if isinstance(p.content, CardBody)]
    for _ in range(300):
        body = bytearray(rng.choice(bodies))
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        try:
            card = open_card(bytes(body))
        except MalformedBytes:
            continue
        assert encode_card(card.table, card.update) == bytes(body)
        assert decode(card.raw, bytes_max=70_000)[0] == 0
