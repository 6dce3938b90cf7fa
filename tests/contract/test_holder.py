"""One suite for whoever holds a build: across TLS, and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from crdt import HansaError, ManifestDigest
from node.builds import BuildStore, Holder, Packed, TlsHolder
from node.peer import PeerRefused
from registry.builds import ChunkMap
from tests.node.builds.folders import PUBLISHER, packed_folder
from tests.node.builds.swarm import Node

ABSENT = ManifestDigest(b"\x09" * 32)


class MemoryHolder:
    """An honest holder without a network: reads the store of another node directly."""

    def __init__(self, store: BuildStore) -> None:
        self._store = store
        self._closed = False

    def manifest(self, digest: ManifestDigest) -> bytes:
        return self._open(digest).sealed.raw

    def table(self, digest: ManifestDigest, number: int) -> bytes:
        tables = self._open(digest).tables
        if number >= len(tables):
            raise PeerRefused("memory", 404, "no such table")
        return tables[number]

    def pull(
        self,
        digest: ManifestDigest,
        chunks: ChunkMap,
        first: int,
        count: int,
        sink: Callable[[int, memoryview], None],
    ) -> None:
        holding = self._open(digest)
        for index in range(first, first + count):
            pieces = holding.pieces(chunks.start(index), chunks.length(index))
            raw = b"".join(
                path.read_bytes()[offset : offset + size] for path, offset, size in pieces
            )
            sink(index, memoryview(raw))

    def close(self) -> None:
        self._closed = True

    def _open(self, digest: ManifestDigest) -> Any:
        if self._closed:
            raise PeerRefused("memory", 503, "closed")
        if not self._store.has(digest):
            raise PeerRefused("memory", 404, "unknown build")
        return self._store.open(digest)


class Subject:
    """A holder under test and the build that it holds."""

    def __init__(self, holder: Holder, packed: Packed) -> None:
        self.holder = holder
        self.packed = packed
        self.digest = packed.sealed.digest
        self.chunks = ChunkMap(packed.sealed.manifest, packed.tables)


@pytest.fixture(params=["tls", "memory"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    packed = packed_folder(tmp_path / "source")
    node, caller = Node(1, tmp_path, []), Node(2, tmp_path, [])
    await node.builds.pack(packed.root, PUBLISHER)
    await node.listen()
    holder: Holder
    if request.param == "tls":
        holder = TlsHolder(node.endpoint, caller.session.grant)
    else:
        holder = MemoryHolder(node.store)
    yield Subject(holder, packed)
    holder.close()
    await node.close()
    await caller.close()


async def call(function: Callable[..., Any], *arguments: object) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def test_manifest_and_tables_are_as_packed(subject: Subject) -> None:
    assert await call(subject.holder.manifest, subject.digest) == subject.packed.sealed.raw
    for number, table in enumerate(subject.packed.tables):
        assert await call(subject.holder.table, subject.digest, number) == table


async def test_chunks_come_in_order_and_right(subject: Subject) -> None:
    chunks = subject.chunks
    for first, count in ((0, len(chunks)), (1, 2), (len(chunks) - 1, 1)):
        got: list[int] = []

        def sink(index: int, chunk: memoryview, got: list[int] = got) -> None:
            assert chunks.verify(index, chunk)
            got.append(index)

        await call(subject.holder.pull, subject.digest, chunks, first, count, sink)
        assert got == list(range(first, first + count))


async def test_what_is_not_there_is_refused_and_the_holder_still_works(subject: Subject) -> None:
    with pytest.raises(PeerRefused):
        await call(subject.holder.manifest, ABSENT)
    with pytest.raises(PeerRefused):
        await call(subject.holder.table, subject.digest, 7)
    assert await call(subject.holder.manifest, subject.digest)


async def test_a_sink_that_raises_stops_the_run_and_the_holder_still_works(
    subject: Subject,
) -> None:
    class Stop(HansaError):
        pass

    def sink(_index: int, _chunk: memoryview) -> None:
        raise Stop("enough")

    with pytest.raises(Stop):
        await call(subject.holder.pull, subject.digest, subject.chunks, 0, 3, sink)
    assert await call(subject.holder.manifest, subject.digest)


async def test_a_closed_holder_fails(subject: Subject) -> None:
    subject.holder.close()
    with pytest.raises(HansaError):
        await call(subject.holder.manifest, subject.digest)
