"""The build routes over real HTTP: a creator's upload, an operator's fetch, and bad requests."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from crdt import PublicKey, SigningKey, make_genesis, open_genesis
from node.access import Access
from node.api.builds import routes
from node.api.guard import Guard
from node.api.server import ApiLimits, ApiServer
from node.api.streams import Streams
from node.builds import Packed
from node.metrics import Metrics
from node.signing import RequestFacts, authorization
from registry.builds import ChunkMap
from tests.node.builds.folders import PUBLISHER, packed_folder, tree
from tests.node.builds.swarm import NETWORK, Node

# The API server keeps its notes on a request under strings, which aiohttp advises against.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
TOKEN = "operator-token-of-the-test"
STRANGER = SigningKey(b"\x0b" * 32)
ACCOUNTS = [make_genesis(NETWORK, key, PublicKey(b"\x01" * 32)) for key in (PUBLISHER, STRANGER)]
KNOWN = {account.id: account for account in (open_genesis(item, NETWORK) for item in ACCOUNTS)}


def clock() -> int:
    return int(time.time())  # noqa: TID251 - a real server with a real clock


class Api:
    """A node's build routes behind the API server, and a client that can sign."""

    def __init__(self, node: Node, server: ApiServer, http: aiohttp.ClientSession) -> None:
        self.node = node
        self.url = server.url
        self.http = http

    async def signed(
        self, method: str, path: str, body: bytes, key: SigningKey = PUBLISHER
    ) -> tuple[int, Any]:
        bare, _, query = path.partition("?")
        facts = RequestFacts(NETWORK, self.node.key.public, method, bare, query, body)
        account = next(a for a in KNOWN.values() if a.root_key == key.public)
        header = authorization(facts, account.id, key, now_s=clock(), nonce=os.urandom(16))
        headers = {"Authorization": header, "Content-Type": "application/octet-stream"}
        async with self.http.request(
            method, self.url + path, data=io.BytesIO(body), headers=headers
        ) as answer:
            raw = await answer.read()
            return answer.status, json.loads(raw) if raw else None

    async def plain(self, method: str, path: str, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.request(method, self.url + path, headers=headers) as answer:
            raw = await answer.read()
            if answer.content_type == "text/event-stream":
                return answer.status, raw.decode()
            return answer.status, json.loads(raw) if raw else None


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    node = Node(1, tmp_path, [])
    access = Access(tmp_path / "access.sqlite3")
    guard = Guard(
        network=NETWORK, node=node.key.public, token=TOKEN, access=access,
        account_of=KNOWN.get, now_s=clock,
    )  # fmt: skip
    server = ApiServer("127.0.0.1", 0, guard, Metrics(), ApiLimits())
    server.add_routes(routes(node.builds, Streams(4)))
    await server.start()
    async with aiohttp.ClientSession() as http:
        yield Api(node, server, http)
    await server.stop(grace_s=0.1)
    await node.close()
    access.close()


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    return packed_folder(tmp_path / "source")


def base(packed: Packed) -> str:
    return f"/v1/builds/{packed.sealed.digest.hex()}"


def piece(packed: Packed, offset: int, length: int) -> bytes:
    files = packed.sealed.manifest.files
    stream = b"".join((packed.root / file.path).read_bytes() for file in files)
    return stream[offset : offset + length]


async def begun(api: Api, packed: Packed) -> Any:
    status, document = await api.signed("PUT", base(packed), packed.sealed.raw)
    assert (status, document["tables_missing"]) == (201, [0])
    assert await api.signed("PUT", f"{base(packed)}/tables/0", packed.tables[0]) == (204, None)
    _status, document = await api.plain("GET", base(packed))
    return document


async def test_an_upload_in_pieces_ends_complete(api: Api, packed: Packed) -> None:
    document = await begun(api, packed)
    chunks = ChunkMap(packed.sealed.manifest, packed.tables)
    assert document["gaps"] == [{"offset": 0, "length": chunks.size}]
    middle = chunks.start(2)
    second = piece(packed, middle, chunks.size - middle)
    status, document = await api.signed("PUT", f"{base(packed)}/data?offset={middle}", second)
    assert (status, document["state"]) == (200, "partial")
    assert document["gaps"] == [{"offset": 0, "length": middle}]
    first = piece(packed, 0, middle)
    status, document = await api.signed("PUT", f"{base(packed)}/data?offset=0", first)
    assert (status, document["state"], document["gaps"]) == (200, "complete", [])
    assert tree(api.node.builds.path(packed.sealed.digest)) == tree(packed.root)
    again = await api.signed("PUT", f"{base(packed)}/data?offset=0", first)
    assert again[1]["state"] == "complete"
    assert (await api.signed("PUT", base(packed), packed.sealed.raw))[0] == 200
    status, listed = await api.plain("GET", "/builds")
    assert [entry["digest"] for entry in listed["builds"]] == [packed.sealed.digest.hex()]
    assert api.node.changes == 1


async def test_a_flipped_bit_is_refused_and_nothing_before_it_is_lost(
    api: Api, packed: Packed
) -> None:
    await begun(api, packed)
    chunks = ChunkMap(packed.sealed.manifest, packed.tables)
    data = bytearray(piece(packed, 0, chunks.start(2)))
    data[chunks.start(1) + 5] ^= 1
    status, problem = await api.signed("PUT", f"{base(packed)}/data?offset=0", bytes(data))
    assert (status, problem["code"]) == (422, "wrong-bytes")
    _status, document = await api.plain("GET", base(packed))
    assert document["gaps"][0]["offset"] == chunks.start(1)


@pytest.mark.parametrize("offset", ["1", "-1", "x", "", "99999999999999999999", "1e3", "²"])
async def test_a_piece_at_a_wrong_place_is_refused(api: Api, packed: Packed, offset: str) -> None:
    await begun(api, packed)
    quoted = offset.replace("²", "%C2%B2")
    status, problem = await api.signed("PUT", f"{base(packed)}/data?offset={quoted}", b"x" * 10)
    assert status in {409, 422}
    assert problem["code"] in {"upload-refused", "bad-fields"}


async def test_half_a_chunk_and_too_much_are_refused(api: Api, packed: Packed) -> None:
    document = await begun(api, packed)
    size = document["size"]
    for data in (b"", piece(packed, 0, 1), piece(packed, 0, size) + b"more"):
        status, _problem = await api.signed("PUT", f"{base(packed)}/data?offset=0", data)
        assert status == 409
    big = b"x" * (8 * 1024 * 1024 + 1)
    assert (await api.signed("PUT", f"{base(packed)}/data?offset=0", big))[0] == 413


async def test_only_the_publisher_uploads(api: Api, packed: Packed) -> None:
    for attempt in (
        api.signed("PUT", base(packed), packed.sealed.raw, STRANGER),
        api.signed("PUT", f"{base(packed)}/data?offset=0", b"x"),
    ):
        status, problem = await attempt
        assert (status, problem["code"]) in {(403, "not-authorised"), (404, "unknown-build")}
    await begun(api, packed)
    table = await api.signed("PUT", f"{base(packed)}/tables/0", packed.tables[0], STRANGER)
    assert table[0] == 403
    data = await api.signed("PUT", f"{base(packed)}/data?offset=0", b"x", STRANGER)
    assert data[0] == 403
    assert (await api.plain("PUT", base(packed)))[0] == 401
    assert (await api.plain("PUT", base(packed), TOKEN))[0] == 401


@pytest.mark.parametrize("raw", [b"", b"{}", b"\x92\xc4\x00\xc4\x00", b"\xff" * 100])
async def test_what_is_not_this_manifest_is_refused(api: Api, packed: Packed, raw: bytes) -> None:
    status, problem = await api.signed("PUT", base(packed), raw)
    assert status == 422
    assert problem["code"] in {"bad-manifest", "malformed-bytes"}
    other = base(packed)[:-1] + ("0" if base(packed)[-1] != "0" else "1")
    assert (await api.signed("PUT", other, packed.sealed.raw))[0] == 422
    assert (await api.plain("GET", base(packed)))[0] == 404


async def test_a_fetch_tells_its_progress_and_ends_with_the_path(
    api: Api, packed: Packed, tmp_path: Path
) -> None:
    holder = Node(2, tmp_path, [])
    await holder.builds.pack(packed.root, PUBLISHER)
    await holder.listen()
    api.node.builds.holders(packed.sealed.digest).append(holder.endpoint)
    assert (await api.plain("POST", f"{base(packed)}/fetch"))[0] == 401
    status, events = await api.plain("POST", f"{base(packed)}/fetch", TOKEN)
    assert status == 200
    blocks = [block.split("\n") for block in events.strip().split("\n\n")]
    names = [block[0] for block in blocks]
    assert set(names[:-1]) == {"event: progress"}
    assert names[-1] == "event: done"
    done = json.loads(blocks[-1][1].removeprefix("data: "))
    assert done["state"] == "complete"
    assert tree(Path(done["path"])) == tree(packed.root)
    _status, found = await api.plain("GET", f"{base(packed)}/availability")
    assert found["here"]
    assert [one["peer"] for one in found["holders"]] == [holder.key.peer]
    await holder.close()


async def test_a_fetch_that_fails_ends_with_the_problem(api: Api, packed: Packed) -> None:
    status, events = await api.plain("POST", f"{base(packed)}/fetch", TOKEN)
    assert status == 200
    last = events.strip().split("\n\n")[-1]
    assert last.startswith("event: error\n")
    assert json.loads(last.split("data: ")[1])["code"] == "no-holder"


async def test_an_operator_deletes_a_build(api: Api, packed: Packed) -> None:
    await api.node.builds.pack(packed.root, PUBLISHER)
    assert (await api.plain("DELETE", base(packed)))[0] == 401
    assert (await api.plain("DELETE", base(packed), TOKEN))[0] == 204
    assert (await api.plain("DELETE", base(packed), TOKEN))[0] == 404
    assert (await api.plain("GET", base(packed)))[0] == 404
