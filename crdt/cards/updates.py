"""Yjs v1 updates of one client: a strict, bounded parser, and the encoder that is its inverse.

The grammar is the part of Yjs that a card needs, each thing in one spelling. An update is at most
one block of structs, of the own client from clock 0, and a set of deletions in other clients.
References are (client, clock); what a client stands for is the caller's business: in the body of an
operation 0 is the operation itself and i the i-th id of its table.

    update  := 0 deletions | 1 count client 0 struct* deletions
    struct  := 0 length                            clocks that hold nothing (GC)
             | info [left] [right] [parent] content
    info    := 128 left?, 64 right?, 32 under a key?, and the content's kind in five bits
    parent  := 1 root [key] | 0 client clock key   only without left and right
    content := 1 length | 4 text | 7 1 | 8 1 value    Deleted, String, a Map, one Any value
    deletions := count (client count (clock length)*)*
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from crdt.cards.values import Budget, read_value, write_value
from crdt.cards.varints import Reader, varuint
from crdt.errors import MalformedBytes

PIECE_COUNT_MAX = 4096
"""Structs, values and deleted ranges of one update together."""
CLOCKS_MAX = 65_536
"""Clocks of one update: no more UTF-16 units fit a body, and deletions need no more either."""
GC, DELETED, STRING, MAP, ANY = 0, 1, 4, 7, 8
TEXT_ROOT, TAGS_ROOT, EVALS_ROOT = "text", "tags", "evals"
ROOTS = (TEXT_ROOT, TAGS_ROOT, EVALS_ROOT)
_HAS_LEFT, _HAS_RIGHT, _HAS_KEY = 128, 64, 32
_MAP_CONTENT = b"\x01"

Ref: TypeAlias = "tuple[int, int]"
"""A client and a clock."""
Range: TypeAlias = "tuple[int, int]"
"""A clock and a length."""


class Struct(NamedTuple):
    """One struct. A tuple, not a dataclass, because the parser makes little else.

    Attributes:
        length: How many clocks it takes: UTF-16 units of a String, 1 of a Map and a value.
        kind: GC, DELETED, STRING, MAP or ANY.
        left: The unit it was inserted after.
        right: The unit it was inserted before.
        parent: A root's name or a Map's unit, if it has neither left nor right.
        keyed: Whether it stands under a key (which only an explicit parent spells out).
        content: The content's bytes, without the kind.
        pairs: The clocks of second halves of surrogate pairs: no boundary may be before them.
    """

    clock: int
    length: int
    kind: int
    left: Ref | None = None
    right: Ref | None = None
    parent: str | Ref | None = None
    keyed: bool = False
    key: str | None = None
    content: bytes = b""
    pairs: tuple[int, ...] = ()


class Update(NamedTuple):
    """What one client did: structs from clock 0 on, and the ranges it deleted, by client."""

    structs: tuple[Struct, ...]
    deletions: tuple[tuple[int, tuple[Range, ...]], ...]

    @property
    def length(self) -> int:
        """How many clocks the structs take."""
        return self.structs[-1].clock + self.structs[-1].length if self.structs else 0


def parse_update(raw: bytes) -> Update:
    """Return the update in `raw`, of client 0.

    Raises:
        MalformedBytes: not an update of the grammar above, or not in its one spelling.
    """
    parser = _Parser(raw, own=0, captured=False)
    update = parser.update()
    if not update.structs and not update.deletions:
        raise MalformedBytes("an update that changes nothing")
    return update


def parse_captured(raw: bytes, own: int) -> Update:
    """Return an update that the local engine made for its client `own`, in order.

    The engine is free where `parse_update` is not: in the order of clients, of ranges and of
    a value's keys, in ranges that touch, and in saying twice that own structs were deleted.
    """
    return _Parser(raw, own=own, captured=True).update()


def pieces_of(update: Update) -> int:
    """Return how many structs and deleted ranges an update has: what it costs to apply."""
    return len(update.structs) + sum(len(ranges) for _, ranges in update.deletions)


def content_bytes_of(update: Update) -> int:
    """Return how many bytes of text and values an update writes: what it costs to keep."""
    return sum(len(struct.content) for struct in update.structs)


def encode_update(update: Update, *, client: int = 0, clock: int = 0) -> bytes:
    """Return the bytes of an update by `client` that starts at `clock`."""
    parts: list[bytes] = []
    if update.structs:
        parts += (b"\x01", varuint(len(update.structs)), varuint(client), varuint(clock))
        parts.extend(map(encode_struct, update.structs))
    else:
        parts.append(b"\x00")
    parts.append(varuint(len(update.deletions)))
    for other, ranges in update.deletions:
        parts += (varuint(other), varuint(len(ranges)))
        parts.extend(varuint(start) + varuint(length) for start, length in ranges)
    return b"".join(parts)


def encode_struct(struct: Struct) -> bytes:
    """Return the bytes of one struct."""
    _, length, kind, left, right, parent, keyed, key, content, _ = struct
    if kind == GC:
        return b"\x00" + varuint(length)
    info = kind | (_HAS_KEY if keyed else 0)
    if left is not None or right is not None:
        where = b""
        if left is not None:
            info |= _HAS_LEFT
            where = varuint(left[0]) + varuint(left[1])
        if right is not None:
            info |= _HAS_RIGHT
            where += varuint(right[0]) + varuint(right[1])
        return bytes([info]) + where + content
    assert parent is not None
    if isinstance(parent, str):
        where = b"\x01" + _string(parent)
    else:
        where = b"\x00" + varuint(parent[0]) + varuint(parent[1])
    if keyed:
        assert key is not None
        where += _string(key)
    return bytes([info]) + where + content


def string_content(text: str) -> tuple[bytes, int, tuple[int, ...]]:
    """Return a String's content, its length in UTF-16 units, and where its pairs' halves meet."""
    if text.isascii():
        return _string(text), len(text), ()
    pairs: list[int] = []
    at = 0
    for character in text:
        at += 1
        if character > "\uffff":
            pairs.append(at)
            at += 1
    return _string(text), at, tuple(pairs)


def _string(text: str) -> bytes:
    raw = text.encode()
    return varuint(len(raw)) + raw


class _Parser:
    __slots__ = ("_budget", "_captured", "_own", "_reader")

    def __init__(self, raw: bytes, *, own: int, captured: bool) -> None:
        self._reader = Reader(raw)
        self._budget = Budget(PIECE_COUNT_MAX)
        self._own = own
        self._captured = captured

    def update(self) -> Update:
        count = self._reader.varuint()
        if count > 1:
            raise MalformedBytes(f"structs of {count} clients; only the operation's own")
        update = Update(self._structs() if count else (), self._deletions())
        self._reader.end()
        return update

    def _structs(self) -> tuple[Struct, ...]:
        reader = self._reader
        count, client, clock = reader.varuint(), reader.varuint(), reader.varuint()
        if count == 0 or client != self._own or clock != 0:
            raise MalformedBytes(
                f"{count} structs of client {client} from clock {clock}; "
                f"at least one, of client {self._own}, from clock 0"
            )
        self._budget.spend(count)
        structs: list[Struct] = []
        for _ in range(count):
            struct = self._struct(clock)
            clock += struct.length
            if clock > CLOCKS_MAX:
                raise MalformedBytes(f"an update of more than {CLOCKS_MAX} clocks")
            structs.append(struct)
        return tuple(structs)

    def _struct(self, clock: int) -> Struct:
        reader = self._reader
        info = reader.byte()
        if info == GC:
            return Struct(clock, self._length(), GC)
        left = self._ref(clock) if info & _HAS_LEFT else None
        right = self._ref(clock) if info & _HAS_RIGHT else None
        keyed = bool(info & _HAS_KEY)
        parent: str | Ref | None = None
        key: str | None = None
        if left is None and right is None:
            parent = self._parent(clock)
            if keyed is (parent == TEXT_ROOT):
                raise MalformedBytes(f"a struct under {parent!r} where a key is amiss")
            if keyed:
                key = reader.text()
        length, content, pairs = self._content(info & 31, clock)
        return Struct(
            clock, length, info & 31, left, right, parent, keyed, key, content, pairs
        )  # fmt: skip

    def _ref(self, clock: int) -> Ref:
        ref = self._reader.varuint(), self._reader.varuint()
        if ref[0] == self._own and ref[1] >= clock:
            raise MalformedBytes(f"the struct at clock {clock} refers to its own clock {ref[1]}")
        return ref

    def _parent(self, clock: int) -> str | Ref:
        form = self._reader.varuint()
        if form == 0:
            return self._ref(clock)
        name = self._reader.text()
        if form != 1 or name not in ROOTS:
            raise MalformedBytes(f"a parent of form {form} named {name[:40]!r}; of {ROOTS}")
        return name

    def _content(self, kind: int, clock: int) -> tuple[int, bytes, tuple[int, ...]]:
        reader, start = self._reader, self._reader.at
        if kind == STRING:
            text = reader.text()
            if not text:
                raise MalformedBytes("an empty String")
            if text.isascii():
                return len(text), reader.raw[start : reader.at], ()
            content, length, pairs = string_content(text)
            return length, content, tuple(clock + one for one in pairs)
        if kind == DELETED:
            return self._length(), reader.raw[start : reader.at], ()
        if kind == MAP:
            if reader.varuint() != 1:
                raise MalformedBytes("a shared type other than Map")
            return 1, _MAP_CONTENT, ()
        if kind != ANY:
            raise MalformedBytes(f"content of kind {kind}, which cards do not have")
        if reader.varuint() != 1:
            raise MalformedBytes("other than one value in a struct")
        value = read_value(reader, self._budget, sorted_keys=not self._captured)
        if self._captured:
            return 1, b"\x01" + write_value(value), ()
        return 1, reader.raw[start : reader.at], ()

    def _length(self) -> int:
        length = self._reader.varuint()
        if not 0 < length <= CLOCKS_MAX:
            raise MalformedBytes(f"a length of {length}; 1..{CLOCKS_MAX}")
        return length

    def _deletions(self) -> tuple[tuple[int, tuple[Range, ...]], ...]:
        reader = self._reader
        found: list[tuple[int, tuple[Range, ...]]] = []
        count = reader.varuint()
        self._budget.spend(count)
        for _ in range(count):
            client = reader.varuint()
            if not self._captured and client <= (found[-1][0] if found else self._own):
                raise MalformedBytes(f"deletions in client {client} are own, or not ascending")
            found.append((client, self._ranges()))
        return tuple(found)

    def _ranges(self) -> tuple[Range, ...]:
        reader = self._reader
        count = reader.varuint()
        if count == 0:
            raise MalformedBytes("no deletions in a client that is named for them")
        self._budget.spend(count)
        ranges: list[Range] = []
        free = 0
        for _ in range(count):
            clock, length = reader.varuint(), reader.varuint()
            if length == 0 or (not self._captured and clock < free):
                raise MalformedBytes(f"a deletion of {length} at {clock}, before {free}, or empty")
            ranges.append((clock, length))
            free = clock + length + 1
        return tuple(ranges)
