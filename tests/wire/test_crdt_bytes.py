"""Golden bytes of accounts, operations, items and sync frames, and garbage for their decoders."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    ItemId,
    MalformedBytes,
    RemoteFault,
    decode,
    encode,
    open_genesis,
    open_operation,
    sha3,
    unpack_item,
)
from crdt.frames import (
    CatchUp,
    CatchUpMode,
    CaughtUp,
    Fetch,
    Fetched,
    Have,
    Ops,
    decode_caught_up,
    decode_fetched,
    decode_gossip,
    decode_request,
    encode_caught_up,
    encode_fetched,
    encode_have,
    encode_ops,
    encode_request,
)
from crdt.reconcile.frames import (
    AskSketch,
    Compare,
    Compared,
    Held,
    Pick,
    Picked,
    Sketched,
    decode_compared,
    decode_picked,
    decode_sketched,
    encode_compared,
    encode_picked,
    encode_sketched,
)
from crdt.reconcile.idset import IdSet, digest_of
from crdt.reconcile.keys import comparison_key
from crdt.reconcile.sketches import shorts_of, signs_of, sketch
from tests.wire.hexdump import hexdump
from tests.writers import NETWORK, Writer

ANN = Writer("ann")
IDS = (ItemId(b"\x11" * 32), ItemId(b"\x22" * 32))
EPOCH = b"\xee" * 16

GENESIS_CONTENT = hexdump("""
    97  # array of 7
    ad 68 61 6e 73 61 2f 61 63 63 6f 75 6e 74  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    01  # entry type: genesis
    c4 20 98 5e c6 44 ef 9e ae 68 35 06 44 c5 c2 82 15 3e 94 e9 ad ce f5 b9  # root key
    9e 47 81 32 f0 78 10 9e 52 a5
    c4 20 7e 46 56 8a 43 63 e4 a1 99 8f 36 c4 13 d0 ee c4 d5 d4 9a f1 29 86  # recovery key
    cc e4 25 e2 51 4c 52 5a 38 9c
    c4 00  # admission stamp
""")

PUT_CONTENT = hexdump("""
    dc 00 10  # array of 16
    af 68 61 6e 73 61 2f 6f 70 65 72 61 74 69 6f 6e  # domain
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    01  # kind: model
    c4 20 29 19 0b 8f e1 cb 59 8a 92 32 9e f3 92 7c 95 2a 6b 8e 22 1a 6b 94  # record id
    e3 40 31 a1 91 75 78 18 a3 5c
    a5 74 68 69 6e 67  # slug
    01  # type: put
    c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86 7d 9f  # account
    f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 20 98 5e c6 44 ef 9e ae 68 35 06 44 c5 c2 82 15 3e 94 e9 ad ce f5 b9  # key
    9e 47 81 32 f0 78 10 9e 52 a5
    91 c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86 7d  # account heads
    9f f4 e9 7a 04 ec 2d 85 5c 95 9b
    c4 00  # era: the first
    90  # predecessors
    01  # depth
    c4 20 81 1a b7 aa f4 4e 76 f6 fe 2b 1f 57 1b 78 33 f4 43 fc 93 5d 78 30  # body hash
    21 52 1a 61 93 99 df ab b6 bc
    04  # body length
    ce 6b 49 d2 00  # timestamp
""")

PUT_ITEM = hexdump("""
    95  # array of 5
    00  # wire version
    02  # kind: operation
    c4 f3 dc 00 10 af 68 61 6e 73 61 2f 6f 70 65 72 61 74 69 6f 6e 00 c4 20  # content, as above
    62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd 82 b0
    44 00 52 a8 85 f3 bf 7d 01 c4 20 29 19 0b 8f e1 cb 59 8a 92 32 9e f3 92
    7c 95 2a 6b 8e 22 1a 6b 94 e3 40 31 a1 91 75 78 18 a3 5c a5 74 68 69 6e
    67 01 c4 20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86
    7d 9f f4 e9 7a 04 ec 2d 85 5c 95 9b c4 20 98 5e c6 44 ef 9e ae 68 35 06
    44 c5 c2 82 15 3e 94 e9 ad ce f5 b9 9e 47 81 32 f0 78 10 9e 52 a5 91 c4
    20 3a 3a 49 49 e6 b4 6b a9 9a 34 d9 2a 23 98 56 fd af 98 c3 86 7d 9f f4
    e9 7a 04 ec 2d 85 5c 95 9b c4 00 90 01 c4 20 81 1a b7 aa f4 4e 76 f6 fe
    2b 1f 57 1b 78 33 f4 43 fc 93 5d 78 30 21 52 1a 61 93 99 df ab b6 bc 04
    ce 6b 49 d2 00
    c4 40 fd 98 e9 05 6b 4d db c4 d9 0f be df bb 8b ff c2 cb ee 28 9f d5 39  # signature
    18 4d d7 7c b2 78 89 cc 5b 00 f8 cd ef 0b 4a 8b f7 75 94 e4 05 35 2c 31
    ea 3f 91 4a ee 5f 62 22 73 de e6 e6 3f 7c 15 38 c3 00
    c4 04 62 6f 64 79  # body
