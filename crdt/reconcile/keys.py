"""What both sides of a comparison must know and nobody could know before: its key.

Made of a nonce from each side, so that neither can have prepared ids that collide under it.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from crdt.ids import NetworkId

NONCE_BYTES = 16
CELL_BYTES = 14
"""Of a sketch's cell: the sum of short ids (8), of checks (4), and the count modulo 2**16 (2)."""
CELL_COUNT_MAX = 8192
"""Some 5 800 differences, 112 KiB: more are read by cursor."""
DIGEST_BYTES = 16
"""Of a set: nobody can look for two sets with one digest, because the key is made for it."""
RANGE_COUNT_MAX = 1024
"""Ranges of one request: the answer has 131 KiB of hashes, or 257 KiB of lists."""
SIGN_COUNT = 64
SIGNS_BYTES = 2 * SIGN_COUNT
BRANCH_COUNT = 16
DEPTH_MAX = 15
"""Steps of four bits. Who wants more than a list of ids in a range this deep makes 2**65 hashes."""
HASH_BYTES = 8
"""Of a part: a chance of 2**-64 that two differ and do not show it; the digest at the end would."""
LIST_COUNT_MAX = 32
"""Ids of a range that are listed: about as long as its hashes, and nothing is left to ask."""
_DOMAIN = b"hansa-compare-v0:"
_WORD_COUNT = 6


class TooDifferent(Exception):
    """A comparison cannot tell what is missing: the peer's store is to be read by cursor."""


@dataclass(frozen=True, slots=True)
class ComparisonKey:
    """The key of one comparison.

    Attributes:
        raw: 32 bytes, for BLAKE3.
        words: Six 64-bit numbers, for short ids, checks and signs.
    """

    raw: bytes
    words: tuple[int, ...]


def comparison_key(network: NetworkId, asker: bytes, answerer: bytes) -> ComparisonKey:
    """Return the key that two nonces of 16 bytes make, the asker's first."""
    assert len(asker) == len(answerer) == NONCE_BYTES
    raw = blake3(_DOMAIN + network + asker + answerer).digest()
    stream = blake3(b"words", key=raw).digest(8 * _WORD_COUNT)
    words = tuple(
        int.from_bytes(stream[at : at + 8], "little") for at in range(0, 8 * _WORD_COUNT, 8)
    )
    return ComparisonKey(raw, words)


def range_size(depth: int) -> int:
    """Return how many first eight bytes a range of a depth has."""
    return 1 << (64 - 4 * depth)
