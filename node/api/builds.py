"""The HTTP routes of builds: what is here, who has it, fetching it, and a creator's upload.

An upload is a manifest, then its chunk tables, then the stream in pieces of whole chunks; each
request is signed by the manifest's publisher and can be repeated, and `GET` says where to go on.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from crdt import ManifestDigest, PublicKey
from node.api.errors import BadFields, NotAuthorised
from node.api.guard import creator_of
from node.api.operations import Auth, operation
from node.api.streams import EventStream, Streams
from node.builds import UPLOAD_BYTES_MAX, Builds, BuildStatus, FetchProgress, UnknownBuild
from node.peer import PeerEndpoint
from registry.builds import MANIFEST_BYTES_MAX, TABLE_BYTES_MAX, open_manifest

TAG = "builds"
BYTES = "application/octet-stream"
EVENTS = "text/event-stream"
PROGRESS_COUNT_MAX = 64
_DIGEST = "{digest:[0-9a-f]{64}}"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileDocument(_Document):
    """One file of a build."""

    path: str
    size: int = Field(description="bytes")
    mode: Literal["644", "755"] = Field(description="755 for what can be run")
    sha256: str = Field(description="hex, in the publisher's word; chunks are what is verified")


class Gap(_Document):
    """A range of the stream that is still missing."""

    offset: int
    length: int


class ProgressDocument(_Document):
    """How far a fetch is; also the data of a `progress` event."""

    phase: str = Field(description="asking, checking, fetching, finishing or done")
    bytes_total: int
    bytes_verified: int
    bytes_per_s: int = Field(description="0 while unknown")
    seconds_left: int | None
    holder: str | None = Field(description="peer id of who is asked now")
    bytes_wasted: int = Field(description="received and thrown away")


class BuildDocument(_Document):
    """What this node has of a build."""

    digest: str = Field(description="hex: the build's name")
    state: Literal["partial", "fetching", "complete"]
    media_type: str
    publisher: str = Field(description="hex of the key that signed the manifest")
    size: int = Field(description="bytes of all files")
    chunk_count: int
    bytes_verified: int
    tokenizer_sha256: str | None
    chat_template_sha256: str | None
    files: list[FileDocument]
    tables_missing: list[int] = Field(description="chunk tables an upload still has to bring")
    gaps: list[Gap] = Field(description="the first missing ranges; an upload goes on there")
    progress: ProgressDocument | None = Field(description="of the fetch that is under way")


class FetchedDocument(BuildDocument):
    """A build that was fetched; the data of a `done` event."""

    path: str = Field(description="folder of its files on the node's machine, read-only")


class BuildEntry(_Document):
    """One complete build in a list."""

    digest: str
    size: int
    file_count: int
    media_type: str


class BuildList(_Document):
    """The complete builds of this node, and the room on their disk."""

    builds: list[BuildEntry]
    bytes_held: int
    bytes_free: int


class HolderDocument(_Document):
    """A peer that advertises a build."""

    peer: str
    host: str
    port: int


class Availability(_Document):
    """Who has a build now, as far as this node knows from live adverts."""

    digest: str
    here: bool
    holders: list[HolderDocument]


class BuildRoutes:
    """Handlers of the build routes.

    Args:
        streams: Opens the streams of progress.
    """

    def __init__(self, builds: Builds, streams: Streams) -> None:
        self._builds = builds
        self._streams = streams

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, under `/v1` and bare."""
        found: list[web.RouteDef] = []
        for every in ("/v1/builds", "/builds"):
            one = f"{every}/{_DIGEST}"
            found += [
                web.get(every, self.index, allow_head=False),
                web.get(one, self.show, allow_head=False),
                web.get(f"{one}/availability", self.availability, allow_head=False),
                web.put(one, self.put_manifest),
                web.put(one + r"/tables/{number:\d{1,4}}", self.put_table),
                web.put(f"{one}/data", self.put_data),
                web.post(f"{one}/fetch", self.fetch),
                web.delete(one, self.remove),
            ]
        return found

    @operation(summary="List the builds on this node", tag=TAG, responses={200: BuildList})
    async def index(self, _request: web.Request) -> web.StreamResponse:
        """Return every complete build, and how much room is left for more."""
        held = await asyncio.to_thread(self._builds.held)
        usage = await asyncio.to_thread(shutil.disk_usage, self._builds.store.folder)
        document = BuildList(
            builds=[
                BuildEntry(
                    digest=one.digest.hex(),
                    size=one.size,
                    file_count=one.file_count,
                    media_type=one.media_type,
                )
                for one in held
            ],
            bytes_held=sum(one.size for one in held),
            bytes_free=usage.free,
        )
        return _answer(document)

    @operation(summary="Show a build", tag=TAG, responses={200: BuildDocument}, errors=(404,))
    async def show(self, request: web.Request) -> web.StreamResponse:
        """Return a build's files and how much of it is here."""
        digest = _digest(request)
        status = await asyncio.to_thread(self._builds.status, digest)
        if status.state == "partial":
            status = await self._builds.prepare_upload(digest)
        return _answer(_build(status))

    @operation(summary="Show who has a build", tag=TAG, responses={200: Availability})
    async def availability(self, request: web.Request) -> web.StreamResponse:
        """Return the peers whose live adverts say that they hold the build."""
        digest = _digest(request)
        found = self._builds.availability(digest)
        document = Availability(
            digest=digest.hex(),
            here=self._builds.has(digest),
            holders=[_holder(endpoint) for endpoint in found],
        )
        return _answer(document)

    @operation(
        summary="Begin an upload",
        tag=TAG,
        auth=Auth.CREATOR,
        request_types=(BYTES,),
        responses={200: BuildDocument, 201: BuildDocument},
        errors=(403, 409, 422, 507),
        body_bytes_max=MANIFEST_BYTES_MAX,
    )
    async def put_manifest(self, request: web.Request) -> web.StreamResponse:
        """Take a build's sealed manifest (docs/wire.md), signed by the key that signs the request.

        Answers 200 when the build was known here already, with what is still missing.
        """
        digest = _digest(request)
        raw = await request.read()
        sealed = open_manifest(raw, digest)
        self._check_publisher(request, sealed.manifest.publisher)
        known = self._builds.store.manifest(digest) is not None
        await self._builds.put_manifest(digest, raw)
        status = await self._builds.prepare_upload(digest)
        return _answer(_build(status), status=200 if known else 201)

    @operation(
        summary="Upload a chunk table",
        tag=TAG,
        auth=Auth.CREATOR,
        request_types=(BYTES,),
        responses={204: None},
        errors=(403, 404, 409, 422),
        body_bytes_max=TABLE_BYTES_MAX,
    )
    async def put_table(self, request: web.Request) -> web.StreamResponse:
        """Take one of the tables of chunk lengths and hashes that the manifest names."""
        digest = _digest(request)
        self._check_publisher(request, self._builds.publisher(digest))
        number = int(request.match_info["number"])
        await self._builds.put_table(digest, number, await request.read())
        return web.Response(status=204)

    @operation(
        summary="Upload a piece of a build",
        tag=TAG,
        auth=Auth.CREATOR,
        request_types=(BYTES,),
        responses={200: BuildDocument},
        errors=(403, 404, 409, 422, 507),
        body_bytes_max=UPLOAD_BYTES_MAX,
    )
    async def put_data(self, request: web.Request) -> web.StreamResponse:
        """Take whole chunks of the stream from `?offset=`, each checked before it is written.

        Any order will do, and repeating one does no harm. The answer lists what is missing; after
        the last piece the state is `complete`.
        """
        digest = _digest(request)
        self._check_publisher(request, self._builds.publisher(digest))
        offset = _offset(request)
        status = await self._builds.put_data(digest, offset, await request.read())
        return _answer(_build(status))

    @operation(
        summary="Fetch a build from its holders",
        tag=TAG,
        auth=Auth.OPERATOR,
        responses={200: EVENTS},
        errors=(429,),
    )
    async def fetch(self, request: web.Request) -> web.StreamResponse:
        """Fetch a build, verify every chunk, and tell the progress as server-sent events.

        Events are `progress`, then one of `done` (with the build) and `error` (with a problem).
        Leaving early ends the fetch unless somebody else waits for it too; what it got is kept.
        """
        digest = _digest(request)
        queue: asyncio.Queue[FetchProgress] = asyncio.Queue(PROGRESS_COUNT_MAX)
        async with self._streams.open(request) as stream:
            task = asyncio.create_task(self._builds.fetch(digest, lambda item: _offer(queue, item)))
            try:
                await _relay(stream, queue, task)
                path = await task
            finally:
                task.cancel()
            status = await asyncio.to_thread(self._builds.status, digest)
            done = FetchedDocument(**_build(status).model_dump(), path=str(path))
            await stream.send("done", done.model_dump())
        return stream.response

    @operation(
        summary="Delete a build from this node",
        tag=TAG,
        auth=Auth.OPERATOR,
        responses={204: None},
        errors=(404, 409),
    )
    async def remove(self, request: web.Request) -> web.StreamResponse:
        """Delete a build's bytes here, complete or partial. Other holders keep theirs."""
        await self._builds.remove(_digest(request))
        return web.Response(status=204)

    def _check_publisher(self, request: web.Request, publisher: PublicKey) -> None:
        signer = creator_of(request).key
        if signer != publisher:
            raise NotAuthorised(
                f"the build was published by key {publisher.hex()[:16]} and the request is signed "
                f"by {signer.hex()[:16]}; upload it with the account that packed it"
            )


