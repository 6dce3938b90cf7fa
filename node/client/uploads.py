"""Uploading a packed build to a node: manifest, chunk tables, then what is missing of the stream.

Every request is signed by the publisher and may be repeated, so an upload that broke off goes on
where the node says it has a gap.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from node.client.client import Client
from node.client.errors import BadAnswer
from node.client.http import Request, query_string

if TYPE_CHECKING:
    from node.builds import Packed
    from registry.builds import ChunkMap

BYTES_TYPE = "application/octet-stream"
ROUND_COUNT_MAX = 100_000
"""A node that never runs out of gaps is not counting; 64 gaps a round is 6 TB of pieces."""


def upload_build(
    client: Client, packed: Packed, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> int:
    """Send what the node lacks of a build and return how many bytes of files that was.

    Args:
        progress: Called with the bytes the node has verified, and the bytes of the whole build.

    Raises:
        ApiProblem: the node refuses it.
        BadAnswer: the node keeps asking for what was sent.
    """
    from registry.builds import ChunkMap

    path = f"/v1/builds/{packed.sealed.digest.hex()}"
    chunks = ChunkMap(packed.sealed.manifest, packed.tables)
    state: dict[str, Any] = _put(client, path, packed.sealed.raw)
    missing: list[int] = state["tables_missing"]
    for number in missing:
        _put(client, f"{path}/tables/{number}", packed.tables[number])
    if missing:
        state = client.get(path)
    sent = 0
    for _round in range(ROUND_COUNT_MAX):
        progress(state["bytes_verified"], chunks.size)
        if state["state"] == "complete":
            return sent
        before = state["bytes_verified"]
        for offset, length in pieces(chunks, state["gaps"]):
            data = _read(packed, chunks, offset, length)
            state = _put(client, f"{path}/data", data, query_string({"offset": offset}))
            sent += length
            progress(state["bytes_verified"], chunks.size)
        if state["bytes_verified"] <= before and state["state"] != "complete":
            break
    raise BadAnswer(f"the node does not take the build's bytes; it has {state['bytes_verified']}")


def pieces(chunks: ChunkMap, gaps: list[dict[str, int]]) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of runs of whole chunks that fill the gaps, each one request long.

    Raises:
        BadAnswer: a gap does not start and end where chunks do.
    """
    from node.builds import UPLOAD_BYTES_MAX

    for gap in gaps:
        index = chunks.chunk_at(gap["offset"])
        end = gap["offset"] + gap["length"]
        if index is None or gap["length"] <= 0 or end > chunks.size:
            raise BadAnswer(f"the node asks for {gap['length']} bytes at {gap['offset']}")
        start, length = gap["offset"], 0
        while start + length < end:
            size = chunks.length(index)
            if length and length + size > UPLOAD_BYTES_MAX:
                yield start, length
                start, length = start + length, 0
            length += size
            index += 1
        yield start, length


def _read(packed: Packed, chunks: ChunkMap, offset: int, length: int) -> bytes:
    """Return a range of the stream, which is all files in the manifest's order."""
    found = bytearray()
    while len(found) < length:
        number, within = chunks.locate(offset + len(found))
        file = packed.sealed.manifest.files[number]
        size = min(file.size - within, length - len(found))
        descriptor = os.open(packed.root / file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            piece = os.pread(descriptor, size, within)
        finally:
            os.close(descriptor)
        if len(piece) != size:
            from node.builds import CannotPack

            raise CannotPack(f"{packed.root / file.path} changed while it was sent; build again")
        found += piece
    return bytes(found)


def _put(client: Client, path: str, body: bytes, query: str = "") -> Any:
    answer = client.signed(Request("PUT", path, query, body, {"Content-Type": BYTES_TYPE}))
    return answer.json() if answer.body else None
