"""What a lying peer answers instead of the truth."""

from __future__ import annotations

import random

from crdt import Item, ItemKind, encode, parse_operation, sha3
from crdt.frames import (
    MalformedBytes,
    decode_caught_up,
    decode_fetched,
    encode_caught_up,
    encode_fetched,
)
from crdt.ids import ItemId
from tests.sim.mutations import mutated_frame
from tests.writers import NETWORK, Writer


def garbage(_raw: bytes, rng: random.Random) -> bytes:
    """Random bytes."""
    return rng.randbytes(rng.randint(0, 400))


def flips_a_byte(raw: bytes, rng: random.Random) -> bytes:
    """One flipped byte somewhere."""
    broken = bytearray(raw)
    broken[rng.randrange(len(broken))] ^= rng.randint(1, 255)
    return bytes(broken)


def truncates(raw: bytes, rng: random.Random) -> bytes:
    """The beginning of an answer."""
    return raw[: rng.randrange(len(raw))]


def hides_everything(raw: bytes, rng: random.Random) -> bytes:
    """Claims to have nothing, and to be done."""
    try:
        page = decode_caught_up(raw, NETWORK)
    except MalformedBytes:
        return encode_fetched([], decode_fetched(raw, NETWORK).absent, NETWORK)
    return encode_caught_up(
        network=NETWORK, epoch=page.epoch, next_n=page.next_n, last_n=0, done=True
    )


def invents_ids(raw: bytes, rng: random.Random) -> bytes:
    """Lists ids of nothing, for ever."""
    try:
        page = decode_caught_up(raw, NETWORK)
    except MalformedBytes:
        return raw
    ids = [ItemId(sha3(rng.randbytes(8))) for _ in range(50)]
    return encode_caught_up(
        network=NETWORK,
        epoch=page.epoch,
        next_n=page.next_n + 50,
        last_n=2**40,
        done=False,
        ids=ids,
    )


def forges_items(raw: bytes, rng: random.Random) -> bytes:
    """Sends writes that their account did not sign, and writes on what nobody has."""
    try:
        page = decode_caught_up(raw, NETWORK)
    except MalformedBytes:
        return encode(["items", 0, NETWORK, [], []])
    ann, eve = Writer("ann"), Writer(f"eve{rng.random()}")
    never = ann.put(b"never published %d" % rng.randrange(10**9), key=eve.key)
    orphan = eve.put(b"x", cites=(eve.put(b"never sent"),))
    return encode_caught_up(
        network=NETWORK,
        epoch=page.epoch,
        next_n=page.next_n + 3,
        last_n=page.last_n,
        done=False,
        raws=[eve.genesis.raw, never.raw, orphan.raw],
    )


def lies_in_a_field(raw: bytes, rng: random.Random) -> bytes:
    """The truth but for one field, of the frame or of one of its items."""
    return mutated_frame(raw, rng) if rng.random() < 0.5 else raw


def withholds_causes(raw: bytes, rng: random.Random) -> bytes:
    """Sends what builds on something, never what it builds on; and has nothing when asked."""
    try:
        page = decode_caught_up(raw, NETWORK)
    except MalformedBytes:
        answer = decode_fetched(raw, NETWORK)
        return encode_fetched([], [*(item.id for item in answer.items), *answer.absent], NETWORK)
    if not page.items:
        return raw
    return encode_caught_up(
        network=NETWORK,
        epoch=page.epoch,
        next_n=page.next_n,
        last_n=page.last_n,
        done=page.done,
        raws=[item.raw for item in page.items if any(cited_by(item))],
    )


def cited_by(item: Item) -> tuple[bytes, ...]:
    """Return the predecessors that an item cites, as far as it is an operation with some."""
    if item.kind is not ItemKind.OPERATION:
        return ()
    return parse_operation(item, NETWORK).predecessors


def says_half(raw: bytes, rng: random.Random) -> bytes:
    """Leaves out every other item of a page, and moves the cursor past all of them."""
    try:
        page = decode_caught_up(raw, NETWORK)
    except MalformedBytes:
        return raw
    return encode_caught_up(
        network=NETWORK,
        epoch=page.epoch,
        next_n=page.next_n,
        last_n=page.last_n,
        done=True,
        raws=[item.raw for item in page.items[::2]],
        ids=page.ids[::2],
    )


LIARS = (
    garbage, flips_a_byte, truncates, hides_everything, invents_ids, forges_items,
    lies_in_a_field, withholds_causes, says_half,
)  # fmt: skip
