"""A copy of one record, verified here: what was signed, from whichever node is asked.

The node's word is taken for nothing: every entry and operation passes the same checks as in a node,
and what the record shows is worked out from them. Edits of the card are made on the copy first, and
signed operations are what leaves it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from crdt import (
    BODY_BYTES_MAX,
    LOCAL,
    Account,
    AccountId,
    Card,
    CardDraft,
    Item,
    NetworkId,
    Operation,
    OperationId,
    OperationType,
    PublicKey,
    RecordId,
    Register,
    Replica,
    Seed,
    SigningKey,
    Slot,
    Status,
    UserFault,
    edit_card,
    encode_checkpoint,
    head_to_cite,
    make_operation,
    unpack_item,
)
from crdt.causes import WANTED
from crdt.errors import MalformedBytes
from crdt.operations import PREDECESSOR_COUNT_MAX
from node.client.accounts import CreatorAccount
from node.client.client import Client
from node.client.errors import BadAnswer
from node.storage.cards import CardShelf
from node.storage.memory import MemoryDisk, MemoryStorage
from registry import RegistryRules, decode_record, encode_record

EPOCH = b"a record's copy "
"""Names the copy's store, which nobody else reads."""
ITEM_COUNT_MAX = 256
"""Items in one call of /v1/items."""


class NoAuthority(UserFault):
    """The key at hand may not write this for the account."""

    code = "no-authority"


class TooMuchState(UserFault):
    """A record's state cannot be put into one operation."""

    code = "no-checkpoint"


class NoReceipts:
    """No receipt belongs to a record's log."""

    def judge(self, item: Item, account_of: Callable[[AccountId], Account | None]) -> Slot:
        """Refuse."""
        raise MalformedBytes(f"no receipts here, and no {account_of}: {item.id.hex()}")


class RecordCopy:
    """One record as it was signed; ask a node for more of it with `refresh`."""

    def __init__(self, client: Client, plural: str, record: RecordId, network: NetworkId) -> None:
        self.record = record
        self.network = network
        self._client = client
        self._path = f"/v1/{plural}/{record.hex()}/log"
        self._rules = RegistryRules()
        self._storage = MemoryStorage(MemoryDisk(EPOCH))
        self._replica = Replica(network, self._storage, self._rules, NoReceipts())
        self._shelf = CardShelf(self._storage, self._rules.seed_of)
        self._after = 0
        self._after_entry = 0
        self._unsent: list[Item] = []

    def refresh(self, *, wait_s: float = 0) -> bool:
        """Ask the node for what is new; return whether anything is.

        Args:
            wait_s: How long the node may wait for something new, 0..25.

        Raises:
            BadAnswer: the node sent what does not hold.
            NodeUnreachable, ApiProblem: it could not be asked, or refuses.
        """
        is_new, done = False, False
        while not done:
            query: dict[str, str | int] = {
                "after": self._after, "after_entry": self._after_entry, "wait_s": str(wait_s),
            }  # fmt: skip
            page: dict[str, Any] = self._client.get(self._path, query)
            raws = [*page["entries"], *(one["raw"] for one in page["items"])]
            is_new = self._take([_item(raw) for raw in raws]) or is_new
            self._after, self._after_entry = page["next_n"], page["next_entry"]
            done = bool(page["done"])
            wait_s = 0
        return is_new

    @property
    def register(self) -> Register:
        """What the record shows, by ids."""
        found = self._storage.register(self.record)
        if found is None:
            raise BadAnswer("the node sent no operation of the record")
        return found

    @property
    def account(self) -> Account:
        """The owner's account."""
        found = self._replica.account(self._some.account)
        assert found is not None, "an operation enters after its account"
        return found

    def card(self) -> Card:
        """Return the card as it is, or as it would begin."""
        return self._shelf.document(self.record).content()

    def edit(
        self, change: Callable[[CardDraft], None], key: SigningKey, *, now_s: int
    ) -> Item | None:
        """Change the card here and return the operation that says so; None if nothing changed.

        It builds on exactly what this copy knows, and waits for `publish`.

        Raises:
            NoAuthority: the key may not.
            UserFault: what `change` wants cannot be in a card.
        """
        head = self._head(key.public, OperationType.CARD)
        body = edit_card(self._shelf.document(self.record), change)
        if body is None:
            return None
        item = self._signed(OperationType.CARD, body, key, head=head, now_s=now_s)
        self._admit(item)
        return item

    def checkpoint(self, key: SigningKey, *, now_s: int) -> Item:
        """Open a new era of the record with everything it says now; it waits for `publish`.

        Raises:
            NoAuthority: only the root key may.
            UserFault: nothing shows, or the whole state is more than one operation can hold.
        """
        head = self._head(key.public, OperationType.CHECKPOINT)
        card = self.card()
        body = encode_checkpoint(self._era_number() + 1, self._facts(card), seed_from(card))
        if len(body) > BODY_BYTES_MAX:
            raise TooMuchState(
                f"the record's facts and card are {len(body)} bytes together, and a checkpoint "
                f"holds {BODY_BYTES_MAX}; shorten the description first"
            )
        item = self._make(
            OperationType.CHECKPOINT, body, key, head=head, cited=(), era=b"", now_s=now_s
        )
        self._admit(item)
        return item

    def publish(self) -> list[Item]:
        """Send what was edited and not sent yet; return what was sent.

        Raises:
            ApiProblem, NodeUnreachable: it stays unsent, and may be sent again.
            BadAnswer: the node refuses an operation.
        """
        sent: list[Item] = []
        while self._unsent:
            some = self._unsent[:ITEM_COUNT_MAX]
            publish_items(self._client, some)
            del self._unsent[: len(some)]
            sent += some
        return sent

    @property
    def _some(self) -> Operation:
        operations = self._storage.record_operations(self.record)
        if not operations:
            raise BadAnswer("the node sent no operation of the record")
        return operations[0]

    def _take(self, items: Sequence[Item]) -> bool:
        accepted = self._replica.accept(items, source=LOCAL, now_ms=0)
        bad = [one for one in accepted.outcomes if one.status not in {Status.NEW, Status.KNOWN}]
        if bad:
            why = bad[0].fault or "it cites what the node did not send before it"
            raise BadAnswer(
                f"the node at {self._client.url} sent an item of this record that does not hold "
                f"({bad[0].id.hex()[:16]}: {why}); ask another node, and `hansa audit` the record"
            )
        return bool(accepted.admitted)

    def _head(self, key: PublicKey, type_: OperationType) -> bytes:
        head = head_to_cite(self.account, key, WANTED[type_], self.record)
        if head is None:
            raise NoAuthority(
                f"key {key.hex()[:16]} may not {type_.name.lower()} this record; its owner grants "
                f"that with `hansa account delegate`"
            )
        return head

    def _signed(
        self, type_: OperationType, body: bytes, key: SigningKey, *, head: bytes, now_s: int
    ) -> Item:
        register = self.register
        known = self._storage.operations(register.heads)
        heads = sorted(known.values(), key=lambda one: (one.id != register.winner, -one.depth))
        cited = tuple(heads[:PREDECESSOR_COUNT_MAX])
        return self._make(type_, body, key, head=head, cited=cited, era=register.era, now_s=now_s)

    def _admit(self, item: Item) -> None:
        outcome = self._replica.accept([item], source=LOCAL, now_ms=0).outcomes[0]
        if outcome.fault is not None:
            raise NoAuthority(f"this would be refused everywhere: {outcome.fault}")
        assert outcome.status is Status.NEW, outcome
        self._unsent.append(item)

    def _era_number(self) -> int:
        era = OperationId(self.register.era)
        return self._storage.operations([era])[era].number if era else 0

    def _facts(self, card: Card) -> bytes:
        """Return the winner's facts with the card's description and tags; none if deleted."""
        state = self._storage.record(self.record)
        if state is None:
            raise TooMuchState("nothing of this record shows; publish it before a checkpoint")
        if state.deleted:
            return b""
        record = decode_record(state.kind, state.body)
        own = {"description": card.text, "tags": card.tags}
        return encode_record(record.model_copy(update=own))

    def _make(
        self,
        type_: OperationType,
        body: bytes,
        key: SigningKey,
        *,
        head: bytes,
        cited: tuple[Operation, ...],
        era: bytes,
        now_s: int,
    ) -> Item:
        some = self._some
        return make_operation(
            network=self.network,
            kind=some.kind,
            slug=some.slug,
            type=type_,
            account=some.account,
            key=key,
            account_heads=(head,),
            predecessors=tuple(OperationId(one.id) for one in cited),
            depth=1 + max((one.depth for one in cited), default=0),
            body=body,
            timestamp_s=now_s,
            era=era,
        )


