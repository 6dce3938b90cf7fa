"""Fetching builds between nodes on real sockets: whole, resumed, lied to, cut off, shared."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from crdt import ManifestDigest
from node.builds import BuildDamaged, FetchProgress, NoHolder, UnknownBuild
from tests.node.builds.folders import PUBLISHER, make_folder, tree
from tests.node.builds.swarm import flip, nodes

BIG = 6_000_000


async def test_a_fetched_build_is_the_packed_folder_to_the_byte(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    async with nodes(tmp_path, 2) as ((a, b), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await a.listen()
        holders.append(a.endpoint)
        seen: list[FetchProgress] = []
        path = await b.builds.fetch(sealed.digest, seen.append)
        assert tree(path) == tree(source)
        assert (path / "nested" / "run.sh").stat().st_mode & 0o777 == 0o555
        assert (path / "config.json").stat().st_mode & 0o777 == 0o444
        assert [item.phase for item in seen if item.phase != "fetching"][-2:] == [
            "finishing",
            "done",
        ]
        assert seen[-1].bytes_verified == seen[-1].bytes_total == sealed.manifest.size
        assert seen[-1].bytes_wasted == 0
        assert b.changes == 1
        assert b.builds.path(sealed.digest) == path
        before = len(a.requests)
        assert await b.builds.fetch(sealed.digest) == path
        assert len(a.requests) == before


async def test_everybody_who_asks_shares_one_fetch(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    async with nodes(tmp_path, 2) as ((a, b), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await a.listen()
        holders.append(a.endpoint)
        paths = await asyncio.gather(*(b.builds.fetch(sealed.digest) for _ in range(5)))
        assert len(set(paths)) == 1
        assert sum("manifest" in request for request in a.requests) == 1


async def test_one_flipped_bit_is_never_kept_and_another_holder_goes_on(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", size=BIG)
    async with nodes(tmp_path, 3) as ((liar, honest, c), holders):
        sealed = await liar.builds.pack(source, PUBLISHER)
        await honest.builds.pack(source, PUBLISHER)
        flip(liar.store, sealed.digest, "model.safetensors", 3_000_000)
        await liar.listen()
        await honest.listen()
        holders += [liar.endpoint, honest.endpoint]
        seen: list[FetchProgress] = []
        path = await c.builds.fetch(sealed.digest, seen.append)
        assert tree(path) == tree(source)
        assert 0 < seen[-1].bytes_wasted <= 2 * 1024 * 1024
        assert any("data" in request for request in liar.requests)
        assert any("data" in request for request in honest.requests)


async def test_a_liar_alone_gives_nothing_wrong(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", size=BIG)
    async with nodes(tmp_path, 2) as ((liar, c), holders):
        sealed = await liar.builds.pack(source, PUBLISHER)
        flip(liar.store, sealed.digest, "model.safetensors", 3_000_000)
        await liar.listen()
        holders.append(liar.endpoint)
        with pytest.raises(NoHolder, match="wrong-bytes"):
            await c.builds.fetch(sealed.digest)
        assert not c.builds.has(sealed.digest)
        with pytest.raises(UnknownBuild):
            c.builds.path(sealed.digest)
        requests = len(liar.requests)
        assert requests < 12  # banned, so not asked again and again


async def test_a_holder_that_dies_midway_is_replaced(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", size=BIG)
    async with nodes(tmp_path, 3) as ((dying, other, c), holders):
        sealed = await dying.builds.pack(source, PUBLISHER)
        await other.builds.pack(source, PUBLISHER)
        asked = 0

        def die(request: web.Request) -> None:
            nonlocal asked
            if "/data" in request.path:
                asked += 1
                if asked > 1:
                    assert request.transport is not None
                    request.transport.abort()
                    raise web.HTTPInternalServerError

        await dying.listen(die)
        await other.listen()
        holders += [dying.endpoint, other.endpoint]
        path = await c.builds.fetch(sealed.digest)
        assert tree(path) == tree(source)
        assert any("data" in request for request in other.requests)


async def test_nobody_who_has_it_is_said_and_the_next_try_goes_on(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    async with nodes(tmp_path, 3) as ((a, b, stranger), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await stranger.listen()
        holders.append(stranger.endpoint)
        with pytest.raises(NoHolder, match="404"):
            await b.builds.fetch(sealed.digest)
        await a.listen()
        holders.append(a.endpoint)
        assert tree(await b.builds.fetch(sealed.digest)) == tree(source)


async def test_a_holder_with_another_key_gets_no_request(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    async with nodes(tmp_path, 3) as ((a, b, impostor), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await impostor.builds.pack(source, PUBLISHER)
        await a.listen()
        await impostor.listen()
        meant = a.endpoint
        fake = type(meant)(
            meant.peer, "127.0.0.1", impostor.endpoint.port, meant.certificate_sha256
        )
        holders += [fake, meant]
        assert tree(await b.builds.fetch(sealed.digest)) == tree(source)
        assert impostor.requests == []


async def test_a_changed_file_is_noticed_and_only_what_is_wrong_is_fetched(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", size=BIG)
    async with nodes(tmp_path, 2) as ((a, b), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await a.listen()
        holders.append(a.endpoint)
        await b.builds.fetch(sealed.digest)
        flip(b.store, sealed.digest, "model.safetensors", 3_000_000)
        with pytest.raises(BuildDamaged):
            b.builds.path(sealed.digest)
        a.requests.clear()
        assert tree(await b.builds.fetch(sealed.digest)) == tree(source)
        assert sum("/data" in request for request in a.requests) == 1


async def test_a_fetch_mends_what_is_damaged(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    async with nodes(tmp_path, 2) as ((a, b), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await a.listen()
        holders.append(a.endpoint)
        await b.builds.fetch(sealed.digest)
        flip(b.store, sealed.digest, "config.json", 3)
        assert tree(await b.builds.fetch(sealed.digest)) == tree(source)


async def test_thousands_of_tiny_files_arrive(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1500):
        (source / f"{number:04}").write_text(str(number))
    async with nodes(tmp_path, 2) as ((a, b), holders):
        sealed = await a.builds.pack(source, PUBLISHER)
        await a.listen()
        holders.append(a.endpoint)
        assert tree(await b.builds.fetch(sealed.digest)) == tree(source)


async def test_a_fetch_without_holders_names_the_build(tmp_path: Path) -> None:
    async with nodes(tmp_path, 1) as ((a,), _holders):
        digest = ManifestDigest(b"\x05" * 32)
        with pytest.raises(NoHolder, match=digest.hex()[:16]):
            await a.builds.fetch(digest)
        assert a.builds.status(digest).state == "absent"
