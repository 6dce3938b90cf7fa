"""A strict look at a Yjs update before pycrdt sees it.

pycrdt trusts its peers: nested values crash the process, counts make it allocate, and an edit that
cuts a surrogate pair in two (which JavaScript editors can make) deletes the wrong character. So
what reaches it here is what one text needs and nothing else: strings, deletions, and the formats
and embedded values that editors add and a session takes out again. All of it stands in one root.

Bytes: the v1 update encoding of Yjs, as lib0 writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pycrdt import write_var_uint

from node.live.errors import EditsMissing, UpdateRefused
from node.live.reader import LENGTH_MAX, Reader

CLIENT_COUNT_MAX = 256
"""Writers in one update. Each reload of a page is one; an update holds those that are new here."""

DEPTH_MAX = 16
"""Levels of a formatting attribute or embedded value; editors use one or two."""

_GC, _DELETED, _STRING, _EMBED, _FORMAT = 0, 1, 4, 5, 6
_KINDS = {2: "a JSON value", 3: "bytes", 7: "a shared type", 8: "a value", 9: "a document"}

Id = tuple[int, int]
"""Client and clock of one UTF-16 code unit."""

Pairs = dict[int, set[int]]
"""By client: the clocks of the second halves of surrogate pairs."""


@dataclass(frozen=True, slots=True)
class Struct:
    """One run of items.

    Attributes:
        left: The item it was written after.
        right: The item it was written before.
        text: What it inserts, if it inserts text.
        span: Where in the update that text lies, its length prefix included.
    """

    client: int
    clock: int
    length: int
    left: Id | None = None
    right: Id | None = None
    text: str | None = None
    span: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What an update holds. Deletions are (client, clock, length)."""

    structs: tuple[Struct, ...]
    deletions: tuple[tuple[int, int, int], ...]


def scan_update(update: bytes, root: str) -> Scanned:
    """Return what an update holds.

    Raises:
        UpdateRefused: it is not the encoding of edits of the text under `root`.
    """
    reader = Reader(update)
    structs: list[Struct] = []
    clients: set[int] = set()
    for _ in range(reader.count("clients", CLIENT_COUNT_MAX)):
        count, client, clock = reader.count("structs"), reader.integer(), reader.integer()
        if not count or client in clients:
            raise UpdateRefused("an update has a block that is empty or split; yrs fails on it")
        clients.add(client)
        for _ in range(count):
            struct = _read_struct(reader, root, client, clock)
            clock += struct.length
            if clock > LENGTH_MAX:
                raise UpdateRefused(f"an update counts to {clock}; a session ends at {LENGTH_MAX}")
            structs.append(struct)
    deletions = tuple(_read_deletions(reader))
    reader.end()
    return Scanned(tuple(structs), deletions)


def scan_state(state: bytes) -> dict[int, int]:
    """Return a state vector: by client, how many code units of it are known.

    Raises:
        UpdateRefused: it is not the encoding of a state vector.
    """
    reader = Reader(state)
    clocks: dict[int, int] = {}
    for _ in range(reader.count("clients")):
        client = reader.integer()
        clocks[client] = reader.integer()
    reader.end()
    return clocks


def check_known(scanned: Scanned, state: Mapping[int, int]) -> None:
    """Check that everything the update builds on is known or comes with it, in some order.

    pycrdt would keep what is not, for ever and without a bound.

    Raises:
        EditsMissing: something is neither.
    """
    known = dict(state)
    queues: dict[int, list[Struct]] = {}
    for struct in reversed(scanned.structs):
        queues.setdefault(struct.client, []).append(struct)
    moved = True
    while queues and moved:
        moved = False
        for client in sorted(queues):
            queue = queues[client]
            while queue and _is_ready(queue[-1], known):
                struct = queue.pop()
                known[client] = max(known.get(client, 0), struct.clock + struct.length)
                moved = True
            if not queue:
                del queues[client]
    cut = [one for one in scanned.deletions if one[1] + one[2] > known.get(one[0], 0)]
    if queues or cut:
        raise EditsMissing("an update builds on edits that never arrived here")


def _is_ready(struct: Struct, known: Mapping[int, int]) -> bool:
    return struct.clock <= known.get(struct.client, 0) and all(
        one is None or one[1] < known.get(one[0], 0) for one in (struct.left, struct.right)
    )


