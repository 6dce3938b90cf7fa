"""What stands where: the place of every clock of an operation, and check B of a card.

A layout is all that a later operation's check needs of an earlier one, so nothing is judged by
what a document happens to look like.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from crdt.cards.bodies import CardBody
from crdt.cards.parts import CardPart
from crdt.cards.seeds import Seed, seed_update
from crdt.cards.updates import (
    ANY,
    DELETED,
    EVALS_ROOT,
    GC,
    MAP,
    STRING,
    TAGS_ROOT,
    TEXT_ROOT,
    Range,
    Ref,
    Struct,
    Update,
)
from crdt.cards.values import TRUE
from crdt.errors import CausalFault, MalformedBytes, NotAuthorised
from crdt.ids import OperationId, PublicKey

NAME_BYTES_MAX = 128
SELF = OperationId(b"")
"""In an operation's own layout, itself: its id is not known when its body is judged."""


class Place(NamedTuple):
    """Where a struct stands.

    Attributes:
        root: `text`, `tags` or `evals`.
        key: A tag, or the writer's key in hex below `evals`; empty in `text`.
        holder: The Map an evaluation stands in: an operation and a clock of it.
        name: The evaluation's name.
    """

    root: str
    key: str = ""
    holder: tuple[OperationId, int] | None = None
    name: str = ""


TEXT = Place(TEXT_ROOT)


