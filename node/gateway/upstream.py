"""Opening an answer: from an engine on loopback, or from a peer that offers the model.

An answer is committed to only after its first bytes were seen: a full queue is a 503, or a 200
whose first event is an error, and both leave the call free to go elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from node.gateway.errors import EngineCut, EngineRefused
from node.gateway.events import EVENT_BYTES_MAX, first_event, json_object
from node.peer import PeerEndpoint, PeerSession
from node.peer.errors import PeerMisbehaved, PeerUnreachable, WrongPeerKey

PEER_PATH = "/peer/v1/openai/"
FIRST_BYTE_S = 60.0
"""A long prompt on a CPU takes its time; a dead host is found by the connection, not by this."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Embeddings of a whole batch; a chat answer is a hundred times smaller."""
ERROR_BYTES_MAX = 16 * 1024
CONNECT_S = 3.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer whose first bytes are good.

    Attributes:
        first: The bytes read so far; never empty.
        rest: The bytes after them; raises `EngineCut` when they stop too early.
    """

    content_type: str
    headers: Mapping[str, str]
    first: bytes
    rest: AsyncIterator[bytes]


class EngineUpstream:
    """The engines of this node, reached on loopback."""

    def __init__(self, *, first_byte_s: float = FIRST_BYTE_S) -> None:
        self._first_byte_s = first_byte_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def open(
        self, base_url: str, task_path: str, body: bytes, *, request_id: str
    ) -> AsyncGenerator[Opened, None]:
        """Ask an engine and yield its answer; leaving early aborts the generation.

        Raises:
            EngineRefused: no answer, an error status, or an error as the first event.
        """
        url = f"{base_url}/v1/{task_path}"
        headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
        try:
            async with self._opened().post(url, data=body, headers=headers) as response:
                yield await opened(response)
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise EngineRefused(f"the engine does not answer: {_brief(error)}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=512, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_S, sock_read=self._first_byte_s
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


@asynccontextmanager
async def open_peer(
    session: PeerSession,
    endpoint: PeerEndpoint,
    task_path: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    first_byte_s: float = FIRST_BYTE_S,
) -> AsyncGenerator[Opened, None]:
    """Ask a peer over its pinned channel and yield its answer.

    Raises:
        EngineRefused: unreachable, refused, or an error as the first event.
    """
    try:
        async with session.post(
            endpoint, PEER_PATH + task_path, body,
            headers={"Content-Type": "application/json", **headers},
            timeout_s=0, read_s=first_byte_s,
        ) as response:  # fmt: skip
            yield await opened(response)
    except (PeerUnreachable, PeerMisbehaved, WrongPeerKey) as error:
        raise EngineRefused(str(error)) from error


async def opened(response: aiohttp.ClientResponse) -> Opened:
    """Return an answer after looking at its status and first bytes.

    Raises:
        EngineRefused: it is an error, in whichever way it says so.
    """
    if response.status != 200:
        raw = await response.content.read(ERROR_BYTES_MAX)
        raise EngineRefused(_error_text(raw, response.status), status=response.status, body=raw)
    stream = response.content_type == "text/event-stream"
    first = await _first_bytes(response, stream=stream)
    event = first_event(first) if stream else None
    if event is not None and "error" in event:
        status = _status_in(event["error"])
        raise EngineRefused(_error_text(json.dumps(event).encode(), status), status=status)
    return Opened(
        response.headers.get("Content-Type", "application/json"),
        {name.lower(): value for name, value in response.headers.items()},
        first,
        _rest(response, len(first)),
    )


async def _first_bytes(response: aiohttp.ClientResponse, *, stream: bool) -> bytes:
    first = b""
    try:
        while not first or (stream and b"\n\n" not in first):
            piece = await response.content.readany()
            if not piece:
                raise EngineRefused("the answer ended before its first event", status=502)
            first += piece
            if len(first) > EVENT_BYTES_MAX:
                if not stream:
                    break
                raise EngineRefused("the first event never ends", status=502)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineRefused(f"no first byte: {_brief(error)}") from error
    return first


async def _rest(response: aiohttp.ClientResponse, read_bytes: int) -> AsyncIterator[bytes]:
    total = read_bytes
    try:
        while piece := await response.content.readany():
            total += len(piece)
            if total > ANSWER_BYTES_MAX:
                raise EngineCut(f"the answer is over {ANSWER_BYTES_MAX} bytes")
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineCut(f"the answer broke off: {_brief(error)}") from error


def _status_in(error: object) -> int:
    code = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code <= 599 else 500


def _error_text(raw: bytes, status: int) -> str:
    found = json_object(raw)
    if found is None:
        return f"status {status}: {raw[:200].decode('utf-8', 'replace')}"
    inner = found.get("error", found)
    if not isinstance(inner, dict):
        return f"status {status}: {str(inner)[:500]}"
    told = cast("dict[str, Any]", inner)
    return f"status {status}: {str(told.get('message') or told.get('detail'))[:500]}"


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
