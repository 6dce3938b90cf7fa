"""The body of a card operation: `[0, [operation id ...], update]`, and check A of it.

In the update client 0 is the operation itself and client i the i-th id of the table. Whatever an
editor's own client id was, it is nowhere: so nobody can write under another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crdt.cards.updates import Ref, Update, encode_update, parse_update
from crdt.errors import MalformedBytes
from crdt.ids import ID_BYTES, OperationId
from crdt.items import BODY_BYTES_MAX
from crdt.wire import array, decode, encode, fixed_bytes, has_head
from crdt.wire import field as typed

BODY_VERSION = 0
TABLE_COUNT_MAX = 256
"""Operations that one may refer to: an editor of a much-edited text touches a few."""


@dataclass(frozen=True, slots=True)
class CardBody:
    """A card operation's body that passed check A.

    Attributes:
        table: The operations it refers to, in order of first reference. The last may be one that
            nothing refers to: the seed that the writer had before it.
        raw: The canonical bytes it came in.
        update: What it does; client i of it is `table[i - 1]`, and client 0 is itself.
    """

    table: tuple[OperationId, ...]
    raw: bytes = field(repr=False)
    update: Update = field(repr=False, compare=False)
    referred_count: int = field(repr=False, compare=False)


def open_card(body: bytes) -> CardBody:
    """Check A: return the card operation's body in `body`.

    Raises:
        MalformedBytes: not canonical, over a bound, or with a table that is not what it refers to.
    """
    table, raw = _opened(body)
    update = parse_update(raw)
    referred = len(clients_of(update))
    if not referred <= len(table) <= referred + 1:
        raise MalformedBytes(f"{len(table)} operations in a table of which {referred} are used")
    return CardBody(table, body, update, referred)


def without_update(body: bytes) -> CardBody:
    """Return a valid body as far as its table, as if it changed nothing.

    For a card that is full: it takes nothing more, and what it would take costs a hundred times its
    bytes once it is read.
    """
    return CardBody(_opened(body)[0], b"", Update((), ()), 0)


def encode_card(table: Sequence[OperationId], update: Update) -> bytes:
    """Return the body that `open_card` opens; its caller keeps to what that allows."""
    return encode([BODY_VERSION, list(table), encode_update(update)])


def _opened(body: bytes) -> tuple[tuple[OperationId, ...], bytes]:
    parts = decode(body, bytes_max=BODY_BYTES_MAX)
    if not has_head(parts, 3, BODY_VERSION):
        raise MalformedBytes(f"a card is 3 fields that start with {BODY_VERSION}")
    ids = array(parts[1], "card table")
    if len(ids) > TABLE_COUNT_MAX:
        raise MalformedBytes(f"{len(ids)} operations in a card's table; at most {TABLE_COUNT_MAX}")
    table = tuple(OperationId(fixed_bytes(one, ID_BYTES, "card table")) for one in ids)
    if len(set(table)) != len(table):
        raise MalformedBytes("a card's table names an operation twice")
    return table, typed(parts[2], bytes, "card update")


def clients_of(update: Update) -> range:
    """Return the clients referred to, other than 0: they appear in order, so they are 1..n.

    Raises:
        MalformedBytes: one appears before a lower one did.
    """
    known = 0
    for struct in update.structs:
        for ref in (struct.left, struct.right, struct.parent):
            if type(ref) is tuple:
                known = _seen(ref, known)
    for client, _ in update.deletions:
        known = _seen((client, 0), known)
    return range(1, known + 1)


def _seen(ref: Ref, known: int) -> int:
    if ref[0] > known + 1:
        raise MalformedBytes(f"the table's entry {ref[0]} is used before entry {known + 1}")
    return max(known, ref[0])