class Run(NamedTuple):
    """Neighbouring clocks in one place; `place` is None where there is nothing to refer to."""

    start: int
    place: Place | None
    is_map: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The places of an operation's clocks, 0 to `length`.

    Attributes:
        runs: Ascending by start; the first starts at 0.
        pairs: Clocks of second halves of surrogate pairs, ascending.
        is_seed: Whether it is a put's or a checkpoint's.
        table: What the operation refers to: all of it is in its past.
    """

    length: int
    runs: tuple[Run, ...]
    pairs: tuple[int, ...] = ()
    is_seed: bool = False
    table: tuple[OperationId, ...] = ()
    starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", tuple(run.start for run in self.runs))

    @property
    def weight(self) -> int:
        """What it takes to keep: one, and one more for every run and pair."""
        return 1 + len(self.runs) + len(self.pairs)

    def run_at(self, clock: int) -> Run:
        """Return the run that holds a clock below `length`."""
        return self.runs[bisect_right(self.starts, clock) - 1]

    def runs_in(self, clock: int, length: int) -> tuple[Run, ...]:
        """Return the runs that a range touches."""
        first = bisect_right(self.starts, clock) - 1
        return self.runs[first : bisect_left(self.starts, clock + length)]

    def splits_pair(self, clock: int) -> bool:
        """Whether a boundary before `clock` would part the halves of one character."""
        at = bisect_left(self.pairs, clock)
        return at < len(self.pairs) and self.pairs[at] == clock


def layout_of_seed(seed: Seed) -> Layout:
    """Return the layout of what a put or a checkpoint implies."""
    return _Placer(seed_update(seed), (), _nothing, None, may_edit=True).layout(is_seed=True)


def check_card(
    card: CardBody,
    *,
    key: PublicKey,
    may_edit: bool,
    layout_of: Callable[[OperationId], Layout],
) -> Layout:
    """Check B for references and field authority; return the operation's own layout.

    That the table's operations are in the causal past, in the era and of a kind that may be
    referred to is its caller's business.

    Args:
        key: Who signed.
        may_edit: False for an evaluator, who writes and deletes only its own entries of `evals`.
        layout_of: The layout of an operation of the table.

    Raises:
        MalformedBytes: a name, tag or content that no place allows.
        CausalFault: it refers to what is not there, or where it would tear something apart.
        NotAuthorised: it writes where its signer may not.
    """
    placer = _Placer(card.update, card.table, layout_of, key, may_edit=may_edit)
    if len(card.table) > card.referred_count and not layout_of(card.table[-1]).is_seed:
        raise CausalFault("a card's table ends with an unused operation that is no seed")
    layout = placer.layout(is_seed=False)
    placer.check_deletions()
    return layout


def layouts_of(parts: Iterable[CardPart]) -> dict[OperationId, Layout]:
    """Return the layouts of parts that were checked before, all that they refer to among them."""
    found: dict[OperationId, Layout] = {}
    for part in sorted(parts, key=lambda one: one.order):
        placer = _Placer(part.update, part.table, found.__getitem__, None, may_edit=True)
        found[part.id] = placer.layout(is_seed=isinstance(part.content, Seed))
    return found


def check_name(name: str, what: str) -> str:
    """Return a tag or an evaluation's name that is 1..128 bytes without control characters.

    Raises:
        MalformedBytes: it is not.
    """
    size = len(name.encode("utf-8", "surrogatepass"))
    if not 0 < size <= NAME_BYTES_MAX or any(_is_control(one) for one in name):
        raise MalformedBytes(
            f"the {what} {name[:40]!r} of {size} bytes is not 1..{NAME_BYTES_MAX} bytes "
            "without control characters"
        )
    return name


def is_key_hex(text: str) -> bool:
    """Whether `text` is a public key in lower-case hex."""
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _is_control(character: str) -> bool:
    # C0, DEL and C1, by number: Unicode's tables grow with Python's version.
    return character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"


def _nothing(operation: OperationId) -> Layout:
    raise AssertionError(f"a seed refers to nothing, but to {operation.hex()}")


class _Placer:
    """Lays out one update; with `key` None one whose names and authority are not in question."""

    def __init__(
        self,
        update: Update,
        table: tuple[OperationId, ...],
        layout_of: Callable[[OperationId], Layout],
        key: PublicKey | None,
        *,
        may_edit: bool,
    ) -> None:
        self._update = update
        self._table = table
        self._layouts: list[Layout | None] = [None] * len(table)
        self._layout_of = layout_of
        self._key = None if key is None else key.hex()
        self._may_edit = may_edit
        self._runs: list[Run] = []
        self._starts: list[int] = []
        self._pairs: list[int] = []

    def layout(self, *, is_seed: bool) -> Layout:
        for struct in self._update.structs:
            place = self._place(struct) if struct.kind != GC else None
            run = Run(struct.clock, place, struct.kind == MAP)
            if not self._runs or self._runs[-1][1:] != run[1:]:
                self._runs.append(run)
                self._starts.append(struct.clock)
            self._pairs.extend(struct.pairs)
        runs, pairs = tuple(self._runs), tuple(self._pairs)
        return Layout(self._update.length, runs, pairs, is_seed, self._table)

    def check_deletions(self) -> None:
        for client, ranges in self._update.deletions:
            layout = self._other(client)
            for one in ranges:
                self._check_deletion(layout, one)

    def _check_deletion(self, layout: Layout, deleted: Range) -> None:
        clock, length = deleted
        end = clock + length
        if end > layout.length:
            raise CausalFault(f"a deletion up to clock {end} of an operation of {layout.length}")
        if layout.splits_pair(clock) or layout.splits_pair(end):
            raise CausalFault(f"the deletion of {length} at {clock} would tear a character apart")
        if self._may_edit:
            return
        for run in layout.runs_in(clock, length):
            if run.place is None or run.place.root != EVALS_ROOT or run.place.key != self._key:
                raise NotAuthorised(f"an evaluator deletes at clock {clock} what is not its own")

    def _place(self, struct: Struct) -> Place:
        left = None if struct.left is None else self._at(struct.left, after=True)
        right = None if struct.right is None else self._at(struct.right, after=False)
        if left is not None and right is not None and left != right:
            raise CausalFault(f"the struct at clock {struct.clock} is between two places")
        place = left or right or self._named(struct)
        if struct.keyed is (place.root == TEXT_ROOT) or (struct.keyed and right is not None):
            raise CausalFault(
                f"the struct at clock {struct.clock} is not inserted as {place.root!r} needs it"
            )
        self._check_content(struct, place)
        self._check_authority(place)
        return place

    def _at(self, ref: Ref, *, after: bool) -> Place:
        client, clock = ref
        boundary = clock + after
        if client == 0:
            run = self._runs[bisect_right(self._starts, clock) - 1]
            at = bisect_left(self._pairs, boundary)
            torn = at < len(self._pairs) and self._pairs[at] == boundary
        else:
            layout = self._other(client)
            if clock >= layout.length:
                raise CausalFault(
                    f"a reference to clock {clock} of an operation of {layout.length}"
                )
            run, torn = layout.run_at(clock), layout.splits_pair(boundary)
        if torn or run.place is None:
            raise CausalFault(f"a reference to clock {clock} that tears a character, or to nothing")
        return self._absolute(run.place, client)

    def _absolute(self, place: Place, client: int) -> Place:
        if client and place.holder is not None and place.holder[0] == SELF:
            return place._replace(holder=(self._table[client - 1], place.holder[1]))
        return place

    def _named(self, struct: Struct) -> Place:
        parent, key = struct.parent, struct.key or ""
        if parent == TEXT_ROOT:
            return TEXT
        if parent == TAGS_ROOT:
            return Place(TAGS_ROOT, key if self._key is None else check_name(key, "tag"))
        if parent == EVALS_ROOT:
            if not is_key_hex(key):
                raise MalformedBytes(f"{key[:80]!r} below evals is not a public key in hex")
            return Place(EVALS_ROOT, key)
        assert isinstance(parent, tuple)
        client, clock = parent
        holder = self._at(parent, after=False)
        run = self._other(client).run_at(clock) if client else self._own_run(clock)
        if not run.is_map:
            raise CausalFault(f"the parent at clock {clock} is not a Map")
        operation = self._table[client - 1] if client else SELF
        name = key if self._key is None else check_name(key, "evaluation's name")
        return Place(EVALS_ROOT, holder.key, (operation, clock), name)

    def _own_run(self, clock: int) -> Run:
        return self._runs[bisect_right(self._starts, clock) - 1]

    def _other(self, client: int) -> Layout:
        layout = self._layouts[client - 1]
        if layout is None:
            layout = self._layouts[client - 1] = self._layout_of(self._table[client - 1])
        return layout

    def _check_content(self, struct: Struct, place: Place) -> None:
        kind = struct.kind
        if kind == DELETED:
            return
        if place.root == TEXT_ROOT:
            allowed = kind == STRING
        elif place.root == TAGS_ROOT:
            allowed = kind == ANY and struct.content[1:] == TRUE
        else:
            allowed = kind == (MAP if place.holder is None else ANY)
        if not allowed:
            raise MalformedBytes(f"content of kind {kind} in {place.root!r} at {struct.clock}")

    def _check_authority(self, place: Place) -> None:
        if self._key is None:
            return
        if place.root != EVALS_ROOT:
            if not self._may_edit:
                raise NotAuthorised(
                    f"an evaluator writes only evaluations of its own, not in {place.root!r}"
                )
        elif place.key != self._key:
            raise NotAuthorised(f"{self._key[:16]} writes below another's key in evals")
