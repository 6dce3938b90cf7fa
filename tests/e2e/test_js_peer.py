"""A peer in another language, written from docs/wire.md alone, and a node: each serves the other.

js-libp2p in a process of its own (tests/e2e/js_peer) and a real `hansa run`. What either signs, the
other checks with code that shares nothing with it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from crdt import Item, RecordKind, encode
from crdt.frames import encode_ops
from node.client import Client, hand_in
from node.client.handing import texts
from registry import encode_record, validate
from tests.e2e.js_peers import JsPeer, install, js_peer
from tests.e2e.live_nodes import until
from tests.node.processes import NodeProcess, running
from tests.writers import NETWORK, Writer

pytestmark = pytest.mark.e2e

NET = NETWORK.hex()[:16]
OPS, SYNC = f"/hansa/{NET}/ops/0", f"/hansa/{NET}/sync/0"
SPOKEN = {SYNC, f"/hansa/{NET}/adverts/0", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/meshsub/1.1.0"}
MANY = 900
"""Models; a page of whole items holds some 500 of them."""


@pytest.fixture(scope="module")
def folder() -> Path:
    return install()


class Place:
    """A node, and what its API says."""

    def __init__(self, folder: Path, process: NodeProcess) -> None:
        self._folder = folder
        self.process = process
        self.url = f"http://127.0.0.1:{process.port}"
        said = process.ask("GET", "/v1/node")[1]
        (self.address,) = said["addresses"]
        self.item_count = said["counts"]["items"]

    def shows(self, record: str) -> dict[str, Any] | None:
        status, found = self.process.ask("GET", f"/v1/models/{record}")
        return found if status == 200 else None

    def peers(self) -> dict[str, dict[str, Any]]:
        """Return the node's peers, by their id."""
        token = (self._folder / "operator.token").read_text().strip()
        with Client(self.url, operator_token=token) as client:
            return {one["peer"]: one for one in client.get("/v1/peers")["items"]}

    def publish(self, items: list[Item]) -> None:
        """Hand signed items to the node, as their creator would."""
        with Client(self.url) as client:
            assert hand_in(client, texts(items)) == []


