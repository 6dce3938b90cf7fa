"""A node's real HTTP API in a thread: server, guard, log, store and builds, without a network."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from crdt import PeerId, Replica, SigningKey, SyncLimits, SyncMachine, network_id, peer_id_of
from node.access import Access
from node.api.accounts import AccountRoutes
from node.api.builds import routes as build_routes
from node.api.checkup import checkup_routes
from node.api.conflicts import conflict_routes
from node.api.guard import Guard
from node.api.node_routes import NodeRoutes, Surroundings
from node.api.node_views import NodeView
from node.api.record_log import record_log_routes
from node.api.records import record_routes
from node.api.server import ApiLimits, ApiServer
from node.api.streams import Streams
from node.builds import Builds, BuildStore
from node.catalogue import Catalogue
from node.checkup import Findings, Versions
from node.clocks import Skew
from node.driver import Driver
from node.membership import Standing
from node.metrics import Metrics
from node.network import ConnectedPeer
from node.network.addressbook import Known
from node.network.addresses import PeerAddress, Scope
from node.reachability import Reachability
from node.storage import SqliteReader, open_storage
from registry import RegistryRules
from royalties import ReceiptRules
from tests.node.links import Link

NETWORK_NAME = "test"
NETWORK = network_id(NETWORK_NAME)
TOKEN = "operator-token-of-the-test"
ELSEWHERE = peer_id_of(SigningKey(b"e" * 32).public)
CONNECTED = ConnectedPeer(ELSEWHERE, "/ip4/8.8.4.4/tcp/4001", "out", 1_700_000_000, 12.5)
KNOWN = Known(
    PeerAddress("ip6", "2600::1", 4001, ELSEWHERE), "exchange", 1.0, ["9.9.0.0/16"], failures=2
)


@dataclass
class ApiNode:
    """A node that answers HTTP."""

    url: str
    data_dir: Path


@contextmanager
def api_node(folder: Path) -> Iterator[ApiNode]:
    """Run a node's API in a thread until the block ends."""
    folder.mkdir(exist_ok=True)
    (folder / "operator.token").write_text(TOKEN + "\n")
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started = threading.Event()
    found: list[str | BaseException] = []

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(_serve(folder, found, started, stop))
        except BaseException as error:
            found.append(error)
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(20)
    try:
        if isinstance(found[0], BaseException):
            raise found[0]
        yield ApiNode(found[0], folder)
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


async def _serve(
    folder: Path, found: list[str | BaseException], started: threading.Event, stop: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack:
        server = await _server(folder, stack)
        await server.start()
        stack.push_async_callback(server.stop, grace_s=1)
        found.append(server.url)
        started.set()
        await stop.wait()


def now_s() -> int:
    return int(time.time())  # noqa: TID251 - the client under test signs with the real clock


async def _server(folder: Path, stack: AsyncExitStack) -> ApiServer:
    path = folder / "log.sqlite3"
    storage = open_storage(path, NETWORK)
    stack.callback(storage.close)
    reader = SqliteReader(path, NETWORK)
    stack.callback(reader.close)
    key = SigningKey(bytes([9]) * 32)
    peer = peer_id_of(key.public)
    replica = Replica(NETWORK, storage, RegistryRules(), ReceiptRules(NETWORK))
    machine = SyncMachine(replica, random.Random(1), SyncLimits())
    drivers: dict[PeerId, Driver] = {}
    driver = Driver(machine, storage, Link(peer, drivers), NETWORK)
    await driver.start()
    stack.push_async_callback(driver.stop)
    catalogue = Catalogue(driver, reader, NETWORK)
    access = Access(folder / "access.sqlite3")
    stack.callback(access.close)
    guard = Guard(
        network=NETWORK,
        node=key.public,
        token=TOKEN,
        access=access,
        account_of=catalogue.account,
        now_s=now_s,
    )
    metrics = Metrics()
    server = ApiServer("127.0.0.1", 0, guard, metrics, ApiLimits())
    builds = Builds(
        BuildStore(folder / "builds", keep_free_bytes=0),
        holders=lambda _digest: [],
        grant=lambda *_arguments, **_more: "",
    )
    stack.push_async_callback(builds.close)
    server.add_routes(record_routes(catalogue))
    server.add_routes(record_log_routes(catalogue))
    server.add_routes(conflict_routes(catalogue))
    server.add_routes(AccountRoutes(catalogue, now_s).routes())
    streams = Streams(8)
    server.add_routes(build_routes(builds, streams))

    def describe() -> NodeView:
        return NodeView(
            peer_id=peer, public_key=key.public.hex(), operator_account="00" * 32,
            network=NETWORK_NAME, network_id=NETWORK.hex(), version="0", started_at=1,
            addresses=["/ip4/127.0.0.1/tcp/1"], peer_endpoints=[], api_url=server.url,
            docs_url=f"{server.url}/docs", peers=0, counts=dict(catalogue.counts()),
        )  # fmt: skip

    around: Any = Surroundings(
        catalogue=catalogue, network=SimpleNamespace(peers=lambda: [CONNECTED]),  # type: ignore[arg-type]
        membership=SimpleNamespace(
            known=lambda: [KNOWN], outbound_counts=lambda: (1, 8),
            standing=lambda _one: Standing("8.8.0.0/16", "exchange", anchor=True),
        ),  # type: ignore[arg-type]
        adverts=SimpleNamespace(offers=list, own=lambda: None),  # type: ignore[arg-type]
        serving=SimpleNamespace(served=list),  # type: ignore[arg-type]
        access=access, metrics=metrics, streams=streams, own_peer=peer, describe=describe,
        unready=list, now_s=now_s,
    )  # fmt: skip
    server.add_routes(NodeRoutes(around).routes())
    server.add_routes(checkup_routes(SimpleNamespace(look=_look)))  # type: ignore[arg-type]
    return server


async def _look() -> Findings:
    """What a checkup finds on a node that one peer of three could reach."""
    return Findings(
        version="0", peers=3, groups=3,
        reachability=Reachability(port=4001, reached=1, tried=3, scope=Scope.PUBLIC, inbound=0),
        observed=(("8.8.8.1", 3),), own_hosts=("192.168.0.7",), clock=Skew(40_000, 3, 3),
        versions=Versions((("hansa/9", 3),), 0, (("sync/1", 3),), 0),
    )  # fmt: skip
