"""Golden bytes of ranges: the frames, and what three ids come to under a key."""

from __future__ import annotations

from crdt import ItemId, sha3
from crdt.frames import decode_request, encode_request
from crdt.reconcile.frames import (
    AskRanges,
    Hashed,
    Held,
    Listed,
    Ranged,
    Take,
    decode_ranged,
    encode_ranged,
)
from crdt.reconcile.idset import IdSet
from crdt.reconcile.keys import comparison_key
from crdt.reconcile.ranges import Ranges, mark_of, parts_of, taken
from tests.wire.hexdump import hexdump
from tests.writers import NETWORK

NONCE = b"n" * 16
KEY = comparison_key(NETWORK, NONCE, b"m" * 16)
HELD = Held(b"\xee" * 16, 310, 302, b"d" * 16)
IDS = sorted(ItemId(sha3(bytes([one]))) for one in (1, 2, 3))

RANGES = hexdump("""
    97  # array of 7
    a6 72 61 6e 67 65 73  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e  # nonce
    cd 01 36  # last n of the set that is told of
    01  # depth
    c4 10 00 00 00 00 00 00 00 00 f0 00 00 00 00 00 00 00  # ids that begin with 0, and with f
""")

TAKE = hexdump("""
    96  # array of 6
    a4 74 61 6b 65  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e 6e  # nonce
    02  # depth
    c4 20 ab 00 00 00 00 00 00 00 07 00 00 00 00 00 00 00  # begins with ab, mark 7
    ab 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80  # begins with ab, mark 2**63
""")

RANGED = hexdump("""
    98  # array of 8
    a6 72 61 6e 67 65 64  # tag
    00  # version
    c4 20 62 6a 5b e8 ee b7 bd d3 a5 05 04 6b 51 4d 54 e0 ae 9a 18 0f ea cd  # network
    82 b0 44 00 52 a8 85 f3 bf 7d
    c4 10 ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee ee  # epoch
    cd 01 36  # last n
    cd 01 2e  # count
    c4 10 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64 64  # digest
    92  # two ranges
    c4 81 00  # one of 129 bytes: hashes of its sixteen parts
    00 00 00 00 00 00 00 00 01 01 01 01 01 01 01 01 02 02 02 02 02 02 02 02
    03 03 03 03 03 03 03 03 04 04 04 04 04 04 04 04 05 05 05 05 05 05 05 05
    06 06 06 06 06 06 06 06 07 07 07 07 07 07 07 07 08 08 08 08 08 08 08 08
    09 09 09 09 09 09 09 09 0a 0a 0a 0a 0a 0a 0a 0a 0b 0b 0b 0b 0b 0b 0b 0b
    0c 0c 0c 0c 0c 0c 0c 0c 0d 0d 0d 0d 0d 0d 0d 0d 0e 0e 0e 0e 0e 0e 0e 0e
    0f 0f 0f 0f 0f 0f 0f 0f
    c4 11 01  # one of 17 bytes: marks
    07 00 00 00 00 00 00 00 00 00 00 00 00 00 00 80
""")

HASH_OF_NOTHING = "265d33dfd5e96eee"
# The ids begin with 0a, 27 and e3.
HASHES_OF_THREE = [
    "ba9403c3273bebbf",
    HASH_OF_NOTHING,
    "1451e52bce512eed",
    *[HASH_OF_NOTHING] * 11,
    "a18fef2fdd7ae877",
    HASH_OF_NOTHING,
]
MARKS_OF_THREE = [0xBFEB3B27C30394BA, 0xED2E51CE2BE55114, 0x77E87ADD2FEF8FA1]


def test_frames_of_ranges() -> None:
    ask = AskRanges(NONCE, 310, 1, (0, 0xF << 60))
    take = Take(NONCE, 2, ((0xAB << 56, 7), (0xAB << 56, 2**63)))
    for frame, raw in ((ask, RANGES), (take, TAKE)):
        assert encode_request(frame, NETWORK) == raw
        assert decode_request(raw, NETWORK) == frame
    parts = (Hashed(tuple(bytes([number]) * 8 for number in range(16))), Listed((7, 2**63)))
    assert encode_ranged(HELD, parts, NETWORK) == RANGED
    assert decode_ranged(RANGED, NETWORK) == Ranged(HELD, parts)


def test_the_ranges_of_three_ids() -> None:
    """Whoever writes another node must come to these hashes and marks."""
    ranges = Ranges.of(IdSet(b"".join(IDS)).rows())
    assert [one.hex() for one in ranges.hashed(0, 0, KEY).hashes] == HASHES_OF_THREE
    assert [mark_of(id_, KEY) for id_ in IDS] == MARKS_OF_THREE
    assert parts_of(ranges, KEY, 0, [0]) == ([Listed(tuple(sorted(MARKS_OF_THREE)))], 0)
    last = 0xE << 60
    assert taken(ranges, KEY, 1, [(last, MARKS_OF_THREE[2])]) == ([IDS[2]], [])
    assert taken(ranges, KEY, 1, [(0, MARKS_OF_THREE[2])]) == ([], [MARKS_OF_THREE[2]])
