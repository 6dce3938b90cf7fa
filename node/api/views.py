"""The JSON of records as the API answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from crdt import Card, ItemId, Operation, OperationId, RecordKind, era_of, parse_operation, sha3
from node.catalogue import Catalogue
from node.storage import RecordState, VersionEntry
from registry import decode_record, readable

PLURALS = {RecordKind.MODEL: "models", RecordKind.AGENT: "agents"}
ID_NAMES = {RecordKind.MODEL: "model_id", RecordKind.AGENT: "agent_id"}


class View(BaseModel):
    """A shape the API answers with."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


class HeadView(View):
    """An operation nobody has built on yet; the next write cites every one."""

    version_id: str
    depth: int
    """The next operation's depth is 1 + the greatest of these."""


class SignedBy(View):
    """Whose signature a version carries."""

    account: str
    key: str
    timestamp_s: int
    """The writer's clock: advisory."""


class CardView(View):
    """What a record's writers edit together."""

    digest: str
    """SHA3-256 of the card's canonical JSON: equal on every node with the same operations."""
    text: str
    tags: list[str]
    evaluations: dict[str, dict[str, Any]]
    """By the key of the evaluator, in hex, then by name."""


class RecordView(View):
    """A record as it stands, with what a writer must cite and who signed it."""

    model_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    agent_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    owner_id: str
    slug: str
    version: str
    """The semver its owner states."""
    version_id: str
    """The operation that shows: the ETag, and what `If-Match` takes."""
    content_hash: str
    """SHA3-256 of the canonical bytes."""
    heads: list[HeadView]
    era: str
    """The checkpoint that the next write counts under; empty before the first one."""
    conflicts: list[str]
    """Version ids of concurrent writes that lost; none are hidden."""
    signed_by: SignedBy
    account_heads: list[str]
    """Entries of the owner's account that a write may cite: exactly one, its key's newest."""
    card: CardView | None
    """The collaborative part; null while description and tags are the facts' own."""
    record: dict[str, Any]
    """The record itself, every field of the schema; description and tags as the card has them."""


class OpenAIModel(View):
    """A model as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    tasks: list[str]
    """What a live peer offers to do with it now: `chat`, `completions`, `embeddings`."""


class SearchParameters(BaseModel):
    """Query parameters of a listing, as `registry` reads them from text."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    q: str | None = None
    """Words in name, description or tags."""
    type: list[str] = []
    """Model or agent types; any of them."""
    framework: list[str] = []
    """Any of them."""
    capability: list[str] = []
    """All of them."""
    tag: list[str] = []
    """Any of them."""
    license: list[str] = []
    """SPDX expressions; any of them."""
    quantization: list[str] = []
    """Any of them."""
    region: list[str] = []
    """Any of them."""
    segment: list[str] = []
    """`general`, `medical`, `scientific`; any of them."""
    status: list[str] = []
    """`active`, `deprecated`, `withdrawn`; the first two by default."""
    owner: str | None = None
    """Account id in hex, or at least its first 8 digits."""
    parameters_min: int | None = None
    """Count of weights."""
    parameters_max: int | None = None
    """Count of weights."""
    context_min: int | None = None
    """Tokens."""
    context_max: int | None = None
    """Tokens."""
    max_price: int | None = None
    """Micro-USD per million tokens, for input and for output."""
    vram_gb_max: int | None = None
    """The VRAM there is: records that need no more."""
    memory_mb_max: int | None = None
    """The memory there is: records that need no more."""
    requires_gpu: bool | None = None
    """`true` or `false`."""
    updated_since: int | None = None
    """Unix seconds."""
    sort: str = "relevance"
    """`relevance`, `name`, `updated`, `parameters`, `context` or `price`."""
    descending: bool | None = None
    """Newest, largest and most relevant first by default; names and prices ascending."""
    limit: int = 50
    """1 to 200."""
    cursor: str | None = None
    """`next_cursor` of the last page, with the same query."""


class PageView(View):
    """One page of what a query finds."""

    items: list[RecordView]
    total: int
    next_cursor: str | None
    """Pass it as `cursor` with the same query; it stays valid while records are written."""
    facets: dict[str, dict[str, int]] = Field(default_factory=dict[str, dict[str, int]])
    object: Literal["list"] = "list"
    data: list[OpenAIModel]
    """The same records for OpenAI's clients."""


class VersionView(View):
    """One version in a record's history."""

    version_id: str
    version: str
    depth: int
    content_hash: str
    signed_by: SignedBy
    current: bool


class VersionsView(View):
    """A record's history, newest arrival first. Nothing in it ever changes."""

    items: list[VersionView]


