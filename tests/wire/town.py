"""A town of honest people: accounts, delegates, records, cards, eras and receipts, all valid.

What the fuzzer starts from. Every key is at hand, so that what was changed can be signed again and
gets past the signature. Everything follows from names: two towns are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from crdt import (
    LOCAL,
    AccountId,
    Capability,
    CardDraft,
    EntryType,
    Item,
    ItemId,
    OperationId,
    OperationType,
    PublicKey,
    RecordKind,
    Replica,
    Seed,
    SigningKey,
    Status,
    edit_card,
    encode,
    encode_checkpoint,
    make_entry,
    make_genesis,
    make_operation,
    pack_item,
    record_id,
    seal,
    sha3,
)
from node.storage.cards import CardShelf
from node.storage.memory import MemoryDisk, MemoryStorage
from registry import RegistryRules, encode_record, validate
from royalties import Receipt, ReceiptRules, Tokens, countersign, sign_receipt
from tests.royalties.parties import lane
from tests.writers import NETWORK, NOW_S, key_of

MODEL = {
    "name": "Thing", "description": "naïve 😀 text", "tags": ["a", "b"], "capabilities": ["chat"],
    "price": {"input": 3, "output": 4, "cached_input": 1}, "royalty_bps": 300,
    "splits": [{"account": "ab" * 32, "weight": 2}], "regions": ["eu-west", "us"],
    "base_models": [{"record": "cd" * 32, "share_bps": 5}], "builds": ["cd" * 32],
    "dependencies": ["abcdef01/x@^1"], "homepage": "https://example.org/x",
    "model_type": {"Other": "Speech"}, "quantization": "BF16", "parameters": 2**20,
    "resource_requirements": {"requires_gpu": True, "min_vram_gb": 1},
}  # fmt: skip
AGENT = {
    "name": "Helper", "tags": ["x"], "agent_type": "Researcher", "tools": ["t", "u"],
    "compatible_model_types": ["LLM", {"Other": "a"}], "preferred_models": ["abcdef01/y"],
}  # fmt: skip


def new_replica(disk: MemoryDisk) -> Replica:
    """A replica as a node makes it, but for the disk."""
    return Replica(NETWORK, MemoryStorage(disk), RegistryRules(), ReceiptRules(NETWORK))


def copied(disk: MemoryDisk) -> MemoryDisk:
    """The same disk, to be changed by itself."""
    return MemoryDisk(
        disk.epoch, dict(disk.items), dict(disk.numbers), dict(disk.operations),
        {id_: list(entries) for id_, entries in disk.entries.items()}, dict(disk.records),
        dict(disk.slots), dict(disk.pruned), dict(disk.cursors), disk.last_n,
        usage=dict(disk.usage), mark=disk.mark,
    )  # fmt: skip


@dataclass
class Owner:
    """Who holds the keys of one account."""

    name: str
    genesis: Item
    head: ItemId

    @property
    def id(self) -> AccountId:
        return AccountId(self.genesis.id)


@dataclass
class Town:
    """A replica and what was written to it, in order."""

    disk: MemoryDisk = field(default_factory=lambda: MemoryDisk(b"town" * 4))
    keys: dict[PublicKey, SigningKey] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    owners: dict[str, Owner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replica = new_replica(self.disk)
        self.shelf = CardShelf(self.replica.storage, RegistryRules().seed_of)

    def key(self, name: str) -> SigningKey:
        key = key_of(name)
        self.keys[key.public] = key
        return key

    def take(self, item: Item) -> Item:
        accepted = self.replica.accept([item], source=LOCAL, now_ms=0)
        assert [one.status for one in accepted.outcomes] == [Status.NEW], accepted.outcomes
        self.items.append(item)
        return item

    def found(self, name: str) -> Owner:
        recovery = self.key(f"{name} recovery")
        genesis = self.take(make_genesis(NETWORK, self.key(name), recovery.public, b"stamp"))
        self.owners[name] = Owner(name, genesis, genesis.id)
        return self.owners[name]

    def enter(self, owner: Owner, type_: EntryType, signer: str, key: str = "", **rest) -> Item:
        """Add an entry to an account's log, at its head unless `at` says where."""
        at = rest.pop("at", owner.head)
        item = make_entry(
            network=NETWORK, type=type_, account=owner.id, predecessor=at,
            signer=self.key(signer), key=self.key(key).public if key else None, **rest,
        )  # fmt: skip
        owner.head = self.take(item).id
        return item

    def write(
        self,
        owner: Owner,
        type_: OperationType,
        body: bytes,
        *cites: Item,
        kind: RecordKind = RecordKind.MODEL,
        slug: str = "thing",
        key: str = "",
        era: bytes = b"",
    ) -> Item:
        known = self.disk.operations
        depth = 1 + max((known[OperationId(one.id)].depth for one in cites), default=0)
        item = make_operation(
            network=NETWORK, kind=kind, slug=slug, type=type_, account=owner.id,
            key=self.key(key or owner.name), account_heads=(owner.head,),
            predecessors=tuple(OperationId(one.id) for one in cites), depth=depth, body=body,
            timestamp_s=NOW_S, era=era,
        )  # fmt: skip
        return self.take(item)

    def edit(self, owner: Owner, change, *, slug: str = "thing", **rest) -> Item:
        """Change a model's card as it stands."""
        record = record_id(NETWORK, RecordKind.MODEL, owner.id, slug)
        body = edit_card(self.shelf.document(record), change)
        register = self.replica.storage.register(record)
        assert body is not None
        assert register is not None
        heads = [self.replica.storage.item(ItemId(id_)) for id_ in register.heads]
        return self.write(owner, OperationType.CARD, body, *heads, slug=slug, **rest)


