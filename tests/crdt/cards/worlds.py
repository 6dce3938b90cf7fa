"""Random worlds of card writers: honest edits, equivocation, and updates no editor would make."""

from __future__ import annotations

import random

from crdt import CausalFault, MalformedBytes, NotAuthorised, OperationId, PublicKey, sha3
from crdt.cards import (
    CardDocument,
    CardPart,
    Seed,
    check_card,
    edit_card,
    encode_card,
    layout_of_seed,
    open_card,
)
from crdt.cards.updates import (
    ANY,
    DELETED,
    EVALS_ROOT,
    GC,
    MAP,
    STRING,
    TAGS_ROOT,
    TEXT_ROOT,
    Struct,
    Update,
    string_content,
)
from crdt.cards.values import write_value

KEYS = tuple(PublicKey(sha3(name)) for name in (b"ann", b"ben", b"cem"))
WORDS = ("a", "bc", "word ", "\n", "é", "😀", "x😀y", "🏳️‍🌈", "日本")
VALUES = (None, True, False, 0, -3, 0.5, 1e-3, 2**40, "v", "😀", [1, [2.5]], {"b": 1, "a": {}})


class World:
    """One record and era, and everything that was ever signed in it."""

    def __init__(self, rng: random.Random, *, seeds: int = 1) -> None:
        self.rng = rng
        self.parts: dict[OperationId, CardPart] = {}
        self.pasts: dict[OperationId, frozenset[OperationId]] = {}
        self.layouts = {}
        self.refused = 0
        for number in range(seeds):
            tags = tuple(sorted(rng.sample(("a", "b", "c", "d"), rng.randrange(3))))
            text = "".join(rng.choices(WORDS, k=rng.randrange(6)))
            evals = ((KEYS[2].hex(), "mmlu", 0.5),) if rng.random() < 0.3 else ()
            seed = Seed(text, tags, evals)
            identity = OperationId(sha3(rng.randbytes(8)))
            self.layouts[identity] = layout_of_seed(seed)
            self.pasts[identity] = frozenset()
            self.parts[identity] = CardPart(identity, 1 + number, KEYS[0], seed, True)

    def view(self) -> list[CardPart]:
        """Return a random causally closed set of at least one seed, as somebody might know it."""
        known: set[OperationId] = set()
        for identity in self.rng.sample(sorted(self.parts), self.rng.randint(1, len(self.parts))):
            known |= self.pasts[identity] | {identity}
        return [self.parts[one] for one in sorted(known)]

    def write_honestly(self, *, copies: int = 1) -> None:
        """Somebody edits what they see; with copies, twice from the same state (equivocation)."""
        view = self.view()
        for _ in range(copies):
            key = self.rng.choice(KEYS)
            body = edit_card(CardDocument.of(view), lambda draft, key=key: self.edit(draft, key))
            if body is not None:
                self.sign(body, key, view)

    def edit(self, draft, key) -> None:
        rng = self.rng
        for _ in range(rng.randint(1, 4)):
            draw = rng.random()
            length = len(draft.text)
            if draw < 0.4:
                draft.splice(rng.randint(0, length), 0, rng.choice(WORDS))
            elif draw < 0.6 and length:
                start = rng.randrange(length)
                draft.splice(start, rng.randint(1, min(4, length - start)), "")
            elif draw < 0.7:
                draft.replace_text(draft.text.replace("b", "B")[: rng.randint(0, length + 1)])
            elif draw < 0.8:
                draft.add_tag(rng.choice("abcdef"))
            elif draw < 0.87:
                draft.remove_tag(rng.choice("abcdef"))
            elif draw < 0.96:
                draft.set_evaluation(key, rng.choice("mn"), rng.choice(VALUES))
            else:
                draft.remove_evaluation(key, rng.choice("mn"))

    def write_hostilely(self) -> None:
        """Somebody signs a body with random structs, references crossed, deletions anywhere."""
        view = self.view()
        key = self.rng.choice(KEYS)
        body = Forger(self.rng, self, view, key).body()
        try:
            self.sign(body, key, view)
        except (CausalFault, MalformedBytes, NotAuthorised):
            self.refused += 1

    def sign(self, body: bytes, key: PublicKey, view: list[CardPart]) -> None:
        card = open_card(body)
        identity = OperationId(sha3(body + key + self.rng.randbytes(8)))
        layout = check_card(card, key=key, may_edit=True, layout_of=self.layouts.__getitem__)
        self.layouts[identity] = layout
        self.pasts[identity] = frozenset(part.id for part in view)
        depth = 1 + max(part.depth for part in view)
        self.parts[identity] = CardPart(identity, depth, key, card, True)

    def judged(self, void_share: float) -> list[CardPart]:
        """Return all parts in random order, some of them void."""
        parts = [
            CardPart(one.id, one.depth, one.key, one.content, self.rng.random() >= void_share)
            for one in self.parts.values()
        ]
        self.rng.shuffle(parts)
        return parts