def routes(builds: Builds, streams: Streams) -> list[web.RouteDef]:
    """Return the build routes; see `BuildRoutes`."""
    return BuildRoutes(builds, streams).routes()


def _digest(request: web.Request) -> ManifestDigest:
    return ManifestDigest(bytes.fromhex(request.match_info["digest"]))


def _offset(request: web.Request) -> int:
    text = request.query.get("offset", "")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        message = "where the piece starts in the stream, as a whole number of bytes"
        raise BadFields("the query", [{"field": "offset", "value": text, "message": message}])
    return int(text)


def _build(status: BuildStatus) -> BuildDocument:
    sealed = status.sealed
    if sealed is None or status.state not in {"partial", "fetching", "complete"}:
        raise UnknownBuild(status.digest)
    manifest = sealed.manifest
    return BuildDocument.model_validate(
        {
            "digest": status.digest.hex(),
            "state": status.state,
            "media_type": manifest.media_type,
            "publisher": manifest.publisher.hex(),
            "size": manifest.size,
            "chunk_count": manifest.chunk_count,
            "bytes_verified": status.bytes_verified,
            "tokenizer_sha256": manifest.tokenizer_sha256.hex() or None,
            "chat_template_sha256": manifest.chat_template_sha256.hex() or None,
            "files": [
                {
                    "path": file.path,
                    "size": file.size,
                    "mode": f"{file.mode:o}",
                    "sha256": file.sha256.hex(),
                }
                for file in manifest.files
            ],
            "tables_missing": list(status.tables_missing),
            "gaps": [{"offset": offset, "length": length} for offset, length in status.gaps],
            "progress": _progress(status.progress) if status.progress else None,
        }
    )


