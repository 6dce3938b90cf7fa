"""The card's document: a function of the set of parts, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from crdt.cards.contents import Card
from crdt.cards.parts import CardPart, SeedChoice
from crdt.cards.seeds import Seed
from crdt.cards.updates import Range, Struct, Update, content_bytes_of, pieces_of
from crdt.cards.weaving import CLIENT, Weaver, joined_update
from crdt.errors import CardEngineFault, MalformedBytes
from crdt.ids import OperationId, short
from crdt.wire import Value, decode, encode, has_head, sha3

if TYPE_CHECKING:
    from crdt.cards.engine import Engine

PIECES_MAX = 32_768
"""Structs and deleted ranges of one era's card. Hostile ones rebuild in a second (measured); root
opens a new era before honest ones are that many."""
CONTENT_BYTES_MAX = 4 * 2**20
"""Text and values that were ever written in one era's card: 64 bodies full of them."""
SNAPSHOT_TAG = "hansa/card-snapshot"
SNAPSHOT_VERSION = 0
SNAPSHOT_BYTES_MAX = 16 * 2**20


class CardDocument:
    """A card as a document that can be read, grown and edited.

    Make one with `of` or `restored`. Not for two threads: pycrdt's documents are not.
    """

    def __init__(self, parts: list[CardPart], engine: Engine) -> None:
        self._parts = parts
        self._engine = engine
        self._choice = SeedChoice().after(parts)
        self._weaver: Weaver | None = None
        self._pieces = 0
        self._content_bytes = 0
        self._full = False
        self._content: Card | None = None

    @classmethod
    def of(cls, parts: Iterable[CardPart]) -> CardDocument:
        """Return the document of these parts of one record and era, in whatever order they come.

        Every part is valid, and with it come all that its table names. If there are several seeds,
        `SeedChoice` says which one counts; the others are treated as void.

        Raises:
            CardEngineFault: the engine failed on a card that passed every check.
        """
        from crdt.cards.engine import Engine

        document = cls(_in_order(parts), Engine(CLIENT))
        document._apply(*document._weave_all())
        return document

    @classmethod
    def restored(cls, snapshot: bytes, parts: Iterable[CardPart]) -> CardDocument | None:
        """Return the document that a snapshot of exactly these parts holds, or None: build it anew.

        A snapshot is this node's own; what is caught is damage, other parts and another engine.
        """
        from crdt.cards.engine import Engine

        ordered = _in_order(parts)
        state = _opened_snapshot(snapshot, ordered)
        if state is None:
            return None
        document = cls(ordered, Engine(CLIENT))
        document._engine.apply(state, "restoring a card")
        return document

    def extended(self, parts: Iterable[CardPart]) -> CardDocument | None:
        """Return this document after growing by parts, or None, unchanged, if it has to be rebuilt.

        It can grow if the new parts come after all it has, and none of them makes another seed
        count. None of the parts it has may have changed.

        Raises:
            CardEngineFault: the engine failed; the document is not to be used again.
        """
        new = _in_order(parts)
        if not new:
            return self
        if self._parts and new[0].order <= self._parts[-1].order:
            return None
        choice = self._choice.after(new)
        if choice.chosen != self._choice.chosen:
            return None
        needed = self._needed(new)
        if self.weaver().skipped(needed):
            return None
        self._choice = choice
        self._parts.extend(new)
        self._content = None
        self._apply(*self._weave(new))
        return self

    def content(self) -> Card:
        """Return what the card says."""
        if self._content is None:
            self._content = self._engine.content()
        return self._content

    def snapshot(self) -> bytes:
        """Return bytes from which `restored` makes this document, given the same parts."""
        from crdt.cards.engine import VERSION

        state = self._engine.state()
        content: list[Value] = [
            SNAPSHOT_TAG, SNAPSHOT_VERSION, VERSION, _digest(self._parts), state, sha3(state),
        ]  # fmt: skip
        return encode(content)

    @property
    def seed(self) -> OperationId | None:
        """The seed that counts."""
        return self._choice.chosen

    def has_room(self, update: Update) -> bool:
        """Whether an operation that does this would count, were it the next."""
        pieces = self._pieces + pieces_of(update)
        content_bytes = self._content_bytes + content_bytes_of(update)
        return not self._full and pieces <= PIECES_MAX and content_bytes <= CONTENT_BYTES_MAX

    @property
    def room_bytes(self) -> int:
        """How many bytes of text and values may still be written."""
        return 0 if self._full else CONTENT_BYTES_MAX - self._content_bytes

    def state(self) -> bytes:
        """Return the document as one update of the engine's, for a scratch copy."""
        return self._engine.state()

    def weaver(self) -> Weaver:
        """Return where everything stands; a restored document works it out at the first call."""
        if self._weaver is None:
            self._weave_all()
        assert self._weaver is not None
        return self._weaver

    def _weave_all(self) -> tuple[list[Struct], list[Range]]:
        self._weaver = Weaver()
        return self._weave(self._parts)

    def _weave(self, parts: list[CardPart]) -> tuple[list[Struct], list[Range]]:
        weaver = self._weaver
        assert weaver is not None
        structs: list[Struct] = []
        deletions: list[Range] = []
        needed = self._needed(parts)
        for part in parts:
            void = self._is_void(part)
            if (void and part.id not in needed) or not self._fits(part.update):
                weaver.skip(part)
                continue
            some, ranges = weaver.weave(part, void=void)
            structs += some
            deletions += ranges
        return structs, deletions

    def _is_void(self, part: CardPart) -> bool:
        if isinstance(part.content, Seed):
            return part.id != self.seed
        return not part.effective

    def _needed(self, parts: list[CardPart]) -> set[OperationId]:
        """Return what cards that count among these refer to, and what that refers to."""
        needed: set[OperationId] = set()
        for part in reversed(parts):
            if part.effective or part.id in needed:
                needed.update(part.table)
        return needed

    def _fits(self, update: Update) -> bool:
        # Once one does not fit, none after it counts: so a document can grow at its end.
        self._full = self._full or not self.has_room(update)
        self._pieces += pieces_of(update)
        self._content_bytes += content_bytes_of(update)
        return not self._full

    def _apply(self, structs: list[Struct], deletions: list[Range]) -> None:
        if structs or deletions:
            last = self._parts[-1].id
            what = f"a card up to {short(last)}"
            self._engine.apply(joined_update(structs, deletions), what)
            # What the engine cannot integrate it keeps aside without a word.
            if self._engine.clock() != self.weaver().clock:
                raise CardEngineFault(f"{what}: not all of it was integrated")


def _in_order(parts: Iterable[CardPart]) -> list[CardPart]:
    ordered = sorted(parts, key=lambda part: part.order)
    assert len({part.id for part in ordered}) == len(ordered), "a part was given twice"
    return ordered


def _opened_snapshot(snapshot: bytes, parts: list[CardPart]) -> bytes | None:
    from crdt.cards.engine import VERSION

    try:
        fields = decode(snapshot, bytes_max=SNAPSHOT_BYTES_MAX)
    except MalformedBytes:
        return None
    if not has_head(fields, 6, SNAPSHOT_TAG, SNAPSHOT_VERSION, VERSION):
        return None
    _, _, _, digest, state, checksum = fields
    if digest != _digest(parts) or type(state) is not bytes or checksum != sha3(state):
        return None
    return state


def _digest(parts: list[CardPart]) -> bytes:
    return sha3(encode([[part.depth, part.id, part.effective] for part in parts]))