""")

HAVE = hexdump("""
    94  # array of 4
    a4 68 61 76 65  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    92 c4 20 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11  # ids
    11 11 11 11 11 11 11 11 11 11 11 c4 20 22 22 22 22 22 22 22 22 22 22 22
    22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22
""")

FETCH = hexdump("""
    94  # array of 4
    a5 66 65 74 63 68  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    92 c4 20 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11  # ids
    11 11 11 11 11 11 11 11 11 11 11 c4 20 22 22 22 22 22 22 22 22 22 22 22
    22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22
""")

AFTER = hexdump("""
    96  # array of 6
    a5 61 66 74 65 72  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee  # epoch
    cd 01 2c  # after n
    01  # mode: ids
""")

PAGE = hexdump("""
    99  # array of 9
    a4 70 61 67 65  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee  # epoch
    cd 01 2e  # next n
    cd 01 36  # last n
    c2  # done
    90  # items
    92 c4 20 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11  # ids
    11 11 11 11 11 11 11 11 11 11 11 c4 20 22 22 22 22 22 22 22 22 22 22 22
    22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22
""")

ITEMS = hexdump("""
    95  # array of 5
    a5 69 74 65 6d 73  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    90  # items
    92 c4 20 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11  # absent
    11 11 11 11 11 11 11 11 11 11 11 c4 20 22 22 22 22 22 22 22 22 22 22 22
    22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22 22
""")

COMPARE = hexdump("""
    94  # array of 4
    a7 63 6f 6d 70 61 72 65  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e  # nonce
""")

SKETCH = hexdump("""
    97  # array of 7
    a6 73 6b 65 74 63 68  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e  # nonce
    c4 00  # signs: none, it says how many
    14  # first cell
    26  # up to cell
""")

PICK = hexdump("""
    95  # array of 5
    a4 70 69 63 6b  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e  # nonce
    c4 10 07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80  # short ids
""")

COMPARED = hexdump("""
    98  # array of 8
    a8 63 6f 6d 70 61 72 65 64  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d 6d  # nonce
    c4 10 ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee  # epoch
    cd 01 36  # last n
    cd 01 2e  # count
    c4 10 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64  # digest
""")

CELLS = hexdump("""
    19 1f 4d 3d 46 62 a5 ff 0e dd ad 4f 2c 94 1b 21 f2 41 6b af 39 81 b7 a8  # sums of short ids
    00 00 00 00 00 00 00 00 eb 5e 26 92 7f e3 12 57 00 00 00 00 00 00 00 00
    50 b0 1b e5 6c b9 37 5d f3 cb 94 b6 00 00 00 00 a3 7b 8f 53 00 00 00 00  # sums of checks
    03 00 02 00 02 00 00 00 01 00 00 00  # counts
""")

SKETCHED = hexdump("""
    98  # array of 8
    a8 73 6b 65 74 63 68 65 64  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee  # epoch
    cd 01 36  # last n
    cd 01 2e  # count
    c4 10 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64  # digest
    c4 54 19 1f 4d 3d 46 62 a5 ff 0e dd ad 4f 2c 94 1b 21 f2 41 6b af 39 81  # cells, as above
    b7 a8 00 00 00 00 00 00 00 00 eb 5e 26 92 7f e3 12 57 00 00 00 00 00 00
    00 00 50 b0 1b e5 6c b9 37 5d f3 cb 94 b6 00 00 00 00 a3 7b 8f 53 00 00
    00 00 03 00 02 00 02 00 00 00 01 00 00 00
""")

PICKED = hexdump("""
    95  # array of 5
    a6 70 69 63 6b 65 64  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    90  # items
    c4 10 07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80  # absent short ids
