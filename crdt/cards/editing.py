"""From a change somebody made here to the body of a card operation.

The change is made to a scratch copy, in one transaction; the engine says what it was, and that is
rewritten so that it names operations. The scratch copy's client id is thrown away with it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from crdt.cards.bodies import encode_card, open_card
from crdt.cards.documents import CardDocument
from crdt.cards.layouts import check_name
from crdt.cards.updates import (
    DELETED,
    GC,
    Range,
    Ref,
    Struct,
    Update,
    parse_captured,
)
from crdt.cards.values import (
    KEY_BYTES_MAX,
    NUMBER_MAX,
    VALUE_DEPTH_MAX,
    Json,
    canonical_value,
    number_fault,
)
from crdt.cards.weaving import CLIENT, Weaver, merged
from crdt.errors import CardFull, EditTooLarge, MalformedBytes, UserFault
from crdt.ids import OperationId, PublicKey

if TYPE_CHECKING:
    from crdt.cards.engine import Engine

SCRATCH_CLIENT = CLIENT + 1
DIFF_WORK_MAX = 4_000_000
"""Words of the old text times those of the new one that are compared (under a second, measured);
beyond it lines are compared, and beyond that the whole changed middle is replaced."""
HUNK_COUNT_MAX = 1000
"""Differences in one change, so that it fits one operation with room to spare."""
_WORDS = re.compile(r"[A-Za-z0-9_\u00c0-\u024f]+|\s+|.", re.DOTALL)
"""Words of Latin letters, white space, and any other character by itself."""


class CardDraft:
    """A card while it is being changed. Indices and counts are of Python's characters."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        content = engine.content()
        self._text = content.text
        self._tags = set(content.tags)

    @property
    def text(self) -> str:
        """The description as it stands now."""
        return self._text

    def splice(self, index: int, delete_count: int, insert: str) -> None:
        """Delete characters at an index, and insert others there.

        Raises:
            UserFault: outside of the text, or half a surrogate pair.
        """
        end = index + delete_count
        if not 0 <= index <= end <= len(self._text):
            raise UserFault(f"characters {index} to {end} of a text of {len(self._text)}")
        _check_text(insert)
        # pycrdt counts bytes of UTF-8.
        start = len(self._text[:index].encode())
        deleted = len(self._text[index:end].encode())
        if deleted:
            del self._engine.text[start : start + deleted]
        if insert:
            self._engine.text.insert(start, insert)
        self._text = self._text[:index] + insert + self._text[end:]

    def replace_text(self, new: str) -> None:
        """Make the text `new` by few deletions and insertions, so that others' edits survive."""
        for start, end, insert in reversed(_differences(self._text, new)):
            self.splice(start, end - start, insert)

    def add_tag(self, tag: str) -> None:
        """Add a tag; nothing happens if it is there."""
        _checked_name(tag, "tag")
        if tag not in self._tags:
            self._tags.add(tag)
            self._engine.tags[tag] = True

    def remove_tag(self, tag: str) -> None:
        """Remove a tag; nothing happens if it is not there."""
        if tag in self._tags:
            self._tags.remove(tag)
            del self._engine.tags[tag]

    def set_evaluation(self, key: PublicKey, name: str, value: Json) -> None:
        """Say `name` is `value` below a writer's key: the one that will sign, or nobody accepts it.

        Raises:
            UserFault: a name or value that cards do not have.
        """
        from crdt.cards.engine import Map

        _checked_name(name, "evaluation's name")
        _check_value(value)
        entries = self._engine.evals.get(key.hex())
        if entries is None:
            self._engine.evals[key.hex()] = Map({})
            entries = self._engine.evals[key.hex()]
        value = canonical_value(value)
        if name not in entries or canonical_value(entries.to_py()[name]) != value:
            entries[name] = value

    def remove_evaluation(self, key: PublicKey, name: str) -> None:
        """Remove an evaluation; nothing happens if it is not there."""
        entries = self._engine.evals.get(key.hex())
        if entries is not None and name in entries:
            del entries[name]


def edit_card(document: CardDocument, change: Callable[[CardDraft], None]) -> bytes | None:
    """Return the body of the card operation that does what `change` does, or None for nothing.

    The document is left as it is. For a record without a card yet it is `CardDocument.of` the
    winning put's seed alone.

    Raises:
        UserFault: the change is not possible.
        EditTooLarge: it does not fit into one operation.
        CardFull: it does not fit into the card any more.
    """
    from crdt.cards.engine import Engine

    scratch = Engine(SCRATCH_CLIENT)
    scratch.apply(document.state(), "copying a card")
    draft = CardDraft(scratch)
    captured = scratch.captured(lambda: change(draft))
    if captured is None:
        return None
    try:
        update = parse_captured(captured, SCRATCH_CLIENT)
        table, update = _retabled(update, document.weaver())
        if not update.deletions and all(one.kind in (GC, DELETED) for one in update.structs):
            return None
        if not document.has_room(update):
            raise CardFull(
                "the card is full: a checkpoint opens a new era, where it is small again"
            )
        if document.seed is not None and document.seed not in table:
            table.append(document.seed)
        return open_card(encode_card(table, update)).raw
    except MalformedBytes as error:
        raise EditTooLarge(f"the change is too large for one operation: {error}") from error


