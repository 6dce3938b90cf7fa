"""Nodes with builds on real sockets, and holders that misbehave on purpose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from crdt import ManifestDigest, network_id
from node.builds import Builds, BuildStore, ExchangeLimits
from node.peer import NodeKey, PeerEndpoint, PeerServer, PeerSession

NETWORK = network_id("test")


class Node:
    """A peer server, a session, a store and what ties them."""

    def __init__(self, number: int, folder: Path, holders: list[PeerEndpoint]) -> None:
        self.key = NodeKey(bytes([number]) * 32)
        self.store = BuildStore(folder / f"node{number}", keep_free_bytes=0)
        self.session = PeerSession(self.key, NETWORK)
        self.changes = 0
        self.builds = Builds(
            self.store,
            lambda _digest: holders,
            self.session.grant,
            on_change=self.changed,
            limits=ExchangeLimits(retry_s=0.001, retry_s_max=0.01),
        )
        self.requests: list[str] = []
        self.server: PeerServer | None = None

    def changed(self) -> None:
        self.changes += 1

    @property
    def endpoint(self) -> PeerEndpoint:
        assert self.server is not None
        return self.server.endpoint("127.0.0.1")

    async def listen(self, spoil: Callable[[web.Request], None] | None = None) -> None:
        """Start serving. `spoil` sees each request first and may raise or change it."""
        self.server = PeerServer(self.key, NETWORK, "127.0.0.1", 0)
        routes = [web.get(r.path, self._seen(r.handler, spoil)) for r in self.builds.peer_routes()]
        self.server.add_routes(routes)
        await self.server.start()

    def _seen(self, handler: Handler, spoil: Callable[[web.Request], None] | None) -> Handler:  # type: ignore[type-arg]
        async def serve(request: web.Request) -> web.StreamResponse:
            self.requests.append(f"{request.path} {request.headers.get('Range', '')}")
            if spoil is not None:
                spoil(request)
            return await handler(request)

        return serve

    async def close(self) -> None:
        await self.builds.close()
        await self.session.close()
        if self.server is not None:
            await self.server.stop(grace_s=0.1)


@asynccontextmanager
async def nodes(folder: Path, count: int) -> AsyncIterator[tuple[list[Node], list[PeerEndpoint]]]:
    """Yield `count` nodes that share one list of holders, which is empty at first."""
    holders: list[PeerEndpoint] = []
    made = [Node(number + 1, folder, holders) for number in range(count)]
    try:
        yield made, holders
    finally:
        for node in made:
            await node.close()


def flip(store: BuildStore, digest: ManifestDigest, name: str, offset: int) -> None:
    """Flip one bit of a stored build, behind its store's back."""
    path = store.path(digest) / name
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)
