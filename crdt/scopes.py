"""What part of the log a node wants: records of some kinds, or of some owners only.

Account entries and receipts are in every scope: everything else is judged by the first, and the
second say who is owed what. An operation's predecessors are of its own record, so a scope never
parts what cites from what is cited.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crdt.errors import MalformedBytes
from crdt.framing import ANSWER_FRAME_BYTES_MAX, VERSION, ids_in, open_frame
from crdt.ids import AccountId, NetworkId
from crdt.operations import Operation, RecordKind
from crdt.ports import Subject
from crdt.wire import encode, natural, sha3

OWNER_COUNT_MAX = 256
"""Owners that a scope may name: who wants more wants all."""
ALL_KINDS = frozenset(RecordKind)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which operations are wanted.

    Attributes:
        kinds: Of records of these kinds.
        owners: Of records of these accounts; None: of all.
    """

    kinds: frozenset[RecordKind] = ALL_KINDS
    owners: frozenset[AccountId] | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.kinds == ALL_KINDS and self.owners is None

    def wants(self, subject: Subject) -> bool:
        """Whether an item is in it, by what it is about."""
        if not isinstance(subject, Operation):
            return True
        return subject.kind in self.kinds and (
            self.owners is None or subject.account in self.owners
        )

    def both(self, other: Scope) -> Scope:
        """Return what is in this one and in another."""
        owners = self.owners if other.owners is None else other.owners
        if self.owners is not None and other.owners is not None:
            owners = self.owners & other.owners
        return Scope(self.kinds & other.kinds, owners)

    def name(self) -> str:
        """Return a short name that no other scope has; nothing for that of everything."""
        if self.is_all:
            return ""
        return sha3(encode(["hansa/scope", 0, *_fields(self)])).hex()[:16]


EVERYTHING = Scope()


def encode_scope(scope: Scope, network: NetworkId) -> bytes:
    """Return the request that says what is wanted."""
    return encode(["scope", VERSION, network, *_fields(scope)])


def scope_in(rest: tuple[Any, ...]) -> Scope:
    """Return the scope in the fields of a frame.

    Raises:
        MalformedBytes: they are not in order.
    """
    mask = natural(rest[0], "kinds", maximum=_mask(ALL_KINDS))
    if not mask:
        raise MalformedBytes("a scope of no kind at all")
    kinds = frozenset(kind for kind in RecordKind if mask & _mask([kind]))
    owners = ids_in(rest[1], OWNER_COUNT_MAX)
    if list(owners) != sorted(owners):
        raise MalformedBytes("the owners of a scope are not ascending")
    return Scope(kinds, frozenset(AccountId(one) for one in owners) if owners else None)


def encode_scoped(scope: Scope, network: NetworkId) -> bytes:
    """Return the answer to a scope: it is heeded from now on, and this is the answerer's own."""
    return encode(["scoped", VERSION, network, *_fields(scope)])


def decode_scoped(raw: bytes, network: NetworkId) -> Scope:
    """Return the scope in an answer.

    Raises:
        MalformedBytes, WrongNetwork, UnknownVersion: it is not one of ours.
    """
    tag, rest = open_frame(raw, network, bytes_max=ANSWER_FRAME_BYTES_MAX)
    if tag != "scoped" or len(rest) != 2:
        raise MalformedBytes(f"{tag[:20]!r} of {len(rest)} fields where a scope is due")
    return scope_in(rest)


def _fields(scope: Scope) -> list[Any]:
    assert scope.kinds
    assert scope.owners is None or 0 < len(scope.owners) <= OWNER_COUNT_MAX
    return [_mask(scope.kinds), sorted(scope.owners or ())]


def _mask(kinds: Iterable[RecordKind]) -> int:
    return sum(1 << (int(kind) - 1) for kind in kinds)