def make_town() -> Town:
    """Everything that the rules know of, once."""
    town = Town()
    _orderly(town)
    _rotated(town)
    _forked(town)
    _agreed(town)
    return town


def model(**changes: object) -> bytes:
    return encode_record(validate(RecordKind.MODEL, {**MODEL, **changes}))


def _orderly(town: Town) -> None:
    """An owner with delegates of every sort, one of them revoked; a card, an era and the next."""
    ann = town.found("ann")
    thing = record_id(NETWORK, RecordKind.MODEL, ann.id, "thing")
    for key, capability, scope in (
        ("mia", Capability.MAINTAINER, ()), ("edi", Capability.EDITOR, (thing,)),
        ("eva", Capability.EVALUATOR, ()), ("rex", Capability.MAINTAINER, ()),
    ):  # fmt: skip
        grant = {"capabilities": capability, "scope": scope}
        town.enter(ann, EntryType.ADD_KEY, "ann", key, **grant)
    put = town.write(ann, OperationType.PUT, model())
    good = town.write(ann, OperationType.PUT, model(version="1.1.0"), put, key="rex")
    town.write(ann, OperationType.PUT, model(version="6.6.6"), put, key="rex")
    town.enter(ann, EntryType.REVOKE, "ann", "rex", keep=(OperationId(good.id),))
    town.edit(ann, _rewrite, key="edi")
    town.edit(ann, _evaluate(town, "eva"), key="eva")
    town.write(ann, OperationType.PUT, model(version="1.2.0"), good, key="mia")
    town.edit(ann, _rewrite)
    agent = encode_record(validate(RecordKind.AGENT, AGENT))
    helper = town.write(ann, OperationType.PUT, agent, kind=RecordKind.AGENT, slug="helper")
    gone = {"kind": RecordKind.AGENT, "slug": "helper"}
    gone_item = town.write(ann, OperationType.DELETE, b"", helper, **gone)
    town.write(ann, OperationType.PUT, agent, gone_item, **gone)
    _eras(town, ann)


