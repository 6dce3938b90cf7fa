"""A copy of one record, verified here: what was signed, from whichever node is asked.

The node's word is taken for nothing: every entry and operation passes the same checks as in a node,
and what the record shows is worked out from them. Edits of the card are made on the copy first, and
signed operations are what leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from crdt import (
    BODY_BYTES_MAX,
    LOCAL,
    Account,
    AccountId,
    Card,
    CardDocument,
    CardDraft,
    Entry,
    Item,
    ItemId,
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
    Standing,
    Status,
    UserFault,
    card_parts,
    edit_card,
    encode_checkpoint,
    head_to_cite,
    make_operation,
    resolve,
)
from crdt.causes import EDITING, WANTED
from crdt.errors import MalformedBytes
from crdt.operations import PREDECESSOR_COUNT_MAX
from node.client.accounts import CreatorAccount
from node.client.client import Client
from node.client.errors import BadAnswer
from node.client.publishing import publish_items
from node.client.record_pages import RecordPages
from node.storage.cards import CardShelf
from node.storage.memory import MemoryDisk, MemoryStorage
from registry import RegistryRules, decode_record, encode_record

EPOCH = b"a record's copy "
"""Names the copy's store, which nobody else reads."""
ITEM_COUNT_MAX = 256
"""Items in one call of /v1/items."""


DEEDS = {
    OperationType.PUT: "publish a version of this record",
    OperationType.CARD: "edit the card of this record",
    OperationType.DELETE: "delete this record",
    OperationType.CHECKPOINT: "make a checkpoint of this record",
}
"""What an operation of each type is to whoever may not sign it."""


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
        self.pages = RecordPages(client, plural, record)
        self._client = client
        self._rules = RegistryRules()
        self._storage = MemoryStorage(MemoryDisk(EPOCH))
        self._replica = Replica(network, self._storage, self._rules, NoReceipts())
        self._shelf = CardShelf(self._storage, self._rules.seed_of)
        self._unsent: dict[bytes, Item] = {}
        self._first: Operation | None = None

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
            page = self.pages.fetch(wait_s=wait_s)
            is_new = bool(self.take(page.items)) or is_new
            done = page.done
            wait_s = 0
        return is_new

    def take(self, items: Sequence[Item]) -> list[Entry | Operation]:
        """Verify what a node sent of the record; return what was not known here, in its order.

        What was sent from here and comes back is on the node's disk: it is not unsent any more.

        Raises:
            BadAnswer: it does not hold.
        """
        accepted = self._replica.accept(items, source=LOCAL, now_ms=0)
        bad = [one for one in accepted.outcomes if one.status not in {Status.NEW, Status.KNOWN}]
        if bad:
            why = bad[0].fault or "it cites what the node did not send before it"
            raise BadAnswer(
                f"the node at {self._client.url} sent an item of this record that does not hold "
                f"({bad[0].id.hex()[:16]}: {why}); ask another node, and `hansa audit` the record"
            )
        self.sent(items)
        subjects = (one.subject for one in accepted.admitted)
        return [one for one in subjects if isinstance(one, Entry | Operation)]

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

    @property
    def slug(self) -> str:
        """The record's slug."""
        return self._some.slug

    def card(self) -> Card:
        """Return the card as it is, or as it would begin."""
        return self._shelf.document(self.record).content()

    def room_bytes(self) -> int:
        """Return how many bytes of text may still be written in this era of the card."""
        document = self._shelf.document(self.record)
        document.weaver()  # a restored document counts only then
        return document.room_bytes

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

    @property
    def unsent(self) -> list[Item]:
        """What was edited here and is not on the node yet, as far as is known; causes first."""
        return list(self._unsent.values())

    def sent(self, items: Iterable[Item]) -> None:
        """Note what the node has on its disk."""
        for item in items:
            self._unsent.pop(item.id, None)

    def give_up_unsent(self) -> None:
        """Send nothing of what is unsent any more; the copy goes on holding it."""
        self._unsent.clear()

    def knows(self, id_: bytes) -> bool:
        """Whether an item is in this copy."""
        return bool(self._storage.known([ItemId(id_)]))

    def text_without(self, hidden: Collection[bytes]) -> str:
        """Return the text of the card as it would be without some operations."""
        written = [
            one for one in self._storage.written(self.record) if one.operation.id not in hidden
        ]
        resolution = resolve((one.operation for one in written), self._standing)
        return CardDocument.of(card_parts(written, resolution, self._rules.seed_of)).content().text

    def check_may_edit(self, key: PublicKey) -> None:
        """Return if a key may edit text and tags, and not only write evaluations.

        Raises:
            NoAuthority: it may not, or not any more.
        """
        card = WANTED[OperationType.CARD]
        if head_to_cite(self.account, key, EDITING, self.record) is not None:
            return
        if head_to_cite(self.account, key, card, self.record) is not None:
            raise NoAuthority(
                f"key {key.hex()[:16]} is an evaluator's: it may write evaluations of its own "
                "(`--eval NAME=VALUE`), and not the text"
            )
        self._head(key, OperationType.CARD)

    def publish(self) -> list[Item]:
        """Send what was edited and not sent yet; return what was sent.

        Raises:
            ApiProblem, NodeUnreachable: it stays unsent, and may be sent again.
            BadAnswer: the node refuses an operation.
        """
        sent: list[Item] = []
        while self._unsent:
            some = self.unsent[:ITEM_COUNT_MAX]
            publish_items(self._client, some)
            self.sent(some)
            sent += some
        return sent

    def _standing(self, operation: Operation) -> Standing:
        return self.account.standing(operation.account_head, operation.key)

    @property
    def _some(self) -> Operation:
        """Any of its operations: all are of one account, kind and slug."""
        if self._first is None:
            operations = self._storage.record_operations(self.record)
            if not operations:
                raise BadAnswer("the node sent no operation of the record")
            self._first = operations[0]
        return self._first

    def _head(self, key: PublicKey, type_: OperationType) -> bytes:
        head = head_to_cite(self.account, key, WANTED[type_], self.record)
        if head is None:
            raise NoAuthority(self._refusal(key, type_))
        return head

    def _refusal(self, key: PublicKey, type_: OperationType) -> str:
        """Return why a key may not write this, for whoever holds it."""
        name = f"key {key.hex()[:16]}"
        if key in self.account.now.ended:
            return f"{name} was revoked: what it signs now does not show"
        what = DEEDS[type_]
        if type_ is OperationType.CHECKPOINT:
            return f"{name} may not {what}; only the root key of the account may"
        if key in self.account.now.delegates:
            return f"{name} may not {what}; the account's owner has not granted it that"
        return f"{name} may not {what}; its owner grants that with `hansa account delegate`"

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
        self._unsent[item.id] = item

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
