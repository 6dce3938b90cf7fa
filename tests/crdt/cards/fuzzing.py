"""Mutated bodies through the whole path: `python -m tests.crdt.cards.fuzzing COUNT SEED`.

Run it in a process of its own: what it looks for is a crash of the engine, which takes the process
along. It prints one line of JSON: how many bodies got how far, and the slowest.
"""

from __future__ import annotations

import collections
import json
import random
import resource
import sys
import time

from crdt import CausalFault, MalformedBytes, NotAuthorised, OperationId, decode, encode, sha3
from crdt.cards import CardBody, CardDocument, CardPart, check_card, open_card
from crdt.cards.updates import encode_update
from tests.crdt.cards.worlds import KEYS, make_world

WORLDS = 40
MEMORY_BYTES_MAX = 2 * 2**30
EDGES = (b"\x00", b"\x7f", b"\x80", b"\xff\xff\xff\xff\x0f", b"\xff" * 7 + b"\x0f", b"\xff" * 9)


def main(count: int, seed: int) -> int:
    """Fuzz, and print what became of it."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    rng = random.Random(seed)
    worlds = [make_world(seed * WORLDS + one, steps=6, hostile=0.5) for one in range(WORLDS)]
    outcomes: collections.Counter[str] = collections.Counter()
    slowest_s = 0.0
    for _ in range(count):
        world = rng.choice(worlds)
        cards = [part for part in world.parts.values() if isinstance(part.content, CardBody)]
        if not cards:
            continue
        body = mutated(rng, rng.choice(cards))
        started = time.process_time()
        outcomes[outcome_of(world, body, rng)] += 1
        slowest_s = max(slowest_s, time.process_time() - started)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({**outcomes, "slowest_ms": round(slowest_s * 1e3, 1), "peak_mb": peak_mb}))
    return 0


def outcome_of(world, body: bytes, rng: random.Random) -> str:
    """Take a body as far as it gets; whatever it is, nothing else than these may be raised."""
    key = rng.choice(KEYS)
    try:
        card = open_card(body)
    except MalformedBytes:
        return "check A"
    if not set(card.table) <= world.layouts.keys():
        return "unknown table"
    try:
        check_card(card, key=key, may_edit=rng.random() < 0.9, layout_of=world.layouts.__getitem__)
    except (CausalFault, MalformedBytes, NotAuthorised):
        return "check B"
    depth = 1 + max(part.depth for part in world.parts.values())
    new = CardPart(OperationId(sha3(body + key)), depth, key, card, effective=True)
    parts = [*world.judged(rng.choice((0, 0.3))), new]
    document = CardDocument.of(parts)
    content = document.content()
    again = CardDocument.restored(document.snapshot(), parts)
    assert again is not None
    assert again.content() == content
    return "applied"


def mutated(rng: random.Random, part: CardPart) -> bytes:
    """Return the body of a part with something about it changed."""
    draw = rng.random()
    if draw < 0.15:
        return scrambled(rng, part.content.raw)
    table = list(part.table)
    if draw < 0.6:
        raw = decode(part.content.raw, bytes_max=70_000)[2]
        return encode([0, table, scrambled(rng, raw)])
    structs = list(part.update.structs)
    deletions = list(part.update.deletions)
    for _ in range(rng.randint(1, 3)):
        if structs:
            at = rng.randrange(len(structs))
            structs[at] = changed(rng, structs[at], len(table))
            if rng.random() < 0.2:
                structs.insert(at, rng.choice(structs))
        if deletions and rng.random() < 0.5:
            at = rng.randrange(len(deletions))
            deletions[at] = (deletions[at][0], ((rng.randrange(9), rng.randint(1, 9)),))
    # A struct that lost its origins needs a parent to be written.
    structs = [one._replace(parent=one.parent or "text", key=one.key or "a") for one in structs]
    update = part.update._replace(structs=tuple(structs), deletions=tuple(deletions))
    return encode([0, table, encode_update(update)])


def changed(rng: random.Random, struct, table_count: int):
    """Return a struct with one of its origins moved, or lost, or its kind changed."""
    ref = (rng.randint(0, table_count), rng.randrange(12))
    draw = rng.randrange(6)
    if draw == 0:
        return struct._replace(left=ref)
    if draw == 1:
        return struct._replace(right=ref)
    if draw == 2:
        return struct._replace(left=None, right=ref)
    if draw == 3:
        root = rng.choice(("text", "tags", "evals", ref))
        key = rng.choice(("a", KEYS[0].hex()))
        return struct._replace(
            left=None, right=None, parent=root, keyed=root != "text", key=key
        )  # fmt: skip
    if draw == 4:
        return struct._replace(kind=1, content=bytes([rng.randint(1, 5)]))
    return struct._replace(keyed=not struct.keyed, key=struct.key or "a", parent="tags")


def scrambled(rng: random.Random, raw: bytes) -> bytes:
    """Return bytes with a few changed, cut out, doubled, or replaced by edge cases."""
    out = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        draw = rng.random()
        if draw < 0.5 and at < len(out):
            out[at] = rng.randrange(256)
        elif draw < 0.65:
            out[at:at] = bytes([rng.randrange(256)])
        elif draw < 0.8:
            del out[at : at + rng.randint(1, 3)]
        elif draw < 0.9:
            out[at:at] = rng.choice(EDGES)
        else:
            out[at:at] = out[at : at + rng.randint(1, 20)]
    return bytes(out)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
