"""Test creators: accounts with their keys, and the operations that they sign."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from crdt import (
    Account,
    AccountId,
    Item,
    ItemKind,
    MalformedBytes,
    MissingAccount,
    NetworkId,
    Operation,
    OperationId,
    OperationType,
    RecordId,
    RecordKind,
    Seed,
    SigningKey,
    Slot,
    decode,
    encode,
    make_genesis,
    make_operation,
    network_id,
    pack_item,
    parse_operation,
    record_id,
    seal,
    sha3,
)

NETWORK = network_id("test")
OTHER_NETWORK = network_id("other")
NOW_S = 1_800_000_000


def key_of(name: str) -> SigningKey:
    return SigningKey(sha3(name.encode()))


@dataclass(frozen=True)
class Writer:
    """A creator; everything about it follows from its name."""

    name: str
    network: NetworkId = NETWORK

    @cached_property
    def key(self) -> SigningKey:
        return key_of(self.name)

    @cached_property
    def genesis(self) -> Item:
        return make_genesis(self.network, self.key, key_of(f"{self.name} recovery").public)

    @property
    def account(self) -> AccountId:
        return AccountId(self.genesis.id)

    def record(self, slug: str = "thing", kind: RecordKind = RecordKind.MODEL) -> RecordId:
        return record_id(self.network, kind, self.account, slug)

    def put(self, body: bytes = b"body", **changes: object) -> Item:
        return self.write(OperationType.PUT, body, **changes)

    def delete(self, **changes: object) -> Item:
        return self.write(OperationType.DELETE, b"", **changes)

    def write(
        self,
        type_: OperationType,
        body: bytes,
        *after: Item,
        slug: str = "thing",
        kind: RecordKind = RecordKind.MODEL,
        cites: tuple[Item, ...] = (),
        depth: int | None = None,
        key: SigningKey | None = None,
        account: AccountId | None = None,
        account_heads: tuple[bytes, ...] | None = None,
        timestamp_s: int = NOW_S,
    ) -> Item:
        assert not after
        if depth is None:
            depth = 1 + max((self.opened(item).depth for item in cites), default=0)
        account = account or self.account
        return make_operation(
            network=self.network,
            kind=kind,
            slug=slug,
            type=type_,
            account=account,
            key=key or self.key,
            account_heads=account_heads if account_heads is not None else (account,),
            predecessors=tuple(OperationId(item.id) for item in cites),
            depth=depth,
            body=body,
            timestamp_s=timestamp_s,
        )

    def opened(self, item: Item) -> Operation:
        return parse_operation(item, self.network)


class AnyBody:
    """Body rules that refuse only what says so: enough to test who asks them, and when."""

    def check_put(self, operation: Operation, body: bytes) -> None:
        if not body or body.startswith(b"bad"):
            raise MalformedBytes("a bad body")

    def seed_of(self, operation: Operation, body: bytes) -> Seed:
        return Seed(body.decode(errors="replace"), ())


def make_receipt(account: AccountId, lane: bytes, rank: int, *, key: SigningKey) -> Item:
    """Return a receipt as `LaneReceipts` understands it."""
    return pack_item(ItemKind.RECEIPT, seal(encode(["test/receipt", account, lane, rank]), key))


class LaneReceipts:
    """Receipt rules of the smallest kind: [tag, account, lane, rank], judged by the account."""

    def judge(self, item: Item, account_of: object) -> Slot:
        parts = decode(item.signed.content, bytes_max=4096)
        if len(parts) != 4 or parts[0] != "test/receipt":
            raise MalformedBytes("not a test receipt")
        account: Account | None = account_of(AccountId(parts[1]))  # type: ignore[operator]
        if account is None:
            raise MissingAccount((parts[1],))
        return Slot(sha3(parts[2]), parts[3], subject=parts[2].ljust(32, b"\0"), period=1)
