"""A process that fetches one build and prints its progress; made to be killed.

Usage: python -m tests.node.builds.fetcher FOLDER SERVER_SEED HOST PORT DIGEST
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from crdt import ManifestDigest, network_id
from node.builds import Builds, BuildStore, FetchProgress
from node.peer import NodeKey, PeerEndpoint, PeerSession


async def main(folder: str, seed: str, host: str, port: str, digest: str) -> None:
    server = NodeKey(bytes.fromhex(seed))
    endpoint = PeerEndpoint(server.peer, host, int(port), server.certificate_sha256)
    session = PeerSession(NodeKey(b"\x0c" * 32), network_id("test"))
    store = BuildStore(Path(folder), keep_free_bytes=0)
    builds = Builds(store, lambda _digest: [endpoint], session.grant)

    def show(progress: FetchProgress) -> None:
        print(progress.phase, progress.bytes_verified, progress.bytes_total, flush=True)

    print(await builds.fetch(ManifestDigest(bytes.fromhex(digest)), show), flush=True)
    await builds.close()
    await session.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
