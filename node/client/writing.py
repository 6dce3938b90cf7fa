"""A creator's writes: validate, encode, cite the heads, sign, send once.

What is signed is the canonical encoding of the validated record. The node gets the readable JSON
and the signature, encodes the JSON itself, and refuses it unless both agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crdt import (
    ERA_FIRST,
    PREDECESSOR_COUNT_MAX,
    Capability,
    Item,
    ItemId,
    OperationId,
    OperationType,
    RecordId,
    RecordKind,
    head_to_cite,
    id_from_hex,
    is_slug,
    make_operation,
    record_id,
    sha3,
    slug_of,
)
from node.client.accounts import CreatorAccount, NoRole
from node.client.client import Client
from node.client.errors import ApiProblem
from node.client.references import BadReference

KINDS = {"models": RecordKind.MODEL, "agents": RecordKind.AGENT}
"""The kinds as routes and commands call them."""
DERIVED_FIELDS = ("model_id", "agent_id", "owner_id")
"""Filled in when a record is read; never part of what is signed."""
STATUS_NOT_FOUND = 404
STATUS_GONE = 410


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that is valid and encoded, but not signed.

    Attributes:
        plural: `models` or `agents`.
        data: The readable record that is sent.
        body: Its canonical bytes, whose hash is signed.
    """

    plural: str
    slug: str
    data: Mapping[str, Any]
    body: bytes

    @property
    def content_hash(self) -> bytes:
        """SHA3-256 of the canonical bytes."""
        return sha3(self.body)


@dataclass(frozen=True, slots=True)
class Head:
    """An operation that nobody has built on yet, how deep it is, and the era it is of."""

    operation: OperationId
    depth: int
    era: bytes = b""


def prepare(plural: str, data: Mapping[str, Any], *, slug: str | None, now_s: int) -> Draft:
    """Validate a record and encode it; times that are not given are the writer's clock.

    Raises:
        InvalidRecord: with every bad field, an inline Formfile that cannot be read among them.
        BadReference: the slug, or the name it is to be made of, cannot be one.
    """
    from node.formfiles import check_inline_formfile
    from registry import encode_record, validate

    timed = {"created_at": now_s, "updated_at": now_s, **data}
    record = validate(KINDS[plural], timed)
    check_inline_formfile(record)
    chosen = slug if slug is not None else _slug(record.name)
    if not is_slug(chosen):
        raise BadReference(f"{chosen!r} is no slug; use 1..64 of a-z 0-9 . _ -")
    return Draft(plural, chosen, timed, encode_record(record))


class Writer:
    """Publishes one creator's records to one node."""

    def __init__(self, client: Client, account: CreatorAccount) -> None:
        self._client = client
        self._account = account

    def look(self, plural: str, record: RecordId) -> tuple[dict[str, Any] | None, list[Head]]:
        """Return a record as the node shows it (None: it is not there) and the heads to cite.

        A deleted record is not there, but its tombstone is a head: a new version brings it back.
        """
        try:
            shown: dict[str, Any] = self._client.get(f"/v1/{plural}/{record.hex()}")
        except ApiProblem as error:
            if error.status == STATUS_GONE:
                return None, heads_of(error.document)
            if error.status == STATUS_NOT_FOUND:
                return None, []
            raise
        return shown, heads_of(shown)

    def create(self, draft: Draft, *, now_s: int) -> dict[str, Any]:
        """Publish a record that is not there yet, or bring a deleted one back.

        Raises:
            ApiProblem: the node refuses it, for example because it is there (409).
        """
        card = self._account.card
        record = record_id(card.network, KINDS[draft.plural], card.account, draft.slug)
        _shown, heads = self.look(draft.plural, record)
        item = self._signed(draft, OperationType.PUT, heads, now_s)
        found: dict[str, Any] = self._client.write("POST", f"/v1/{draft.plural}", draft.data, item)
        return found

    def replace(
        self, draft: Draft, record: RecordId, heads: Sequence[Head], *,
        now_s: int, if_match: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Publish the next version of a record, settling every head the writer saw.

        Args:
            if_match: The version the draft was made from; refused if it was superseded.
        """
        item = self._signed(draft, OperationType.PUT, heads, now_s)
        path = f"/v1/{draft.plural}/{record.hex()}"
        found: dict[str, Any] = self._client.write("PUT", path, draft.data, item, if_match=if_match)
        return found

    def delete(
        self, plural: str, slug: str, record: RecordId, heads: Sequence[Head], *,
        now_s: int, if_match: str | None = None,
    ) -> None:  # fmt: skip
        """Publish a record's tombstone."""
        item = self._signed(Draft(plural, slug, {}, b""), OperationType.DELETE, heads, now_s)
        path = f"/v1/{plural}/{record.hex()}"
        self._client.write("DELETE", path, None, item, if_match=if_match)

    def _signed(
        self, draft: Draft, type_: OperationType, heads: Sequence[Head], now_s: int
    ) -> Item:
        card = self._account.card
        kind = KINDS[draft.plural]
        record = record_id(card.network, kind, card.account, draft.slug)
        cited = heads[:PREDECESSOR_COUNT_MAX]
        return make_operation(
            network=card.network,
            kind=kind,
            slug=draft.slug,
            type=type_,
            account=card.account,
            key=self._account.key,
            account_heads=(bytes(self._account_head(draft.slug, record)),),
            predecessors=tuple(head.operation for head in cited),
            depth=1 + max((head.depth for head in cited), default=0),
            body=draft.body,
            timestamp_s=now_s,
            era=cited[0].era if cited else ERA_FIRST,
        )

    def _account_head(self, slug: str, record: RecordId) -> ItemId:
        """Return the account entry to cite: one that lets this machine's key write the record.

        Raises:
            NoRole: there is none.
        """
        log, card = self._client.account_log(), self._account.card
        # Only the owner's machine can tell which entries are the owner's: those made on it.
        own = card.log.ids if card.log and card.role == "root" else None
        head = head_to_cite(log.account, card.key, Capability.MAINTAINER, record, trusted=own)
        if head is None:
            raise NoRole(
                f"the key of this machine may not publish {slug} for account {card.name!r}: it is "
                f"no maintainer of it; see `hansa account show {card.name}`"
            )
        return head


def heads_of(shown: Mapping[str, Any]) -> list[Head]:
    """Return the heads in a node's answer about a record: the winner first, then the deepest."""
    winner = shown.get("version_id") or shown.get("tombstone")
    era = bytes.fromhex(shown.get("era", ""))
    listed = sorted(
        shown["heads"],
        key=lambda one: (one["version_id"] != winner, -int(one["depth"]), one["version_id"]),
    )
    return [
        Head(OperationId(id_from_hex(one["version_id"], "head")), int(one["depth"]), era)
        for one in listed
    ]


def _slug(name: str) -> str:
    try:
        return slug_of(name)
    except ValueError as error:
        raise BadReference(f"{error}; give one with --slug") from error
