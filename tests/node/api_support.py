"""A node's API over a real log, and a creator who signs requests to it; no network, no engines."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from crdt import (
    Item,
    OperationType,
    QuotaLimits,
    Quotas,
    RecordId,
    RecordKind,
    Replica,
    SigningKey,
    StampJudge,
    SyncMachine,
    WorkRule,
)
from node.access import Access
from node.api.accounts import AccountRoutes
from node.api.conflicts import conflict_routes
from node.api.docs import docs_routes
from node.api.guard import Guard
from node.api.record_log import RecordWaiters, record_log_routes
from node.api.records import record_routes
from node.api.server import ApiLimits, ApiServer
from node.catalogue import Catalogue
from node.driver import Driver
from node.metrics import Metrics
from node.signing import RequestFacts, account_header, authorization, operation_header
from node.storage import SqliteReader, open_storage
from registry import RegistryRules, encode_record, validate
from tests.node.links import Link
from tests.writers import NETWORK, NOW_S, LaneReceipts, Writer

NODE = SigningKey(b"n" * 32)
TOKEN = "t" * 40
KINDS = {"models": RecordKind.MODEL, "agents": RecordKind.AGENT}
_nonces = itertools.count(1)


class SeenWaiters(RecordWaiters):
    """Waiters that tell when a request has begun to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()

    @contextmanager
    def waiting_for(self, record: RecordId, catalogue: Catalogue) -> Iterator[asyncio.Event]:
        with super().waiting_for(record, catalogue) as changed:
            self.began.set()
            yield changed


class Api:
    """A running API and a client for it."""

    def __init__(
        self, server: ApiServer, catalogue: Catalogue, access: Access, waiters: SeenWaiters
    ) -> None:
        self.server = server
        self.catalogue = catalogue
        self.access = access
        self.waiters = waiters
        self.session = aiohttp.ClientSession(server.url)

    async def ask(
        self, method: str, path: str, *, raw: bytes | None = None, value: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Return the status and the JSON of an answer."""
        body = json.dumps(value).encode() if value is not None else raw
        said = {"Content-Type": "application/json", **(headers or {})}
        data = io.BytesIO(body) if body else None  # bytes over 1 MiB make aiohttp warn
        async with self.session.request(method, path, data=data, headers=said) as answer:
            text = await answer.text()
            self.headers = answer.headers
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, json.loads(text) if is_json else text

    def sign(
        self, who: Writer, method: str, path: str, body: bytes, item: Item | None = None,
        *, nonce: bytes | None = None, now_s: int = NOW_S, introduce: bool = True,
    ) -> dict[str, str]:  # fmt: skip
        """Return the headers of a signed request."""
        operation = operation_header(item) if item else ""
        path, _, query = path.partition("?")
        facts = RequestFacts(NETWORK, NODE.public, method, path, query, body, operation.encode())
        nonce = nonce or next(_nonces).to_bytes(16, "big")
        found = {
            "Authorization": authorization(facts, who.account, who.key, now_s=now_s, nonce=nonce)
        }
        if operation:
            found["Hansa-Operation"] = operation
        if introduce:
            found["Hansa-Account"] = account_header(who.genesis)
        return found

    async def write(
        self, who: Writer, method: str, path: str, data: Any, item: Item,
        *, content_type: str = "application/json", if_match: str | None = None,
        introduce: bool = True,
    ) -> tuple[int, Any]:  # fmt: skip
        """Send a signed write."""
        body = json.dumps(data).encode() if data is not None else b""
        headers = {
            **self.sign(who, method, path, body, item, introduce=introduce),
            "Content-Type": content_type,
            **({"If-Match": if_match} if if_match else {}),
        }
        return await self.ask(method, path, raw=body, headers=headers)

    async def create(self, who: Writer, data: Any, *, plural: str = "models") -> tuple[int, Any]:
        """Publish a record the regular way."""
        return await self.write(who, "POST", f"/v1/{plural}", data, put_of(who, data, plural))


def put_of(
    who: Writer, data: Any, plural: str = "models", *, heads: Any = (), slug: str = "thing"
) -> Item:
    """Return a signed put of readable data, on top of what an answer called heads."""
    kind = KINDS[plural]
    return write_of(who, encode_record(validate(kind, data)), kind, heads=heads, slug=slug)


def write_of(
    who: Writer, body: bytes, kind: RecordKind = RecordKind.MODEL, *, heads: Any = (),
    slug: str = "thing", type_: OperationType = OperationType.PUT,
) -> Item:  # fmt: skip
    """Return a signed operation."""
    from crdt import OperationId, make_operation

    return make_operation(
        network=NETWORK, kind=kind, slug=slug, type=type_, account=who.account, key=who.key,
        account_heads=(who.account,),
        predecessors=tuple(OperationId(bytes.fromhex(one["version_id"])) for one in heads),
        depth=1 + max((one["depth"] for one in heads), default=0),
        body=body, timestamp_s=NOW_S,
    )  # fmt: skip


@asynccontextmanager
async def running_api(
    folder: Path,
    limits: ApiLimits | None = None,
    rule: WorkRule | None = None,
    quotas: QuotaLimits | None = None,
) -> AsyncIterator[Api]:
    """Run an API over a real log until the block ends; with a rule, accounts take work."""
    storage = open_storage(folder / "log.sqlite3", NETWORK)
    reader = SqliteReader(folder / "log.sqlite3", NETWORK)
    judge = StampJudge(NETWORK, rule)
    replica = Replica(NETWORK, storage, RegistryRules(), LaneReceipts(), judge, Quotas(quotas))
    machine = SyncMachine(replica, random.Random(1))
    driver = Driver(machine, storage, Link("a", {}), NETWORK)
    access = Access(folder / "access.sqlite3")
    catalogue = Catalogue(driver, reader, NETWORK)
    guard = Guard(
        network=NETWORK, node=NODE.public, token=TOKEN, access=access,
        account_of=catalogue.account, now_s=lambda: NOW_S, rule=rule,
    )  # fmt: skip
    server = ApiServer("127.0.0.1", 0, guard, Metrics(), limits or ApiLimits(body_s=0.3))
    server.add_routes(record_routes(catalogue))
    waiters = SeenWaiters()
    server.add_routes(record_log_routes(catalogue, waiters))
    server.add_routes(conflict_routes(catalogue))
    server.add_routes(AccountRoutes(catalogue, lambda: NOW_S).routes())
    server.add_routes(docs_routes(lambda: server.routes, lambda: server.url, "0"))
    await driver.start()
    await server.start()
    api = Api(server, catalogue, access, waiters)
    try:
        yield api
    finally:
        await api.session.close()
        await server.stop(grace_s=0.1)
        await driver.stop()
        access.close()
        reader.close()
        storage.close()
