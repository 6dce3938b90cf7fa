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
from crdt.reconcile.frames import (
    Hashed,
    Held,
    Listed,
    Part,
    Ranged,
    decode_picked,
    decode_ranged,
    decode_sketched,
    encode_picked,
    encode_ranged,
    encode_sketched,
)
from crdt.wire import decode
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
        if is_comparison(raw):
            return raw
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
        if is_comparison(raw):
            return raw
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


def is_comparison(raw: bytes) -> bool:
    """Whether an answer is one of the four about what is held."""
    return decode(raw, bytes_max=2**20)[0] in {"compared", "sketched", "ranged", "picked"}


def sketches_noise(raw: bytes, rng: random.Random) -> bytes:
    """Cells that are no sketch of anything."""
    try:
        answer = decode_sketched(raw, NETWORK)
    except MalformedBytes:
        return raw
    return encode_sketched(answer.held, rng.randbytes(14 * rng.randint(1, 200)), NETWORK)


def sketches_less(raw: bytes, rng: random.Random) -> bytes:
    """A sketch of nothing at all, under a digest of everything."""
    try:
        answer = decode_sketched(raw, NETWORK)
    except MalformedBytes:
        return raw
    return encode_sketched(answer.held, bytes(len(answer.cells)), NETWORK)


def gives_nothing_away(raw: bytes, rng: random.Random) -> bytes:
    """Has none of what its sketch names."""
    try:
        answer = decode_picked(raw, NETWORK)
    except MalformedBytes:
        return raw
    return encode_picked([], [rng.randrange(2**64) for _ in answer.items], NETWORK)


def gives_something_else(raw: bytes, rng: random.Random) -> bytes:
    """Sends another item than was picked."""
    try:
        decode_picked(raw, NETWORK)
    except MalformedBytes:
        return raw
    return encode_picked([Writer(f"eve{rng.random()}").genesis.raw], [], NETWORK)


def _ranges_told(raw: bytes, rng: random.Random) -> Ranged | bytes:
    """Return what is told of ranges; or another answer, with a sketch that makes them needed."""
    try:
        return decode_ranged(raw, NETWORK)
    except MalformedBytes:
        return sketches_less(raw, rng)


def cuts_for_ever(raw: bytes, rng: random.Random) -> bytes:
    """Says of every range that it is large and other than ours."""
    told = _ranges_told(raw, rng)
    if isinstance(told, bytes):
        return told
    parts = [Hashed(tuple(rng.randbytes(8) for _ in range(16))) for _ in told.parts]
    return encode_ranged(told.held, parts, NETWORK)


def lists_what_is_not_there(raw: bytes, rng: random.Random) -> bytes:
    """Lists marks of nothing in every range."""
    told = _ranges_told(raw, rng)
    if isinstance(told, bytes):
        return told
    parts = [Listed(tuple(sorted({rng.randrange(2**64), 7}))) for _ in told.parts]
    return encode_ranged(told.held, parts, NETWORK)


def keeps_ranges_back(raw: bytes, rng: random.Random) -> bytes:
    """Says of every range that it is empty, under the digest of everything."""
    told = _ranges_told(raw, rng)
    if isinstance(told, bytes):
        return told
    return encode_ranged(told.held, [Listed(())] * len(told.parts), NETWORK)


def mixes_ranges_up(raw: bytes, rng: random.Random) -> bytes:
    """Tells of ranges in another order, of too few, of too many, or of another set each time."""
    told = _ranges_told(raw, rng)
    if isinstance(told, bytes):
        return told
    parts: list[Part] = list(told.parts)
    held = told.held
    match rng.randrange(4):
        case 0:
            rng.shuffle(parts)
        case 1:
            del parts[rng.randrange(len(parts) or 1) :]
        case 2:
            parts += parts[:1]
        case _:
            held = Held(held.epoch, held.last_n + rng.randrange(9), held.count, held.digest)
    return encode_ranged(held, parts[:1024], NETWORK)


RANGE_LIARS = (cuts_for_ever, lists_what_is_not_there, keeps_ranges_back, mixes_ranges_up)
LIARS = (
    *RANGE_LIARS, sketches_noise, sketches_less, gives_nothing_away, gives_something_else,
    garbage, flips_a_byte, truncates, hides_everything, invents_ids, forges_items,
    lies_in_a_field, withholds_causes, says_half,
)  # fmt: skip
