"""Fetching a build from one holder over pinned TLS, against a raw TCP copy on the same machine.

L, the loopback, is one TCP stream from `sendfile` to `recv_into` to a file, in the same run and on
the same file system (builds.md). The holder is a process of its own, as it would be.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from crdt import ManifestDigest, SigningKey, network_id
from node.builds import Builds, BuildStore, FetchProgress
from node.peer import NodeKey, PeerEndpoint, PeerServer, PeerSession

NETWORK = network_id("bench")
HOLDER_SEED = b"\x01" * 32
PIECE_BYTES = 1024 * 1024


def run(*, size_mib: int = 1024, rounds: int = 3) -> dict[str, Any]:
    """Return MB/s of verified fetches to a file, and what part of L that is.

    Args:
        size_mib: Size of the build.
        rounds: Fetches and raw copies, taken in turn; medians count.
    """
    shared = Path("/dev/shm")  # memory, so that no disk is measured
    where = shared if shared.is_dir() and _room(shared) > 4 * size_mib * PIECE_BYTES else None
    folder = Path(tempfile.mkdtemp(prefix="hansa-bench-", dir=where))
    children: list[subprocess.Popen[str]] = []
    try:
        source = folder / "source"
        source.mkdir()
        with (source / "weights.bin").open("wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(PIECE_BYTES))
        digest = asyncio.run(_pack(folder, source))
        holder = _start("holder", folder, children)
        sender = _start("sender", folder, children)
        fetched: list[float] = []
        copied: list[float] = []
        for _ in range(rounds):
            copied.append(_copy(folder, sender, size_mib * PIECE_BYTES))
            fetched.append(asyncio.run(_fetch(folder, holder, digest)))
    finally:
        for child in children:
            child.terminate()
            child.wait(10)
        _delete(folder)
    megabytes = size_mib * PIECE_BYTES / 1e6
    fetch_rate = megabytes / statistics.median(fetched)
    loopback_rate = megabytes / statistics.median(copied)
    return {
        "mb_per_s": round(fetch_rate, 1),
        "fraction_of_loopback": round(fetch_rate / loopback_rate, 3),
        "loopback_mb_per_s": round(loopback_rate, 1),
        "size_mib": size_mib,
        "rounds": rounds,
        "in_memory": where is not None,
    }


def serve(role: str, folder: Path) -> None:
    """Be the holder or the raw sender, print the port, and go on until ended."""
    if role == "sender":
        _send_raw(folder / "source" / "weights.bin")
    else:
        with suppress(asyncio.CancelledError, KeyboardInterrupt):
            asyncio.run(_hold(folder))


async def _hold(folder: Path) -> None:
    key = NodeKey(HOLDER_SEED)
    session = PeerSession(key, NETWORK)
    builds = Builds(BuildStore(folder / "holder", keep_free_bytes=0), lambda _d: [], session.grant)
    server = PeerServer(key, NETWORK, "127.0.0.1", 0)
    server.add_routes(builds.peer_routes())
    await server.start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _send_raw(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            connection, _address = listener.accept()
            with connection, path.open("rb") as file:
                connection.sendfile(file)


async def _pack(folder: Path, source: Path) -> ManifestDigest:
    session = PeerSession(NodeKey(HOLDER_SEED), NETWORK)
    builds = Builds(BuildStore(folder / "holder", keep_free_bytes=0), lambda _d: [], session.grant)
    sealed = await builds.pack(source, SigningKey(b"\x07" * 32))
    await builds.close()
    return sealed.digest


async def _fetch(folder: Path, port: int, digest: ManifestDigest) -> float:
    holder = NodeKey(HOLDER_SEED)
    endpoint = PeerEndpoint(holder.peer, "127.0.0.1", port, holder.certificate_sha256)
    session = PeerSession(NodeKey(b"\x02" * 32), NETWORK)
    store = BuildStore(folder / "fetcher", keep_free_bytes=0)
    builds = Builds(store, lambda _digest: [endpoint], session.grant)
    progress: Callable[[FetchProgress], None] = lambda _progress: None  # noqa: E731
    started = time.perf_counter()
    await builds.fetch(digest, progress)
    seconds = time.perf_counter() - started
    await builds.close()
    store.remove(digest)
    return seconds


def _copy(folder: Path, port: int, size: int) -> float:
    target = folder / "copy"
    view = memoryview(bytearray(PIECE_BYTES))
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection, target.open("wb") as file:
        left = size
        while left:
            count = connection.recv_into(view, min(left, PIECE_BYTES))
            if not count:
                raise ConnectionError("the sender ended early")
            file.write(view[:count])
            left -= count
    seconds = time.perf_counter() - started
    target.unlink()
    return seconds


def _start(role: str, folder: Path, children: list[subprocess.Popen[str]]) -> int:
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.fetch", role, str(folder)], stdout=subprocess.PIPE, text=True
    )
    children.append(child)
    assert child.stdout is not None
    return int(child.stdout.readline())


def _room(path: Path) -> int:
    return shutil.disk_usage(path).free


def _delete(folder: Path) -> None:
    for path, folders, _files in os.walk(folder):
        for name in folders:
            Path(path, name).chmod(0o700)
    shutil.rmtree(folder)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