def _progress(progress: FetchProgress) -> ProgressDocument:
    return ProgressDocument(
        phase=progress.phase,
        bytes_total=progress.bytes_total,
        bytes_verified=progress.bytes_verified,
        bytes_per_s=progress.bytes_per_s,
        seconds_left=progress.seconds_left,
        holder=progress.holder,
        bytes_wasted=progress.bytes_wasted,
    )


def _holder(endpoint: PeerEndpoint) -> HolderDocument:
    return HolderDocument(peer=endpoint.peer, host=endpoint.host, port=endpoint.port)


def _answer(document: BaseModel, *, status: int = 200) -> web.Response:
    return web.Response(
        text=document.model_dump_json(), status=status, content_type="application/json"
    )


def _offer(queue: asyncio.Queue[FetchProgress], item: FetchProgress) -> None:
    if queue.full():  # a slow reader loses old news, never the newest
        queue.get_nowait()
    queue.put_nowait(item)


async def _relay(
    stream: EventStream, queue: asyncio.Queue[FetchProgress], task: asyncio.Task[Path]
) -> None:
    """Pass progress on until the fetch ends, however it ends."""
    while not task.done():
        getting = asyncio.create_task(queue.get())
        try:
            done, _waiting = await asyncio.wait(
                {getting, task}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            getting.cancel()
        if getting in done:
            await stream.send("progress", _progress(getting.result()).model_dump())
    while not queue.empty():
        await stream.send("progress", _progress(queue.get_nowait()).model_dump())