@pytest.fixture
def node(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    """A node that asks its peers anew so seldom that only gossip is seen, unless a test says."""
    with running(tmp_path, f"storage.sync_interval_s={getattr(request, 'param', 300)}") as process:
        yield Place(tmp_path, process)


@asynccontextmanager
async def connected(folder: Path, node: Place) -> AsyncIterator[JsPeer]:
    """Run a peer that is connected, and in the node's mesh, in the block."""
    async with js_peer(folder, "test") as peer:
        await peer.do("dial", address=node.address)
        await peer.until(lambda: any(one["topic"] == OPS for one in peer.of("grafted")))
        yield peer


def root() -> str:
    return secrets.token_hex(32)


def model(who: Writer, slug: str) -> Item:
    return who.put(encode_record(validate(RecordKind.MODEL, {"name": slug})), slug=slug)


async def shown(node: Place, record: str) -> dict[str, Any]:
    await until(lambda: node.shows(record) is not None, f"{record} is shown")
    found = await asyncio.to_thread(node.shows, record)
    assert found is not None
    return found


async def test_the_peers_know_each_other(node: Place, folder: Path) -> None:
    async with js_peer(folder, "test") as peer:
        link = await peer.do("dial", address=node.address)
        assert link == {"encryption": "/noise", "multiplexer": "/yamux/1.0.0"}
        identified = await peer.until(lambda: peer.of("identified"))
        assert set(identified[0]["protocols"]) >= SPOKEN
        await peer.until(lambda: any(OPS in one["topics"] for one in peer.of("subscribed")))
        await peer.until(lambda: any(one["topic"] == OPS for one in peer.of("grafted")))
        assert (await peer.do("ping"))["ms"] >= 0
        await until(
            lambda: node.peers().get(peer.peer, {}).get("rtt_ms", 0) > 0,
            "the node has pinged the peer and had its answer",
        )


async def test_what_either_gossips_the_other_takes(node: Place, folder: Path) -> None:
    who = Writer("ada")
    put = model(who, "from-the-node")
    async with connected(folder, node) as peer:
        await peer.until(lambda: peer.of("asked"))  # it does so once, and now has nothing of it
        made = await peer.do("write", root=root(), slug="from-js", gossiped=True)
        assert made["recipients"] == 1
        record = await shown(node, made["record"])
        assert (record["record"]["name"], record["version_id"]) == ("from-js", made["id"])
        assert node.process.ask("GET", f"/v1/accounts/{made['account']}")[0] == 200

        await asyncio.to_thread(node.publish, [who.genesis, put])
        heard = await peer.until(
            lambda: {one["id"]: one for frame in peer.of("gossip") for one in frame["items"]}.get(
                put.id.hex()
            )
        )
        assert heard == {"kind": 2, "id": put.id.hex(), "slug": "from-the-node"}
        assert peer.of("rejected") == []


async def test_the_peer_reads_the_whole_store_page_by_page(node: Place, folder: Path) -> None:
    who = Writer("ada")
    items = [who.genesis, *(model(who, f"model-{number}") for number in range(MANY))]
    await asyncio.to_thread(node.publish, items)
    wanted = [item.id.hex() for item in items]
    async with js_peer(folder, "test") as peer:
        await peer.do("dial", address=node.address)
        whole = await peer.do("catchUp", mode=0)
        assert sorted(one["id"] for one in whole["found"] if one["id"] in wanted) == sorted(wanted)
        assert len(whole["found"]) == node.item_count + len(items)
        assert whole["pages"] > 1
        ids = await peer.do("catchUp", mode=1)
        assert [one["id"] for one in ids["found"]] == [one["id"] for one in whole["found"]]
        nowhere = "ab" * 32
        fetched = await peer.do("fetch", ids=[wanted[0], nowhere, wanted[-1]])
        assert [one["id"] for one in fetched["items"]] == [wanted[0], wanted[-1]]
        assert fetched["absent"] == [nowhere]


async def test_what_the_peer_announces_the_node_fetches(node: Place, folder: Path) -> None:
    async with connected(folder, node) as peer:
        await peer.until(lambda: peer.of("asked"))
        made = await peer.do("write", root=root(), slug="from-js")
        assert (await peer.do("announce", ids=made["ids"]))["recipients"] == 1
        assert (await shown(node, made["record"]))["version_id"] == made["id"]
        assert "fetch" in {one["tag"] for one in peer.of("asked")}


@pytest.mark.parametrize("node", [1], indirect=True)
async def test_the_node_reads_the_whole_store_of_the_peer(node: Place, folder: Path) -> None:
    async with js_peer(folder, "test") as peer:
        before = [await peer.do("write", root=root(), slug=f"m-{n}") for n in range(40)]
        await peer.do("dial", address=node.address)
        for made in before:
            await shown(node, made["record"])
        later = await peer.do("write", root=root(), slug="later")
        assert (await shown(node, later["record"]))["version_id"] == later["id"]
        assert {one["recipients"] for one in (*before, later)} == {0}, "none of it was gossiped"
        assert "after" in {one["tag"] for one in peer.of("asked")}


@pytest.mark.parametrize(
    "how",
    [
        "wrong signature", "frame of another network", "item of another network", "oversized item",
        "oversized frame", "oversized message",
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_and_the_next_is_taken(
    node: Place, folder: Path, how: str
) -> None:
    bad = root()
    async with connected(folder, node) as peer:
        sent = await peer.do("misbehave", how=how, root=bad, slug="bad")
        assert sent["recipients"] == 1
        assert sent["judged"], "the peer itself would not take it either"
        # Behind it on the same stream: once this is shown, the node has judged what was before it.
        good = await peer.do("write", root=root(), slug="good", gossiped=True)
        await shown(node, good["record"])
        items = node.process.ask("GET", "/v1/node")[1]["counts"]["items"]
        assert items == node.item_count + 2, "what was wrong left nothing behind"
        listed = node.process.ask("GET", "/v1/models")[1]["items"]
        assert [one["record"]["name"] for one in listed] == ["good"]


async def test_a_peer_that_sends_nothing_else_is_banned(node: Place, folder: Path) -> None:
    async with connected(folder, node) as peer:
        for number in range(20):
            if peer.of("disconnected"):
                break
            await peer.do("misbehave", how="wrong signature", root=root(), slug=f"bad-{number}")
        await peer.until(lambda: peer.of("disconnected"))
        await until(lambda: peer.peer not in node.peers(), "the node has closed the connection")
    async with connected(folder, node) as other:
        good = await other.do("write", root=root(), slug="good", gossiped=True)
        await shown(node, good["record"])


async def test_requests_out_of_bounds_end_their_stream_or_get_no_answer(
    node: Place, folder: Path
) -> None:
    other = Writer("ann")
    no_request = encode_ops([other.genesis], NETWORK)
    async with connected(folder, node) as peer:
        for length in (2 << 20, 0xFFFFFFFF):
            assert "ended" in await peer.do("begin", length=length)
        for raw in (b"", b"\xc1" * 40, no_request, encode(["after", 0, bytes(32), b"", 0, 0])):
            assert (await peer.do("ask", raw=raw.hex())) == {"answered": None}
        assert (await peer.do("catchUp", mode=0))["pages"] >= 1, "and it is served as before"
        assert await asyncio.to_thread(partial(node.process.ask, "GET", "/healthz"))