""")

DIGEST_OF_THREE = "0e617fde6e35c74fc1287b3f479b0c37"
SHORTS_OF_THREE = ["5712e37f92265eeb", "debef66a72e0c217", "76097753dd8b83e5"]
SIGNS_OF_THREE = (
    "ffff01000100ffff010001000100ffffffff0100ffff0300ffffffffffff0100ffff030003000100ffffffffffff0100"
    "fffffdfffdff010001000300ffffffffffff010001000100fffffffffffffdff03000100ffff0100ffff0300fdffffff"
    "0100fffffffffffffffffdfffdff030001000100fdff01000100ffff0300fdff"
)


def test_a_genesis() -> None:
    assert ANN.genesis.signed.content == GENESIS_CONTENT
    assert open_genesis(ANN.genesis, NETWORK).root_key == ANN.key.public


def test_a_put() -> None:
    item = unpack_item(PUT_ITEM)
    assert item == ANN.put(b"body")
    assert item.signed.content == PUT_CONTENT
    operation = open_operation(item, NETWORK)
    assert (operation.slug, operation.depth, operation.account) == ("thing", 1, ANN.account)


def test_gossip_frames() -> None:
    assert encode_have(IDS, NETWORK) == HAVE
    assert decode_gossip(HAVE, NETWORK) == Have(IDS)
    ops = encode(["ops", 0, NETWORK, [PUT_ITEM]])
    assert encode_ops([unpack_item(PUT_ITEM)], NETWORK) == ops
    assert decode_gossip(ops, NETWORK) == Ops((unpack_item(PUT_ITEM),))


def test_requests() -> None:
    fetch, after = Fetch(IDS), CatchUp(EPOCH, 300, CatchUpMode.IDS)
    assert encode_request(fetch, NETWORK) == FETCH
    assert decode_request(FETCH, NETWORK) == fetch
    assert encode_request(after, NETWORK) == AFTER
    assert decode_request(AFTER, NETWORK) == after


def test_comparisons() -> None:
    compare, ask = Compare(b"n" * 16), AskSketch(b"n" * 16, b"", 20, 38)
    pick, held = Pick(b"n" * 16, (7, 2**63)), Held(EPOCH, 310, 302, b"d" * 16)
    for frame, raw in ((compare, COMPARE), (ask, SKETCH), (pick, PICK)):
        assert encode_request(frame, NETWORK) == raw
        assert decode_request(raw, NETWORK) == frame
    assert encode_compared(b"m" * 16, held, NETWORK) == COMPARED
    assert decode_compared(COMPARED, NETWORK) == Compared(b"m" * 16, held)
    assert encode_sketched(held, CELLS, NETWORK) == SKETCHED
    assert decode_sketched(SKETCHED, NETWORK) == Sketched(held, CELLS)
    assert encode_picked([], (7, 2**63), NETWORK) == PICKED
    assert decode_picked(PICKED, NETWORK) == Picked((), (7, 2**63))


def test_a_sketch_of_three_ids() -> None:
    """Whoever writes another node must come to these cells, signs and this digest."""
    key = comparison_key(NETWORK, b"n" * 16, b"m" * 16)
    rows = IdSet(b"".join(sha3(bytes([one])) for one in (1, 2, 3))).rows()
    assert digest_of(rows, key).hex() == DIGEST_OF_THREE
    assert [f"{short:016x}" for short in shorts_of(rows, key).tolist()] == SHORTS_OF_THREE
    assert signs_of(shorts_of(rows, key), key).hex() == SIGNS_OF_THREE
    assert sketch(shorts_of(rows, key), key, 6).pack() == CELLS


def test_answers() -> None:
    page = encode_caught_up(
        network=NETWORK, epoch=EPOCH, next_n=302, last_n=310, done=False, ids=IDS
    )
    assert page == PAGE
    assert decode_caught_up(PAGE, NETWORK) == CaughtUp(EPOCH, 302, 310, done=False, ids=IDS)
    assert encode_fetched([], IDS, NETWORK) == ITEMS
    assert decode_fetched(ITEMS, NETWORK) == Fetched((), IDS)


@given(st.binary(max_size=200) | st.sampled_from([PUT_ITEM, GENESIS_CONTENT, PAGE, FETCH]))
def test_decoders_refuse_or_decode_and_do_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(RemoteFault):
        item = unpack_item(raw)
        open_operation(item, NETWORK)
    for decoder in (decode_gossip, decode_request, decode_caught_up, decode_fetched):
        with contextlib.suppress(RemoteFault):
            decoder(raw, NETWORK)


@given(st.integers(0, len(PUT_ITEM) - 1), st.integers(1, 255))
def test_no_flipped_byte_of_a_signed_item_passes(place: int, flip: int) -> None:
    broken = bytearray(PUT_ITEM)
    broken[place] ^= flip
    try:
        open_operation(unpack_item(bytes(broken)), NETWORK)
    except RemoteFault:
        return
    raise AssertionError(f"byte {place} changed by {flip:#x} was not noticed")


def test_integers_have_one_spelling() -> None:
    for spelled in (b"\x91\xcc\x05", b"\x91\xcd\x00\x05", b"\x91\xd0\x05"):
        with contextlib.suppress(RemoteFault):
            decode(spelled, bytes_max=9)
            raise AssertionError(spelled)
    assert decode(b"\x91\x05", bytes_max=9) == (5,)


@given(
    st.recursive(
        st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text() | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=20,
    ).filter(lambda value: isinstance(value, list))
)
def test_what_is_encoded_is_decoded(value: list[object]) -> None:
    raw = encode(value)  # type: ignore[arg-type]
    assert encode(decode(raw, bytes_max=len(raw))) == raw


@pytest.mark.parametrize("place", [0, 1])
def test_a_truth_value_is_no_number(place: int) -> None:
    # False equals 0 and True equals 1 in Python: each would be a second spelling of one item.
    parts = list(decode(PUT_ITEM, bytes_max=100_000))
    parts[place] = bool(parts[place])
    with pytest.raises(MalformedBytes):
        open_operation(unpack_item(encode(parts)), NETWORK)
