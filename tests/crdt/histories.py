"""Small worlds of one account and one record, to look at what happened in them."""

from __future__ import annotations

from crdt import (
    Audit,
    Capability,
    EntryType,
    Item,
    OperationId,
    OperationType,
    RecordKind,
    SigningKey,
    audit,
    encode_checkpoint,
    make_entry,
    make_operation,
)
from crdt.cards import Seed
from tests.crdt.replicas import new_replica
from tests.writers import NETWORK, NOW_S, Writer, key_of


class History:
    """An account, its record `thing`, and everything that was ever signed about them."""

    def __init__(self, name: str = "ann") -> None:
        self.writer = Writer(name)
        self.root = self.writer.key
        self.recovery = key_of(f"{name} recovery")
        self.entries: list[Item] = [self.writer.genesis]
        self.operations: list[Item] = []
        self.record = self.writer.record()

    @property
    def raws(self) -> list[bytes]:
        return [item.raw for item in (*self.entries, *self.operations)]

    def audited(self, *more: bytes) -> Audit:
        return audit(new_replica(), self.record, [*self.raws, *more])

    def entry(
        self, type_: EntryType, *, by: SigningKey | None = None, on: Item | None = None,
        key: SigningKey | None = None, keep: tuple[Item, ...] = (),
        capabilities: Capability = Capability.MAINTAINER,
    ) -> Item:  # fmt: skip
        item = make_entry(
            network=NETWORK, type=type_, account=self.writer.account,
            predecessor=(on or self.entries[-1]).id, signer=by or self.root,
            key=key.public if key else None, capabilities=capabilities,
            keep=tuple(OperationId(one.id) for one in keep),
        )  # fmt: skip
        self.entries.append(item)
        return item

    def grant(self, name: str, **fields) -> tuple[SigningKey, Item]:  # type: ignore[no-untyped-def]
        key = key_of(name)
        return key, self.entry(EntryType.ADD_KEY, key=key, **fields)

    def write(
        self, type_: OperationType = OperationType.PUT, *cites: Item, by: SigningKey | None = None,
        head: Item | None = None, body: bytes | None = None, era: Item | None = None,
        depth: int | None = None, at_s: int | None = None, slug: str = "thing",
    ) -> Item:  # fmt: skip
        number = len(self.operations)
        default = b"" if type_ is OperationType.DELETE else b"v%d" % number
        opened = [self.writer.opened(item).depth for item in cites]
        item = make_operation(
            network=NETWORK, kind=RecordKind.MODEL, slug=slug, type=type_,
            account=self.writer.account, key=by or self.root,
            account_heads=((head or self.entries[0]).id,), era=era.id if era else b"",
            predecessors=tuple(OperationId(one.id) for one in cites),
            depth=depth or 1 + max(opened, default=0), body=default if body is None else body,
            timestamp_s=NOW_S + number if at_s is None else at_s,
        )  # fmt: skip
        self.operations.append(item)
        return item

    def put(self, *cites: Item, **fields) -> Item:  # type: ignore[no-untyped-def]
        return self.write(OperationType.PUT, *cites, **fields)

    def delete(self, *cites: Item, **fields) -> Item:  # type: ignore[no-untyped-def]
        return self.write(OperationType.DELETE, *cites, **fields)

    def checkpoint(self, number: int, facts: bytes = b"facts", **fields) -> Item:  # type: ignore[no-untyped-def]
        body = encode_checkpoint(number, facts, Seed("", ()))
        return self.write(OperationType.CHECKPOINT, body=body, **fields)
