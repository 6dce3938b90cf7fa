"""Honest people who edit cards for real, each at a desk that may be offline; and what must come of it.

Every character that an editor inserts is inserted once in a whole world. So what a card has to say
is known without weaving anything: the characters of effective edits less those that effective
edits deleted, each run in the order it was typed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from crdt import (
    Capability,
    Card,
    OperationId,
    PublicKey,
    RecordId,
    edit_card,
    head_to_cite,
)
from crdt.cards import CardDraft
from node.storage.cards import CardShelf
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt import reference as ref
from tests.crdt.reference import RefCard, RefOperation
from tests.sim.independent import Shown, Violation, Whole
from tests.sim.press import public
from tests.sim.worlds import World
from tests.writers import AnyBody

EDITING = Capability.MAINTAINER | Capability.EDITOR
FIRST_MARK, FIRST_WIDE_MARK = 0x4E00, 0x20000
MARK_COUNT_MAX = 20_000
"""Chinese characters: one UTF-16 unit each in the first block, two in the other."""


@dataclass(frozen=True)
class Edit:
    """What one card operation of an honest person did.

    Attributes:
        runs: What was inserted, run by run.
        deleted: The marks among what was deleted.
        tags, removed: Tags that it added, each new in the world, and that it removed.
    """

    id: bytes
    record: bytes
    runs: tuple[str, ...]
    deleted: frozenset[str]
    tags: frozenset[str]
    removed: frozenset[str]


@dataclass
class Editors:
    """The people of one world who edit its cards, and all that they did."""

    world: World
    edits: list[Edit] = field(default_factory=list)
    mark_count: int = 0

    def edit(self, disk: MemoryDisk, slug: str) -> RefOperation | None:
        """Somebody edits a record as it stands on a disk; None when there is nobody or nothing to.

        The new operation is in the world, and not yet on the disk.
        """
        storage = MemoryStorage(disk)
        record = RecordId(self.world.record(slug))
        account, register = storage.account(self.world.account), storage.register(record)  # type: ignore[arg-type]
        if account is None or register is None or not register.heads:
            return None
        signers = {
            name: head
            for name in sorted(self.world.held)
            if (head := head_to_cite(account, PublicKey(public(name)), EDITING, record))
        }
        if not signers:
            return None
        draft = _Doing(self)
        body = edit_card(CardShelf(storage, AnyBody().seed_of).document(record), draft.do)
        if body is None:
            return None
        first = register.facts[:1]
        cited = (*first, *(one for one in register.heads if one not in first))[: ref.CITED_MAX]
        cited = tuple(one for one in cited if one in register.heads) or register.heads[:1]
        signer = self.world.rng.choice(sorted(signers))
        made = self._sign(signer, signers[signer], cited, register.era, body, slug)
        self.edits.append(draft.done(made))
        return made

    def _sign(
        self,
        signer: str,
        head: bytes,
        cited: tuple[OperationId, ...],
        era: bytes,
        body: bytes,
        slug: str,
    ) -> RefOperation:
        known = {one.id: one.what for one in self.world.made}
        cites = tuple(known[id_] for id_ in cited)
        valid = self.world.look(may_lag=False).operations
        return self.world.operate(
            ref.CARD,
            signer,
            head,
            cites,  # type: ignore[arg-type]
            slug=slug,
            era=era,
            # Honest, so its references are in order: the slow rules need not know them.
            card=RefCard(),
            body=body,
            honest=valid.issuperset(cites),  # type: ignore[arg-type]
        )

    def new_run(self) -> str:
        """Return characters that nobody has typed before."""
        marks = []
        for _ in range(self.world.rng.randint(1, 4)):
            assert self.mark_count < MARK_COUNT_MAX
            first = FIRST_WIDE_MARK if self.mark_count % 3 == 0 else FIRST_MARK
            marks.append(chr(first + self.mark_count))
            self.mark_count += 1
        return "".join(marks)


class _Doing:
    """One edit while it is being made."""

    def __init__(self, editors: Editors) -> None:
        self._editors = editors
        self._rng = editors.world.rng
        self._runs: list[str] = []
        self._deleted: set[str] = set()
        self._tags: set[str] = set()
        self._removed: set[str] = set()

    def do(self, draft: CardDraft) -> None:
        for _ in range(self._rng.randint(1, 3)):
            chance = self._rng.random()
            if chance < 0.6:
                self._insert(draft)
            elif chance < 0.85:
                self._delete(draft)
            else:
                self._tag(draft)

    def done(self, made: RefOperation) -> Edit:
        """What was typed and deleted again in one edit never was."""
        runs = tuple("".join(c for c in run if c not in self._deleted) for run in self._runs)
        typed = {c for run in self._runs for c in run}
        return Edit(
            made.id,
            made.record,
            tuple(run for run in runs if run),
            frozenset(self._deleted - typed),
            frozenset(self._tags - self._removed),
            frozenset(self._removed - self._tags),
        )

    def _insert(self, draft: CardDraft) -> None:
        run = self._editors.new_run()
        draft.splice(self._rng.randint(0, len(draft.text)), 0, run)
        self._runs.append(run)

    def _delete(self, draft: CardDraft) -> None:
        length = len(draft.text)
        if length:
            start = self._rng.randrange(length)
            count = min(self._rng.randint(1, 3), length - start)
            self._deleted |= marks_in(draft.text[start : start + count])
            draft.splice(start, count, "")

    def _tag(self, draft: CardDraft) -> None:
        old = sorted(one for edit in self._editors.edits for one in edit.tags)
        if old and self._rng.random() < 0.4:
            # Gone for sure only if it was there to be removed.
            tag = self._rng.choice(old)
            if tag in draft._tags:
                draft.remove_tag(tag)
                self._removed.add(tag)
            return
        tag = "tag-" + "".join(f"{ord(c):x}" for c in self._editors.new_run())
        draft.add_tag(tag)
        self._tags.add(tag)


def marks_in(text: str) -> set[str]:
    """The characters in a text that some editor's are."""
    return {
        c
        for c in text
        if FIRST_MARK <= ord(c) < FIRST_MARK + MARK_COUNT_MAX
        or FIRST_WIDE_MARK <= ord(c) < FIRST_WIDE_MARK + MARK_COUNT_MAX
    }


