"""A creator's writes: validate, encode, cite the heads, sign, send once.

What is signed is the canonical encoding of the validated record. The node gets the readable JSON
and the signature, encodes the JSON itself, and refuses it unless both agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crdt import (
    OperationId,
    OperationType,
    RecordId,
    RecordKind,
    UserFault,
    is_slug,
    record_id,
    sha3,
)
from node.client.accounts import CreatorAccount
from node.client.client import Client

KINDS = {"models": RecordKind.MODEL, "agents": RecordKind.AGENT}
STATUS_NOT_FOUND = 404
STATUS_GONE = 410


class BadReference(UserFault):
    """What was given does not name a record."""

    code = "bad-reference"


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that is valid and encoded, but not signed.

    Attributes:
        plural: `models` or `agents`: the record's kind as routes and commands call it.
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
    """An operation that nobody has built on yet, and its depth."""

    operation: OperationId
    depth: int


def prepare(plural: str, data: Mapping[str, Any], *, slug: str | None, now_s: int) -> Draft:
    """Validate a record and encode it; times that are not given are the writer's clock.

    Raises:
        InvalidRecord: with every bad field.
        BadReference: the slug, or the name it is to be made of, cannot be one.
    """
    from registry import encode_record, validate

    timed = {"created_at": now_s, "updated_at": now_s, **data}
    record = validate(KINDS[plural], timed)
    chosen = slug or _slug(str(timed.get("name", "")))
    if not is_slug(chosen):
        raise BadReference(f"{chosen!r} is no slug; use 1..64 of a-z 0-9 . _ -")
    return Draft(plural, chosen, timed, encode_record(record))


class Writer:
    """Publishes one creator's records to one node."""

    def __init__(self, client: Client, account: CreatorAccount) -> None:
        self._client = client
        self._account = account

    def create(self, draft: Draft, *, now_s: int) -> Any:
        """Publish a record that is not there yet, or bring a deleted one back.

        Raises:
            ApiProblem: the node refuses it, for example because it is there (409).
        """
        record = self.id_of(draft.plural, draft.slug)
        item = self._operation(draft, OperationType.PUT, self._heads(draft.plural, record), now_s)
        return self._client.write("POST", f"/v1/{draft.plural}", draft.data, item)

    def id_of(self, plural: str, slug: str) -> RecordId:
        """Return the id of this creator's record with a slug."""
        card = self._account.card
        return record_id(card.network, KINDS[plural], card.account, slug)

    def update(
        self,
        plural: str,
        reference: str,
        change: Mapping[str, Any],
        *,
        replace: bool,
        if_match: str | None,
        now_s: int,
    ) -> Any:
        """Publish the next version of a record.

        Args:
            replace: `change` is the whole record; otherwise a merge patch of what is there.
            if_match: The version id the change was made for; refused if there is another by now.
        """
        slug, shown = self._shown(plural, reference)
        base = {} if replace else readable(shown)
        created = shown["record"].get("created_at", now_s)
        data = {"created_at": created, **patched(base, change), "updated_at": now_s}
        draft = prepare(plural, data, slug=slug, now_s=now_s)
        item = self._operation(draft, OperationType.PUT, heads_of(shown), now_s)
        path = f"/v1/{plural}/{self.id_of(plural, slug).hex()}"
        return self._client.write("PUT", path, draft.data, item, if_match=if_match)

    def delete(self, plural: str, reference: str, *, if_match: str | None, now_s: int) -> str:
        """Publish a record's tombstone and return the record's id in hex."""
        slug, shown = self._shown(plural, reference)
        draft = Draft(plural, slug, {}, b"")
        item = self._operation(draft, OperationType.DELETE, heads_of(shown), now_s)
        record = self.id_of(plural, slug).hex()
        self._client.write("DELETE", f"/v1/{plural}/{record}", None, item, if_match=if_match)
        return record