class Forger:
    """Makes bodies through the grammar: most pass check A, a good part passes check B."""

    def __init__(self, rng, world, view, key) -> None:
        self.rng = rng
        self.world = world
        self.view = [part for part in view if world.layouts[part.id].length]
        self.key = key
        self.table: list[OperationId] = []

    def body(self) -> bytes:
        structs: list[Struct] = []
        clock = 0
        for _ in range(self.rng.randrange(6)):
            struct = self.struct(clock, structs)
            structs.append(struct)
            clock += struct.length
        return encode_card(self.table, Update(tuple(structs), self.deletions()))

    def struct(self, clock: int, before: list[Struct]) -> Struct:
        draw = self.rng.random()
        if draw < 0.08:
            return Struct(clock, self.rng.randint(1, 3), GC)
        if draw < 0.6:
            return self.text(clock, before)
        return self.keyed(clock, before)

    def text(self, clock: int, before: list[Struct]) -> Struct:
        left = self.ref("text", before) if self.rng.random() < 0.7 else None
        right = self.ref("text", before) if self.rng.random() < 0.7 else None
        if self.rng.random() < 0.2:
            length = self.rng.randint(1, 3)
            content = (DELETED, length, bytes([length]))
        else:
            raw, length, _ = string_content(self.rng.choice(WORDS))
            content = (STRING, length, raw)
        return Struct(
            clock, content[1], content[0], left, right, TEXT_ROOT, False, None, content[2]
        )

    def keyed(self, clock: int, before: list[Struct]) -> Struct:
        rng = self.rng
        root = rng.choice((TAGS_ROOT, EVALS_ROOT, "entry"))
        left = self.ref(root, before) if rng.random() < 0.5 else None
        kind, content = {
            TAGS_ROOT: (ANY, b"\x01\x78"),
            EVALS_ROOT: (MAP, b"\x01"),
            "entry": (ANY, b"\x01" + write_value(rng.choice(VALUES))),
        }[root]
        if rng.random() < 0.15:
            kind, content = DELETED, b"\x01"
        parent, key = root, rng.choice("abcdef")
        if root == EVALS_ROOT:
            key = self.key.hex()
        elif root == "entry" and left is None:
            parent = self.ref("map", before)
            if parent is None:
                parent, key, kind, content = EVALS_ROOT, self.key.hex(), MAP, b"\x01"
        return Struct(clock, 1, kind, left, None, parent, True, key, content)

    def ref(self, where: str, before: list[Struct]):
        """Return a reference to a random unit of a kind, own or another's, if one is found."""
        for _ in range(4):
            if before and self.rng.random() < 0.35:
                struct = self.rng.choice(before)
                if self.fits_own(where, struct):
                    return 0, struct.clock + self.rng.randrange(struct.length)
                continue
            if not self.view:
                return None
            part = self.rng.choice(self.view)
            layout = self.world.layouts[part.id]
            clock = self.rng.randrange(layout.length)
            run = layout.run_at(clock)
            if run.place is None or not self.fits(where, run):
                continue
            return self.client(part.id), clock
        return None

    def fits(self, where: str, run) -> bool:
        place = run.place
        if where == "map":
            return run.is_map and place.key == self.key.hex()
        if where == "entry":
            return place.holder is not None and place.key == self.key.hex()
        if where == EVALS_ROOT:
            return place.root == EVALS_ROOT and place.holder is None
        return place.root == where

    def fits_own(self, where: str, struct: Struct) -> bool:
        if where == "map":
            return struct.kind == MAP
        if where == TEXT_ROOT:
            return struct.kind != GC and not struct.keyed
        return struct.kind == {TAGS_ROOT: ANY, EVALS_ROOT: MAP, "entry": ANY}[where]

    def client(self, identity: OperationId) -> int:
        if identity not in self.table:
            self.table.append(identity)
        return self.table.index(identity) + 1

    def deletions(self):
        found = {}
        for _ in range(self.rng.randrange(3)):
            if not self.view:
                break
            part = self.rng.choice(self.view)
            length = self.world.layouts[part.id].length
            start = self.rng.randrange(length)
            found[self.client(part.id)] = ((start, self.rng.randint(1, length - start)),)
        return tuple(sorted(found.items()))


def make_world(seed: int, *, steps: int = 8, seeds: int = 1, hostile: float = 0.4) -> World:
    """Return the world that a number names."""
    world = World(random.Random(seed), seeds=seeds)
    for _ in range(steps):
        draw = world.rng.random()
        if draw < hostile:
            world.write_hostilely()
        else:
            world.write_honestly(copies=2 if draw > 0.85 else 1)
    return world