def _eras(town: Town, ann: Owner) -> None:
    old = town.write(ann, OperationType.PUT, model(name="Old"), slug="old")
    town.write(ann, OperationType.PUT, model(name="Older"), old, slug="old")
    evals = ((town.key("eva").public.hex(), "mmlu", 0.5),)
    era = town.write(
        ann, OperationType.CHECKPOINT,
        encode_checkpoint(1, model(name="Old"), Seed("era 😀", ("a", "b"), evals)), slug="old",
    )  # fmt: skip
    town.edit(ann, _rewrite, slug="old", era=era.id)
    town.write(ann, OperationType.PUT, model(name="New"), era, slug="old", era=era.id)
    town.replica.prune(record_id(NETWORK, RecordKind.MODEL, ann.id, "old"))
    put = town.write(ann, OperationType.PUT, model(name="Odd"), slug="odd")
    for number in (9, 255):
        town.take(_odd(town, ann, put, number=number))
    town.take(_odd(town, ann, put, number=1, version=1))


def _odd(town: Town, owner: Owner, put: Item, *, number: int, version: int = 0) -> Item:
    """An operation of a type, or of a version, that is yet to come."""
    record = record_id(NETWORK, RecordKind.MODEL, owner.id, "odd")
    later = ["more"] if version else []
    key = town.key(owner.name)
    content = encode([
        "hansa/operation", version, NETWORK, 1, record, "odd", number, owner.id, key.public,
        [owner.head], b"", [put.id], 2, *later, sha3(b"later"), 5, NOW_S,
    ])  # fmt: skip
    return pack_item(put.kind, seal(content, key), b"later")


def _rotated(town: Town) -> None:
    """An owner with another root key, who endorsed what was good, and another recovery key."""
    ben = town.found("ben")
    town.enter(ben, EntryType.ADD_KEY, "ben", "bea", capabilities=Capability.MAINTAINER)
    put = town.write(ben, OperationType.PUT, model(base_models=[]))
    other = town.write(ben, OperationType.PUT, model(version="2.0.0"), put, key="bea")
    keep = (OperationId(put.id),)
    town.enter(ben, EntryType.ROTATE_ROOT, "ben recovery", "ben 2", keep=keep)
    town.enter(ben, EntryType.SET_RECOVERY, "ben recovery", "ben recovery 2")
    town.write(ben, OperationType.PUT, model(version="2.0.1"), put, other, key="ben 2")


def _forked(town: Town) -> None:
    """An owner whose log is frozen, and one whose fork was settled."""
    for name in ("cem", "dan"):
        owner = town.found(name)
        at = owner.head
        town.enter(owner, EntryType.ADD_KEY, name, f"{name} 1", capabilities=Capability.MAINTAINER)
        put = town.write(owner, OperationType.PUT, model(), key=f"{name} 1")
        grant = Capability.EDITOR | Capability.EVALUATOR
        town.enter(owner, EntryType.ADD_KEY, name, f"{name} 2", capabilities=grant, at=at)
        town.write(owner, OperationType.PUT, model(version="3.0.0"), put)
        town.edit(owner, _rewrite, key=f"{name} 2")
    town.enter(town.owners["dan"], EntryType.ADOPT, "dan recovery")


def _agreed(town: Town) -> None:
    """A lane's receipts that two accounts signed: the second stands over the first."""
    ann, dan = town.owners["ann"], town.owners["dan"]
    ben = town.owners["ben"].id
    put = next(one for one in town.disk.operations.values() if one.account == ben)
    place = replace(
        lane(), consumer=ann.id, provider=dan.id, record=put.record, version=put.id
    )  # fmt: skip
    for sequence in (1, 2):
        receipt = Receipt(place, sha3(b"order"), sequence, 3, Tokens(9, 1, 5), bytes(32), NOW_S)
        town.take(countersign(sign_receipt(receipt, town.key("dan")), town.key("ann")))


def _rewrite(draft: CardDraft) -> None:
    draft.splice(min(3, len(draft.text)), 0, "wörd 😀 ")
    if len(draft.text) > 9:
        draft.splice(1, 2, "")
    draft.add_tag(f"t{len(draft.text) % 5}")
    draft.remove_tag("a")


def _evaluate(town: Town, name: str):
    key = town.key(name).public

    def change(draft: CardDraft) -> None:
        draft.set_evaluation(key, "mmlu", {"score": 0.25, "runs": [1, 2, None]})
        draft.set_evaluation(key, "arc", 71.5)

    return change
