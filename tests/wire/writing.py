"""Items that a hostile owner of valid keys would write: well formed, signed, and badly meant.

Forks, backdated operations, keys that have ended, references across records and eras, cards that no
editor makes. Most pass check A; enough pass check B for the resolution to have something to do.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping
from typing import Any

from crdt import (
    Account,
    CardPart,
    EntryType,
    Item,
    ItemId,
    ItemKind,
    Operation,
    OperationId,
    OperationType,
    PublicKey,
    RecordId,
    RecordKind,
    Replica,
    Seed,
    SigningKey,
    account_of,
    encode_checkpoint,
    era_of,
    make_genesis,
    open_card,
    open_checkpoint,
    record_id,
    sha3,
)
from crdt.cards.layouts import layouts_of
from node.storage.memory import MemoryStorage
from registry import RegistryRules
from tests.crdt.cards.fuzzing import mutated
from tests.crdt.cards.worlds import Forger as CardForger
from tests.wire.mutating import Forger, Mutator
from tests.wire.town import model
from tests.writers import NETWORK, NOW_S, key_of

SLUGS = ("thing", "old", "odd", "helper", "new")
BODIES = (model(), model(version="7.0.0", description=""), b"", b"\x90")
TYPES = (1, 1, 1, 2, 2, 2, 2, 3, 4, 5, 255)


class Writer:
    """Writes to a replica's accounts and records, as they are at the moment."""

    def __init__(
        self,
        rng: random.Random,
        replica: Replica,
        keys: dict[PublicKey, SigningKey],
        mutator: Mutator,
        forger: Forger,
    ) -> None:
        assert isinstance(replica.storage, MemoryStorage)
        self._rng = rng
        self._storage = replica.storage
        self._keys = keys
        self._mutator = mutator
        self._forger = forger
        self._parts: dict[tuple[RecordId, bytes, int], list[CardPart]] = {}

    def item(self) -> Item:
        """Return an entry or an operation; now and then with one more thing about it changed."""
        item = self._entry() if self._rng.random() < 0.15 else self._operation()
        return self._forger.item(item) if self._rng.random() < 0.1 else item

    # -- accounts

    def _account(self) -> Account:
        entries = self._storage.disk.entries
        return account_of(entries[self._rng.choice(sorted(entries))])

    def _entry(self) -> Item:
        rng, account = self._rng, self._account()
        if rng.random() < 0.1:
            name = f"new {rng.randrange(4)}"
            root = self._keys.setdefault(key_of(name).public, key_of(name))
            return make_genesis(NETWORK, root, key_of(f"{name} recovery").public)
        at = account.trunk[-1] if rng.random() < 0.6 else rng.choice(account.entries)
        state = account.states[at.id]
        type_ = rng.choice((2, 2, 3, 3, 4, 5, 6))
        signer = rng.choice((state.root_key, state.recovery_key, state.recovery_key))
        if rng.random() < 0.1:
            signer = rng.choice(sorted(self._keys))
        delegates = sorted(state.delegates)
        fresh = key_of(f"fresh {rng.randrange(12)}")
        self._keys[fresh.public] = fresh
        key = rng.choice(delegates) if type_ == EntryType.REVOKE and delegates else fresh.public
        content: list[Any] = ["hansa/account", 0, NETWORK, type_, account.id, at.id, signer]
        if type_ != EntryType.ADOPT:
            content.append(key)
        if type_ == EntryType.ADD_KEY:
            content += [rng.randint(1, 7), []]
        if type_ in {EntryType.REVOKE, EntryType.ROTATE_ROOT}:
            known = sorted(self._storage.disk.operations)
            content.append(sorted(rng.sample(known, rng.choice((0, 0, 1, 2, 5)))))
        return self._forger.signed(ItemKind.ACCOUNT, content, b"")

    # -- operations

    def _operation(self) -> Item:
        rng, account = self._rng, self._account()
        entry = account.trunk[-1].id if rng.random() < 0.5 else rng.choice(account.entries).id
        head = account.states[entry]
        kind = RecordKind.AGENT if rng.random() < 0.1 else RecordKind.MODEL
        slug = rng.choice(SLUGS)
        record = record_id(NETWORK, kind, account.id, slug)
        there = self._storage.record_operations(record)
        eras = sorted({era_of(one) for one in there}) or [b""]
        era = rng.choice(eras)
        members = [one for one in there if era_of(one) == era]
        roles = sorted((head.root_key, *head.delegates, *head.ended))
        key = rng.choice(roles)
        type_ = rng.choice(TYPES)
        if not members:
            type_ = 1
        cited = self._cited(record, members, type_)
        depth = 1 + max((one.depth for one in cited), default=0)
        body = self._body(type_, kind, key, record, era, members)
        if type_ == OperationType.CHECKPOINT:
            era = b""
        content: list[Any] = [
            "hansa/operation", 0, NETWORK, int(kind), record, slug, type_, account.id, key, [entry],
            era, sorted({one.id for one in cited}), depth, sha3(body), len(body), NOW_S,
        ]  # fmt: skip
        return self._forger.signed(ItemKind.OPERATION, content, body)

    def _cited(self, record: RecordId, members: list[Operation], type_: int) -> list[Operation]:
        rng = self._rng
        if type_ == OperationType.CHECKPOINT or not members:
            return []
        register = self._storage.register(record)
        heads = set(register.heads) if register else set()
        found = [one for one in members if one.id in heads]
        if found and rng.random() < 0.6:
            return found[:16]
        return rng.sample(members, rng.randint(1, min(4, len(members))))

    def _body(
        self,
        type_: int,
        kind: RecordKind,
        key: PublicKey,
        record: RecordId,
        era: bytes,
        members: list[Operation],
    ) -> bytes:
        rng = self._rng
        if type_ == OperationType.DELETE:
            return b""
        if type_ == OperationType.CARD:
            return self._card(key, record, era, members)
        facts = rng.choice(BODIES[:2]) if rng.random() < 0.9 else self._mutator.raw(BODIES[0])
        if kind is RecordKind.AGENT:
            facts = BODIES[2] if rng.random() < 0.1 else facts
        if type_ == OperationType.CHECKPOINT:
            evals = ((key.hex(), "mmlu", rng.choice((0.5, None, [1, {"a": 2}]))),)
            seed = Seed(rng.choice(("", "text 😀")), rng.choice(((), ("a", "b"))), evals)
            return encode_checkpoint(rng.choice((1, 2, 3, 2**32 - 1)), facts, seed)
        return facts

    def _card(
        self, key: PublicKey, record: RecordId, era: bytes, members: list[Operation]
    ) -> bytes:
        rng = self._rng
        parts = self._parts_of(record, era, members)
        cards = [part for part in parts if not isinstance(part.content, Seed)]
        if cards and rng.random() < 0.4:
            # A struct may end up with another kind of content than what it is written as.
            with contextlib.suppress(ValueError, AssertionError, OverflowError, TypeError):
                return mutated(rng, rng.choice(cards))
        world = _CardWorld(layouts_of(parts))
        return CardForger(rng, world, parts, key).body()

    def _parts_of(self, record: RecordId, era: bytes, members: list[Operation]) -> list[CardPart]:
        name = (record, era, len(members))
        if name not in self._parts:
            if len(self._parts) > 64:
                self._parts.clear()
            found = [self._part(one) for one in sorted(members, key=lambda one: one.id)]
            self._parts[name] = [part for part in found if part is not None]
        return self._parts[name]

    def _part(self, one: Operation) -> CardPart | None:
        item = self._storage.item(ItemId(one.id))
        assert item is not None
        content: Any = None
        if one.type is OperationType.CARD:
            content = open_card(item.body)
        elif one.type is OperationType.CHECKPOINT:
            content = open_checkpoint(item.body).seed
        elif one.type is OperationType.PUT and not one.era:
            content = RegistryRules().seed_of(one, item.body)
        return None if content is None else CardPart(one.id, one.depth, one.key, content, True)


class _CardWorld:
    """What the forger of cards asks of a world."""

    def __init__(self, layouts: Mapping[OperationId, Any]) -> None:
        self.layouts = layouts
