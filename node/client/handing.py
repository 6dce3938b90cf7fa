"""Handing signed items to a node, and reading an account and its records back from it.

Nothing here trusts the node: entries and operations are checked by their own signatures and by
what they cite. A node can only leave something out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from crdt import (
    Account,
    AccountId,
    HansaError,
    Item,
    NetworkId,
    Operation,
    OperationId,
    RecordId,
    RecordKind,
    RemoteFault,
    check_authority,
    open_operation,
)
from node.client.client import Client
from node.client.errors import ApiProblem, BadAnswer
from node.client.logs import AccountLog, item_of, log_in
from node.signing import to_header

ITEM_COUNT_MAX = 256
"""What the node takes in one call."""
CHARACTERS_MAX = 900_000
"""Below the node's 1 MiB for a body, with the quotes and commas around the items."""
AGAIN_S = 1.0
AGAIN_COUNT_MAX = 120
"""Two minutes of a busy node; the change is kept and can be sent later."""
BUSY_CODES = frozenset({"too-many", "overloaded"})
STATUS_NOT_FOUND = 404
SETTLED = frozenset({"new", "known"})
PLURALS = {"models": RecordKind.MODEL, "agents": RecordKind.AGENT}


@dataclass(frozen=True, slots=True)
class Refused:
    """An item that a node did not take, and why."""

    id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class OwnedRecord:
    """A record that an account has ever written."""

    id: RecordId
    plural: str
    slug: str


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """A record's operations, checked here, with the bodies and the order of arrival at the node."""

    owned: OwnedRecord
    operations: dict[OperationId, Operation]
    bodies: dict[OperationId, bytes]
    numbers: dict[OperationId, int]


def hand_in(
    client: Client, items: Iterable[str], told: Callable[[int], None] = lambda _count: None
) -> list[Refused]:
    """Send items (base64url) in batches and return those that were refused.

    Args:
        told: Called with how many were sent so far.

    Raises:
        ApiProblem, WorldFault: the node did not answer for a batch; sending all again is safe.
    """
    refused: list[Refused] = []
    sent = 0
    for batch in _batches(items):
        answer = _patiently(lambda batch=batch: client.post("/v1/items", {"items": batch}))  # type: ignore[misc]
        refused += [_refused(one) for one in answer["outcomes"] if one["status"] not in SETTLED]
        sent += len(batch)
        told(sent)
    return refused


def fetch_log(client: Client, account: AccountId, network: NetworkId) -> AccountLog | None:
    """Return an account's log as a node has it, checked here; None when the node does not know it.

    Raises:
        BadAnswer: what the node gave is not that account's log.
    """
    try:
        answer = client.get(f"/v1/accounts/{account.hex()}")
    except ApiProblem as error:
        if error.status == STATUS_NOT_FOUND:
            return None
        raise
    return log_in(answer, account, network, url=client.url)


def owned_records(client: Client, account: AccountId) -> Iterator[OwnedRecord]:
    """Yield every record an account has ever written, as far as a node knows."""
    after, done = 0, False
    while not done:
        page = client.get(f"/v1/accounts/{account.hex()}/records", {"after": after})
        for one in page["items"]:
            if one["plural"] not in PLURALS:
                raise BadAnswer(f"the node at {client.url} lists a record under {one['plural']!r}")
            yield OwnedRecord(RecordId(bytes.fromhex(one["id"])), one["plural"], str(one["slug"]))
        if not page["done"] and page["next"] <= after:
            raise BadAnswer(f"the node at {client.url} lists an account's records without an end")
        after, done = page["next"], page["done"]


def fetch_record(
    client: Client, owned: OwnedRecord, account: Account, network: NetworkId
) -> SignedRecord:
    """Return a record's operations from a node's log of it, each checked.

    What cites an account entry that `account` does not have is left out.

    Raises:
        BadAnswer: the node gave an operation that is not valid.
    """
    found = SignedRecord(owned, {}, {}, {})
    after, done = 0, False
    while not done:
        page = client.get(f"/v1/{owned.plural}/{owned.id.hex()}/log", {"after": after})
        for one in page["items"]:
            _take(found, one, account, network, url=client.url)
        if not page["done"] and page["next_n"] <= after:
            raise BadAnswer(f"the node at {client.url} gives a log without an end")
        after, done = page["next_n"], page["done"]
    return found


def _take(found: SignedRecord, one: Any, account: Account, network: NetworkId, *, url: str) -> None:
    try:
        item: Item = item_of(one["raw"])
        operation = open_operation(item, network)
        if operation.record != found.owned.id or operation.account != account.id:
            raise BadAnswer("an operation of another record")
        if operation.account_head not in account.states:
            return
        check_authority(operation, account)
    except (RemoteFault, KeyError, TypeError) as error:
        raise BadAnswer(
            f"the node at {url} gave a log of record {found.owned.slug} that does not hold "
            f"({error}); ask another node"
        ) from error
    found.operations[operation.id] = operation
    found.bodies[operation.id] = item.body
    found.numbers[operation.id] = int(one["n"])


def texts(items: Iterable[Item]) -> list[str]:
    """Return items as `/v1/items` takes them."""
    return [to_header(item.raw) for item in items]


def _batches(items: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for item in items:
        if batch and (len(batch) == ITEM_COUNT_MAX or size + len(item) > CHARACTERS_MAX):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 4
    if batch:
        yield batch


def _patiently(ask: Callable[[], Any]) -> Any:
    """Return what `ask` returns, asking again while the node says that it is busy."""
    for _ in range(AGAIN_COUNT_MAX):
        try:
            return ask()
        except ApiProblem as error:
            if error.code not in BUSY_CODES:
                raise
            time.sleep(AGAIN_S)
    return ask()


def _refused(one: Any) -> Refused:
    missing: list[Any] = one.get("missing") or []
    reason = one.get("detail") or (
        f"it builds on {len(missing)} items that the node does not have" if missing else ""
    )
    return Refused(str(one["id"]), str(one["status"]), str(reason or one["status"]))


def refusal(refused: Refused) -> HansaError:
    """Return a refused item as the error that ends a command."""
    return ApiProblem(
        status=422, code="item-refused",
        message=f"the node refused item {refused.id[:16]} ({refused.status}): {refused.reason}",
    )  # fmt: skip