def add_pairs(scanned: Scanned, pairs: Pairs) -> None:
    """Note where the update's surrogate pairs are."""
    for struct in scanned.structs:
        if struct.text is not None and len(struct.text) != struct.length:
            pairs.setdefault(struct.client, set()).update(
                struct.clock + offset for offset in _second_halves(struct.text)
            )


def cut_pairs(scanned: Scanned, state: Mapping[int, int], *noted: Pairs) -> Pairs:
    """Return which of the noted pairs the update cuts in two."""
    cut: Pairs = {}
    for client, clock in _cuts(scanned, state):
        if any(clock in pairs.get(client, ()) for pairs in noted):
            cut.setdefault(client, set()).add(clock)
    return cut


def _cuts(scanned: Scanned, state: Mapping[int, int]) -> Iterator[Id]:
    """Yield the code units that the update wants to be the first of an item."""
    for struct in scanned.structs:
        yield struct.client, struct.clock
        yield struct.client, state.get(struct.client, 0)
        if struct.left is not None:
            yield struct.left[0], struct.left[1] + 1
        if struct.right is not None:
            yield struct.right
    for client, clock, length in scanned.deletions:
        yield client, clock
        yield client, clock + length


def without_pairs(update: bytes, scanned: Scanned, cut: Pairs) -> bytes:
    """Return the update with two U+FFFD for each of these pairs, as Yjs does when it cuts one."""
    parts: list[bytes] = []
    done = 0
    for struct in scanned.structs:
        clocks = cut.get(struct.client)
        if struct.text is None or not clocks:
            continue
        text = "".join(_broken(struct, clocks))
        start, end = struct.span
        encoded = text.encode()
        parts += [update[done:start], write_var_uint(len(encoded)), encoded]
        done = end
    return b"".join([*parts, update[done:]])


def _broken(struct: Struct, clocks: set[int]) -> Iterator[str]:
    clock = struct.clock
    for character in struct.text or "":
        wide = character > "\uffff"
        yield "\ufffd\ufffd" if wide and clock + 1 in clocks else character
        clock += 2 if wide else 1


def _second_halves(text: str) -> Iterator[int]:
    offset = 0
    for character in text:
        if character > "\uffff":
            yield offset + 1
            offset += 1
        offset += 1


def _read_struct(reader: Reader, root: str, client: int, clock: int) -> Struct:
    info = reader.byte()
    kind = info & 31
    if kind == _GC:
        return Struct(client, clock, reader.length())
    left = (reader.integer(), reader.integer()) if info & 0x80 else None
    right = (reader.integer(), reader.integer()) if info & 0x40 else None
    if left is None and right is None:
        _read_parent(reader, root, has_key=bool(info & 0x20))
    if kind == _STRING:
        start = reader.offset
        text = reader.string()
        length = len(text) + sum(character > "\uffff" for character in text)
        if not length:
            raise UpdateRefused("an update inserts an empty string")
        return Struct(client, clock, length, left, right, text, (start, reader.offset))
    if kind == _DELETED:
        return Struct(client, clock, reader.length(), left, right)
    if kind == _FORMAT:
        reader.string()
    elif kind != _EMBED:
        what = _KINDS.get(kind, f"content of kind {kind}")
        raise UpdateRefused(f"a session holds one text, and an update inserts {what}")
    _check_value(reader.string())
    return Struct(client, clock, 1, left, right)


def _read_parent(reader: Reader, root: str, *, has_key: bool) -> None:
    if reader.integer() != 1:
        raise UpdateRefused("a session holds one text, and an update writes into a nested type")
    name = reader.string()
    if name != root:
        raise UpdateRefused(
            f"a session holds one text, named {root!r}; the editor writes to {name[:64]!r}"
        )
    if has_key:
        raise UpdateRefused(f"the text {root!r} has no keys, and an update writes to one")


def _read_deletions(reader: Reader) -> Iterator[tuple[int, int, int]]:
    for _ in range(reader.count("clients with deletions")):
        client = reader.integer()
        for _ in range(reader.count("deletions")):
            yield client, reader.integer(), reader.length()


def _check_value(encoded: str) -> None:
    """Check that a value's JSON is well formed and shallow."""
    try:
        value = json.loads(encoded)
    except (ValueError, RecursionError):
        raise UpdateRefused("an attribute or embedded value is not JSON") from None
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise UpdateRefused(f"an attribute or embedded value nests more than {DEPTH_MAX} levels")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())  # pyright: ignore[reportUnknownArgumentType]
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]
