"""The builds of a node, as the rest of it uses them: hold, make, fetch, take uploads, serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from crdt import ManifestDigest, PublicKey, SigningKey
from node.builds.errors import BuildDamaged, BuildStoreBusy, UnknownBuild, UploadRefused
from node.builds.exchange import Blame, ExchangeLimits
from node.builds.fetching import Connect, Fetch, FetchProgress, HoldersOf
from node.builds.packing import Packed, PackProgress, pack
from node.builds.partial import Partial
from node.builds.serving import BuildServing
from node.builds.store import BuildStore, Held
from node.builds.transfer import GrantFor, TlsHolder
from node.peer import PeerEndpoint
from registry.builds import CHUNK_BYTES_MAX, SealedManifest, open_manifest

T = TypeVar("T")

FETCH_COUNT_MAX = 2
"""Fetches at once; the others wait. Two connections each: four threads at most."""
UPLOAD_BYTES_MAX = 8 * 1024 * 1024
GAP_COUNT_MAX = 64
_THREAD_COUNT = 12
_BLAME_COUNT_MAX = 256


@dataclass(frozen=True, slots=True)
class BuildStatus:
    """What this node has of a build.

    Attributes:
        state: `absent`, `partial`, `fetching` or `complete`.
        tables_missing: Chunk tables that an upload still has to bring.
        gaps: The first missing ranges of the stream as (offset, length); an upload goes on there.
    """

    digest: ManifestDigest
    state: str
    sealed: SealedManifest | None = None
    bytes_verified: int = 0
    tables_missing: tuple[int, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()
    progress: FetchProgress | None = None


@dataclass(slots=True)
class _Flight:
    """One fetch under way and everybody who waits for it."""

    task: asyncio.Task[Path]
    listeners: list[Callable[[FetchProgress], None]] = field(
        default_factory=list[Callable[[FetchProgress], None]]
    )
    last: FetchProgress | None = None
    waiting: int = 0


class Builds:
    """All a node does with builds. Call `close` at the end.

    Args:
        holders: Who advertises a build now, best first.
        grant: Signs a request to a holder (`PeerSession.grant`).
        on_change: Called when the set of complete builds changed, so that adverts follow.
        connect: Opens a holder; another one than TLS in tests.
    """

    def __init__(
        self,
        store: BuildStore,
        holders: HoldersOf,
        grant: GrantFor,
        *,
        on_change: Callable[[], None] = lambda: None,
        connect: Connect | None = None,
        limits: ExchangeLimits | None = None,
    ) -> None:
        self.store = store
        self.holders = holders
        self._on_change = on_change
        self._connect: Connect = connect or (lambda endpoint: TlsHolder(endpoint, grant))
        self._limits = limits
        self._threads = ThreadPoolExecutor(_THREAD_COUNT, "hansa-builds")
        self._readers = ThreadPoolExecutor(4, "hansa-serving")
        self._slots = asyncio.Semaphore(FETCH_COUNT_MAX)
        self._upload = asyncio.Lock()
        self._flights: dict[ManifestDigest, _Flight] = {}
        self._blame: dict[ManifestDigest, Blame] = {}

    async def close(self) -> None:
        """Stop fetches, keeping what they got, and the threads."""
        for flight in list(self._flights.values()):
            flight.task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await flight.task
        self._threads.shutdown()
        self._readers.shutdown()

    def peer_routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the `PeerServer`."""
        return BuildServing(self.store, self._readers).routes()

    def held(self) -> list[Held]:
        """Return the complete builds."""
        return self.store.held()

    def digests(self) -> list[ManifestDigest]:
        """Return the digests of the complete builds, for adverts."""
        return self.store.digests()

    def has(self, digest: ManifestDigest) -> bool:
        """Whether a build is complete here."""
        return self.store.has(digest)

    def path(self, digest: ManifestDigest) -> Path:
        """Return the folder of a complete build's files, to be handed to an engine.

        Raises:
            UnknownBuild, BuildDamaged: it is not here, or its files were changed.
        """
        return self.store.path(digest)

    def status(self, digest: ManifestDigest) -> BuildStatus:
        """Return what this node has of a build."""
        sealed = self.store.manifest(digest)
        flight = self._flights.get(digest)
        progress = flight.last if flight else None
        if self.has(digest) and sealed is not None:
            size = sealed.manifest.size
            return BuildStatus(digest, "complete", sealed, bytes_verified=size)
        working = self.store.working(digest)
        state = "fetching" if flight else "partial" if sealed else "absent"
        return BuildStatus(
            digest,
            state,
            sealed,
            bytes_verified=working.bytes_verified if working else 0,
            tables_missing=tuple(self.store.missing_tables(digest)) if sealed else (),
            gaps=tuple(working.gaps(GAP_COUNT_MAX)) if working else (),
            progress=progress,
        )

    def availability(self, digest: ManifestDigest) -> list[PeerEndpoint]:
        """Return the peers that advertise a build now."""
        return self.holders(digest)

    async def pack(
        self,
        path: Path,
        publisher: SigningKey,
        progress: Callable[[PackProgress], None] = lambda _progress: None,
    ) -> SealedManifest:
        """Make a build of a folder on this machine and keep it.

        Raises:
            CannotPack, BuildStoreFull: see `packing.pack` and `BuildStore.offer`.
        """
        packed = await self._call(pack, path, publisher, progress)
        await self._call(self._import, packed)
        self._on_change()
        return packed.sealed

    async def fetch(
        self,
        digest: ManifestDigest,
        progress: Callable[[FetchProgress], None] = lambda _progress: None,
    ) -> Path:
        """Return the folder of a build's files, fetched from its holders if it is not here.

        Everybody who asks for the same build shares one fetch. It ends when nobody waits for it
        any more; what it got stays for the next one.

        Raises:
            NoHolder: nobody has it, or everybody who has it failed.
            BuildStoreFull, BuildStoreBusy: it cannot be kept.
        """
        with suppress(UnknownBuild, BuildDamaged):  # what is damaged is partial now: mend it
            return await self._call(self.path, digest)
        flight = self._flights.get(digest)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._fly(digest)))
            self._flights[digest] = flight
        flight.listeners.append(progress)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            flight.listeners.remove(progress)
            if not flight.waiting and not flight.task.done():
                flight.task.cancel()

    async def remove(self, digest: ManifestDigest) -> None:
        """Delete a build from this node, complete or partial.

        Raises:
            UnknownBuild: it is not here.
            BuildStoreBusy: it is being fetched.
        """
        if digest in self._flights:
            raise BuildStoreBusy(f"build {digest.hex()} is being fetched; stop that first")
        async with self._upload:
            if not await self._call(self.store.remove, digest):
                raise UnknownBuild(digest)
        self._on_change()

    async def put_manifest(self, digest: ManifestDigest, raw: bytes) -> SealedManifest:
        """Take the manifest of a build that its publisher is about to upload.

        Raises:
            RemoteFault: it is not a valid manifest of this build.
            BuildStoreFull, UploadRefused: there is no room for it.
        """
        sealed = open_manifest(raw, digest)
        await self._call(self.store.offer, sealed)
        await self._finish_empty(digest)
        return sealed

    async def put_table(self, digest: ManifestDigest, number: int, table: bytes) -> None:
        """Take one chunk table of an upload.

        Raises:
            RemoteFault, UnknownBuild, UploadRefused: it does not fit the manifest.
        """
        await self._call(self.store.put_table, digest, number, table)
        await self._finish_empty(digest)

    async def put_data(self, digest: ManifestDigest, offset: int, data: bytes) -> BuildStatus:
        """Take whole chunks of the stream, each checked before it is written.

        Raises:
            UnknownBuild, UploadRefused: no such upload, or not at a chunk's start and end.
            WrongBytes: a chunk is not what the manifest says; those before it were kept.
        """
        if self.has(digest):
            return self.status(digest)
        if digest in self._flights:
            raise UploadRefused(f"build {digest.hex()} is being fetched; wait for that")
        async with self._upload:
            await self._call(self._write, digest, offset, data)
        if self.has(digest):
            self._on_change()
        return self.status(digest)

    def publisher(self, digest: ManifestDigest) -> PublicKey:
        """Return the key that signed a build that is (partly) here.

        Raises:
            UnknownBuild: it is not.
        """
        sealed = self.store.manifest(digest)
        if sealed is None:
            raise UnknownBuild(digest)
        return sealed.manifest.publisher

    async def prepare_upload(self, digest: ManifestDigest) -> BuildStatus:
        """Open a partial build so that `status` shows its gaps, and return that."""
        ready = self.store.manifest(digest) is not None and not self.has(digest)
        if ready and digest not in self._flights and not self.store.missing_tables(digest):
            await self._call(self.store.resume, digest)
        return self.status(digest)

    async def _fly(self, digest: ManifestDigest) -> Path:
        blame = self._blame.pop(digest, None) or Blame()
        self._blame[digest] = blame
        if len(self._blame) > _BLAME_COUNT_MAX:
            del self._blame[next(iter(self._blame))]
        try:
            async with self._slots:
                fetch = Fetch(
                    digest,
                    store=self.store,
                    holders=self.holders,
                    connect=self._connect,
                    blame=blame,
                    executor=self._threads,
                    progress=lambda progress: self._tell(digest, progress),
                    limits=self._limits,
                )
                path = await fetch.run()
            self._on_change()
            return path
        finally:
            self._flights.pop(digest, None)

    def _tell(self, digest: ManifestDigest, progress: FetchProgress) -> None:
        flight = self._flights.get(digest)
        if flight is not None:
            flight.last = progress
            for listener in list(flight.listeners):
                listener(progress)

    def _import(self, packed: Packed) -> None:
        """Copy a folder that was just packed into the store, chunk by checked chunk."""
        digest = packed.sealed.digest
        if self.store.has(digest):
            return
        self.store.offer(packed.sealed)
        for number, table in enumerate(packed.tables):
            self.store.put_table(digest, number, table)
        partial = self.store.resume(digest)
        try:
            for index in partial.missing():
                number, offset = partial.chunks.place(index)
                source = packed.root / packed.sealed.manifest.files[number].path
                with source.open("rb") as file:
                    file.seek(offset)
                    partial.write(index, file.read(partial.chunks.length(index)))
            self.store.finish(digest)
        finally:
            self.store.release(digest)

    def _write(self, digest: ManifestDigest, offset: int, data: bytes) -> None:
        if self.store.has(digest):
            return
        partial = self.store.resume(digest)
        index = partial.chunks.chunk_at(offset)
        if index is None or not data or len(data) > UPLOAD_BYTES_MAX:
            raise UploadRefused(
                f"{len(data)} bytes at {offset}: send 1 to {UPLOAD_BYTES_MAX} bytes "
                "that start where a chunk starts"
            )
        self._write_chunks(partial, index, memoryview(data))
        if not partial.bytes_missing:
            self.store.finish(digest)

    def _write_chunks(self, partial: Partial, index: int, data: memoryview) -> None:
        at = 0
        while at < len(data):
            if index == len(partial.chunks) or len(data) - at < partial.chunks.length(index):
                raise UploadRefused(
                    f"the last {len(data) - at} bytes are not a whole chunk; chunks have at most "
                    f"{CHUNK_BYTES_MAX} bytes and are sent whole"
                )
            length = partial.chunks.length(index)
            partial.write(index, data[at : at + length])
            at += length
            index += 1

    async def _finish_empty(self, digest: ManifestDigest) -> None:
        """Finish a build of empty files, which is whole as soon as it is described."""
        sealed = self.store.manifest(digest)
        if sealed is None or sealed.manifest.size or self.has(digest):
            return
        await self._call(self.store.resume, digest)
        await self._call(self.store.finish, digest)
        self._on_change()

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