class LockEntry(View):
    """One record that another needs, at the exact version chosen."""

    reference: str
    kind: Literal["model", "agent"]
    id: str
    version: str
    version_id: str
    content_hash: str
    required_by: list[str]


class Unresolved(View):
    """A reference that could not be resolved, and why."""

    reference: str
    required_by: str
    reason: str


class DependenciesView(View):
    """Everything a record needs, resolved to exact versions, or why it cannot be."""

    resolved: bool
    lock: list[LockEntry]
    unresolved: list[Unresolved]


def record_view(catalogue: Catalogue, state: RecordState) -> RecordView:
    """Return a record that is not deleted."""
    account = catalogue.account(state.account)
    assert account is not None, "a record's account is known"
    return _view(
        state.operation, state.body, heads_view(catalogue, state),
        [one.hex() for one in state.conflicts], account.heads, state.register.era,
        catalogue.card(state.id),
    )  # fmt: skip


def written_view(
    catalogue: Catalogue, state: RecordState, operation: Operation, body: bytes
) -> RecordView:
    """Return a record right after a put of it was stored.

    A tombstone may show all the same: a delete that the put does not cite came first, or came
    between the commit and this answer. The put is stored and stays, so it is what is answered,
    with the heads that settle the matter.
    """
    if not state.deleted:
        return record_view(catalogue, state)
    conflicts = [one.hex() for one in state.conflicts]
    account = catalogue.account(state.account)
    assert account is not None, "a record's account is known"
    return _view(
        operation, body, heads_view(catalogue, state), conflicts, account.heads,
        state.register.era, None,
    )  # fmt: skip


def version_record_view(entry: VersionEntry) -> RecordView:
    """Return one version as a record; it has no heads of its own."""
    return _view(entry.operation, entry.body, [], [], (), era_of(entry.operation), None)


def heads_view(catalogue: Catalogue, state: RecordState) -> list[HeadView]:
    """Return the heads with their depths."""
    return [
        HeadView(version_id=head.hex(), depth=_depth(catalogue, state, head))
        for head in state.heads
    ]


def version_view(entry: VersionEntry, *, current: OperationId | None) -> VersionView:
    """Return one line of a history."""
    return VersionView(
        version_id=entry.operation.id.hex(),
        version=decode_record(entry.operation.kind, entry.body).version,
        depth=entry.operation.depth,
        content_hash=sha3(entry.body).hex(),
        signed_by=_signed_by(entry.operation),
        current=entry.operation.id == current,
    )


def openai_model(view: RecordView, tasks: list[str]) -> OpenAIModel:
    """Return a listed record as OpenAI's clients know models."""
    return OpenAIModel(
        id=f"{view.owner_id}/{view.slug}",
        created=int(view.record.get("created_at", 0)),
        owned_by=view.owner_id,
        tasks=tasks,
    )


def with_card(record: dict[str, Any], card: Card | None) -> dict[str, Any]:
    """Return a readable record with the description and the tags of its card."""
    if card is None:
        return record
    return {**record, "description": card.text, "tags": list(card.tags)}


def _card_view(card: Card) -> CardView:
    return CardView(
        digest=card.digest().hex(),
        text=card.text,
        tags=list(card.tags),
        evaluations={key: dict(entries) for key, entries in card.evals.items()},
    )


def _view(
    operation: Operation,
    body: bytes,
    heads: list[HeadView],
    conflicts: list[str],
    account_heads: Sequence[bytes],
    era: bytes,
    card: Card | None,
) -> RecordView:
    record = decode_record(operation.kind, body)
    id_ = operation.record.hex()
    return RecordView(
        model_id=id_ if operation.kind is RecordKind.MODEL else None,
        agent_id=id_ if operation.kind is RecordKind.AGENT else None,
        owner_id=operation.account.hex(),
        slug=operation.slug,
        version=record.version,
        version_id=operation.id.hex(),
        content_hash=sha3(body).hex(),
        heads=heads,
        era=era.hex(),
        conflicts=conflicts,
        signed_by=_signed_by(operation),
        account_heads=[one.hex() for one in account_heads],
        card=_card_view(card) if card is not None else None,
        record=with_card(
            readable(record, record_id=operation.record, owner=operation.account), card
        ),
    )


def _signed_by(operation: Operation) -> SignedBy:
    return SignedBy(
        account=operation.account.hex(),
        key=operation.key.hex(),
        timestamp_s=operation.timestamp_s,
    )


def _depth(catalogue: Catalogue, state: RecordState, head: OperationId) -> int:
    if head == state.operation.id:
        return state.operation.depth
    item = catalogue.item(ItemId(head))
    assert item is not None, "a head is in the store"
    return parse_operation(item, catalogue.network).depth