def cards_on(disk: MemoryDisk, records: Iterable[bytes]) -> dict[bytes, Card | None]:
    """The cards of records as a node derives them from its disk."""
    shelf = CardShelf(MemoryStorage(disk), AnyBody().seed_of)
    return {record: shelf.card(RecordId(record)) for record in sorted(records)}


def check_equal_cards(
    sets: Mapping[str, frozenset[bytes]], digests: Mapping[str, Mapping[bytes, bytes]]
) -> None:
    """Every two nodes with equal sets have equal cards.

    Raises:
        Violation: two have not.
    """
    first: dict[frozenset[bytes], str] = {}
    for name, admitted in sorted(sets.items()):
        other = first.setdefault(admitted, name)
        mine, theirs = digests[name], digests[other]
        odd = sorted(r.hex()[:8] for r in {*mine, *theirs} if mine.get(r) != theirs.get(r))
        if odd:
            raise Violation("cards differ", f"{other} and {name}: of {', '.join(odd)}")


def check_cards(
    editors: Editors,
    whole: Whole,
    shown: Mapping[bytes, Shown],
    card_of: Callable[[bytes], Card | None],
) -> None:
    """A card says what its effective edits say, and nothing else of what editors ever typed.

    Raises:
        Violation: it does not.
    """
    account = editors.world.account
    entries = frozenset(e for e in whole.entries if e.account == account)
    for record in sorted({edit.record for edit in editors.edits}):
        state = shown.get(record)
        if state is None:
            continue
        own = frozenset(one for one in whole.operations if one.record == record)
        counts = {
            one.id for one in ref.effective_operations(own, entries) if ref.era_of(one) == state.era
        }
        edits = [one for one in editors.edits if one.id in counts]
        if edits:
            _check_card(record, edits, card_of(record))


def _check_card(record: bytes, edits: list[Edit], card: Card | None) -> None:
    name = record.hex()[:8]
    if card is None:
        raise Violation("edit lost", f"{name}: {len(edits)} edits and no card")
    deleted = {c for edit in edits for c in edit.deleted}
    wanted = {c for edit in edits for run in edit.runs for c in run} - deleted
    found = marks_in(card.text)
    if wanted - found:
        raise Violation("edit lost", f"{name}: {len(wanted - found)} characters are missing")
    if found - wanted:
        raise Violation("edit undone", f"{name}: {len(found - wanted)} characters should be gone")
    for run in (run for edit in edits for run in edit.runs):
        places = [card.text.index(c) for c in run if c in wanted]
        if places != sorted(places):
            raise Violation("edit garbled", f"{name}: {run!r} is not in the order it was typed in")
    tags = {tag for edit in edits for tag in edit.tags}
    removed = {tag for edit in edits for tag in edit.removed}
    shown = {tag for tag in card.tags if tag.startswith("tag-")}
    if shown != tags - removed:
        raise Violation("tag lost", f"{name}: {sorted(shown ^ (tags - removed))}")