def _retabled(update: Update, weaver: Weaver) -> tuple[list[OperationId], Update]:
    """Return a table in order of first reference, and the update that refers to it."""
    table: list[OperationId] = []
    index: dict[OperationId, int] = {}

    def client_of(operation: OperationId) -> int:
        if operation not in index:
            table.append(operation)
            index[operation] = len(table)
        return index[operation]

    def renamed(ref: Ref) -> Ref:
        if ref[0] == SCRATCH_CLIENT:
            return 0, ref[1]
        operation, clock = weaver.unit_at(ref[1])
        return client_of(operation), clock

    def rewritten(struct: Struct) -> Struct:
        left = None if struct.left is None else renamed(struct.left)
        right = None if struct.right is None else renamed(struct.right)
        parent = renamed(struct.parent) if isinstance(struct.parent, tuple) else struct.parent
        return struct._replace(left=left, right=right, parent=parent)

    structs = tuple(map(rewritten, update.structs))
    found: dict[int, list[Range]] = {}
    for client, ranges in update.deletions:
        if client == SCRATCH_CLIENT:
            continue  # Own structs that were deleted say so themselves.
        for operation, one in _by_operation(merged(list(ranges)), weaver):
            found.setdefault(client_of(operation), []).append(one)
    deletions = tuple((client, merged(found[client])) for client in sorted(found))
    return table, Update(structs, deletions)


def _by_operation(
    ranges: Sequence[Range], weaver: Weaver
) -> list[tuple[OperationId, Range]]:  # fmt: skip
    found: list[tuple[OperationId, Range]] = []
    for start, length in ranges:
        clock, end = start, start + length
        while clock < end:
            operation, own_clock = weaver.unit_at(clock)
            until = min(end, weaver.end_of(operation))
            found.append((operation, (own_clock, until - clock)))
            clock = until
    return found


def _differences(old: str, new: str) -> list[tuple[int, int, str]]:
    """Return (start, end, insertion) of each difference, in old characters, ascending."""
    head, tail = _common_ends(old, new)
    hunks = _hunks(old[head : len(old) - tail], new[head : len(new) - tail])
    found: list[tuple[int, int, str]] = []
    cut = [_trimmed(old, head + start, head + end, insert) for start, end, insert in hunks]
    starts = [*(start for start, _, _ in cut), len(old)]
    for number, (start, end, insert) in enumerate(cut):
        if start < end:
            found.append((start, end, insert))
        else:
            low = found[-1][1] if found else 0
            at, moved = _as_lines(old, start, insert, low, starts[number + 1])
            found.append((at, at, moved))
    return found


def _as_lines(old: str, at: int, insert: str, low: int, high: int) -> tuple[int, str]:
    r"""Return the same insertion at the beginning of a line, if it is of whole lines.

    `.\nLast` before the full stop and `Last.\n` after the line give the same text; but only the
    second leaves a line of its own when somebody else adds to the line before.

    Args:
        low, high: How far it may move, in old characters.
    """
    size = len(insert)
    left = right = 0
    while at - left > low and old[at - left - 1] == insert[-1 - left % size]:
        left += 1
    while at + right < high and old[at + right] == insert[right % size]:
        right += 1
    for place in sorted(range(at - left, at + right + 1), key=lambda one: abs(one - at)):
        turn = (place - at) % size
        begins_line = place == 0 or old[place - 1] == "\n"
        if begins_line and insert[turn - 1] == "\n":
            return place, insert[turn:] + insert[:turn]
    return at, insert


def _trimmed(old: str, start: int, end: int, insert: str) -> tuple[int, int, str]:
    """Return a difference without what two different words have in common at their ends."""
    head, tail = _common_ends(old[start:end], insert)
    return start + head, end - tail, insert[head : len(insert) - tail]


def _common_ends(old: str, new: str) -> tuple[int, int]:
    """Return how many characters two texts share at their starts, and then at their ends."""
    head = _common_prefix(old, new)
    return head, _common_prefix(old[head:][::-1], new[head:][::-1])


def _hunks(old: str, new: str) -> list[tuple[int, int, str]]:
    if not old and not new:
        return []
    words = _WORDS.findall(old), _WORDS.findall(new)
    lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
    for parts_old, parts_new in (words, lines):
        if len(parts_old) * len(parts_new) <= DIFF_WORK_MAX:
            found = _matched(parts_old, parts_new)
            if len(found) <= HUNK_COUNT_MAX:
                return found
    return [(0, len(old), new)]


def _matched(old: list[str], new: list[str]) -> list[tuple[int, int, str]]:
    starts = [0]
    for one in old:
        starts.append(starts[-1] + len(one))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        (starts[a], starts[b], "".join(new[c:d]))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    ]


def _common_prefix(first: str, second: str) -> int:
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserFault(f"half a surrogate pair at character {error.start}") from error


def _checked_name(name: str, what: str) -> None:
    try:
        check_name(name, what)
    except MalformedBytes as error:
        raise UserFault(str(error)) from error


def _check_value(value: object, depth: int = 0) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int | float):
        # An int may be too large to be a float at all.
        if isinstance(value, int) and abs(value) > NUMBER_MAX:
            raise UserFault("a number beyond 2**53 - 1")
        fault = number_fault(float(value))
        if fault:
            raise UserFault(fault)
    elif isinstance(value, str):
        _check_text(value)
    elif depth >= VALUE_DEPTH_MAX:
        raise UserFault(f"a value nested deeper than {VALUE_DEPTH_MAX}")
    elif isinstance(value, Mapping):
        for key, one in cast("Mapping[object, object]", value).items():
            _check_key(key)
            _check_value(one, depth + 1)
    elif isinstance(value, list | tuple):
        for one in cast("Sequence[object]", value):
            _check_value(one, depth + 1)
    else:
        raise UserFault(f"a {type(value).__name__} is no value of a card")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise UserFault(f"a {type(key).__name__} as a key; keys are text")
    _check_text(key)
    if len(key.encode()) > KEY_BYTES_MAX:
        raise UserFault(f"the key {key[:40]!r} is over {KEY_BYTES_MAX} bytes")