def seed_from(card: Card) -> Seed:
    """Return what a document starts from that says what this card says."""
    evals = [
        (key, name, value)
        for key, entries in sorted(card.evals.items())
        for name, value in sorted(entries.items())
    ]
    return Seed(card.text, card.tags, tuple(evals))


def leave_to_card(
    client: Client,
    account: CreatorAccount,
    plural: str,
    shown: dict[str, Any],
    data: Mapping[str, Any],
    *,
    now_s: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Say through a record's card what is the card's, before a put says the rest.

    Args:
        shown: The record as the node shows it.
        data: What a new version is to say.

    Returns:
        The record as the node shows it then, and the data with the card's description and tags.
    """
    if shown["card"] is None:
        return shown, dict(data)
    id_ = shown.get("model_id") or shown["agent_id"]
    record = RecordId(bytes.fromhex(id_))
    copy = RecordCopy(client, plural, record, account.card.network)
    copy.refresh()
    text, tags = data.get("description"), data.get("tags")

    def change(draft: CardDraft) -> None:
        if isinstance(text, str):
            draft.replace_text(text)
        if isinstance(tags, list):
            wanted, there = set(cast("list[str]", tags)), set(copy.card().tags)
            for tag in sorted(wanted - there):
                draft.add_tag(tag)
            for tag in sorted(there - wanted):
                draft.remove_tag(tag)

    copy.edit(change, account.key, now_s=now_s)
    copy.publish()
    found: dict[str, Any] = client.get(f"/v1/{plural}/{id_}")
    own = {name: found["record"][name] for name in ("description", "tags")}
    return found, {**data, **own}


def publish_items(client: Client, items: Sequence[Item]) -> None:
    """Publish signed items and return when the node has them on its disk.

    Raises:
        BadAnswer: the node refuses one of them; those before it are published.
    """
    raws = [base64.urlsafe_b64encode(item.raw).rstrip(b"=").decode() for item in items]
    for outcome in client.post("/v1/items", {"items": raws})["outcomes"]:
        if outcome["status"] not in {"new", "known"}:
            raise BadAnswer(
                f"the node does not take item {outcome['id'][:16]} ({outcome['status']}): "
                f"{outcome.get('detail') or 'it lacks what the item builds on'}"
            )


def _item(raw: str) -> Item:
    try:
        return unpack_item(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
    except (ValueError, MalformedBytes) as error:
        raise BadAnswer(f"the node sent what is no item: {error}") from error
