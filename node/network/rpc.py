# pyright: reportCallIssue=false, reportUnknownMemberType=false
# (trio's own types: attrs classes and variadic functions that pyright reads in part)
"""Requests and answers over libp2p streams: u32 length and bytes, either way, again and again.

An answer of length 0xFFFFFFFF means "no answer to this". Who asks keeps its side open and silent
until the answer is there: a stream that ends is one that nobody waits at. Streams are reused:
opening one costs four times a request, and the library blocks at 256 of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.protocol_muxer.exceptions import MultiselectClientError

from node.network.errors import PeerRefused, PeerUnreachable, ProtocolUnspoken
from node.network.layers import reset
from node.network.settings import REQUEST_BYTES_MAX

REFUSED = 0xFFFFFFFF
STREAMS_PER_PEER_MAX = 8
"""Requests to one peer that are under way at once, and streams of one protocol from it."""
READ_BYTES_MAX = 256 * 1024
IDLE_S = 120.0
"""An idle stream is closed; the other side opens another when it has something to ask."""
TRANSFER_TIMEOUT_S = 20.0
"""1 MiB at 50 KiB/s."""
SMALL_BYTES_MAX = 64 * 1024
LARGE_COUNT_MAX = 32
"""Requests over 64 KiB that are read at once, from all peers together: 32 MiB of memory."""

Answer = Callable[[ID, str, bytes], Awaitable[bytes | None]]
"""Gives the answer to a request, or None to refuse."""


class Requester:
    """Asks peers, with a few reused streams each."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._idle: dict[tuple[ID, str], list[Any]] = {}
        self._limits: dict[ID, trio.CapacityLimiter] = {}

    def forget(self, peer: ID) -> None:
        """Drop what is kept of a peer that is gone."""
        self._limits.pop(peer, None)
        for key in [key for key in self._idle if key[0] == peer]:
            del self._idle[key]

    async def request(self, peer: ID, protocol: str, payload: bytes, answer_max: int) -> bytes:
        """Return a peer's answer.

        Raises:
            PeerUnreachable: not connected, or the connection broke.
            PeerRefused: it does not answer this, or its answer is too long.
            ProtocolUnspoken: it does not know the protocol.
        """
        if not self._host.get_network().get_connections(peer):
            raise PeerUnreachable(f"peer {peer} is not connected")
        async with self._limits.setdefault(peer, trio.CapacityLimiter(STREAMS_PER_PEER_MAX)):
            idle = self._idle.setdefault((peer, protocol), [])
            # A kept stream may have been closed over there for idleness: then once more, anew.
            for stream in [idle.pop()] if idle else []:
                try:
                    return await self._exchange(stream, peer, protocol, payload, answer_max)
                except PeerUnreachable:
                    idle.clear()
            try:
                stream = await self._host.new_stream(peer, [TProtocol(protocol)])
            except Exception as error:
                if _is_unspoken(error):
                    raise ProtocolUnspoken(f"peer {peer} does not speak {protocol}") from error
                raise PeerUnreachable(
                    f"peer {peer} opens no stream for {protocol}: {str(error)[:120]}"
                ) from error
            return await self._exchange(stream, peer, protocol, payload, answer_max)

    async def _exchange(
        self, stream: Any, peer: ID, protocol: str, payload: bytes, answer_max: int
    ) -> bytes:
        done = False
        try:
            await stream.write(len(payload).to_bytes(4, "big") + payload)
            length = int.from_bytes(await read_exactly(stream, 4), "big")
            if length == REFUSED:
                done = True
                raise PeerRefused(f"peer {peer} does not answer this request on {protocol}")
            if length > answer_max:
                raise PeerRefused(f"peer {peer} answers {length} bytes; {answer_max} were asked")
            with trio.fail_after(TRANSFER_TIMEOUT_S):
                answer = await read_exactly(stream, length)
            done = True
            return answer
        except PeerRefused:
            raise
        except Exception as error:  # the library raises a dozen kinds for one broken stream
            raise PeerUnreachable(
                f"peer {peer} broke off an answer: {type(error).__name__}"
            ) from error
        finally:
            if done:
                self._keep(peer, protocol, stream)
            else:
                with trio.CancelScope(shield=True):
                    await reset(stream)

    def _keep(self, peer: ID, protocol: str, stream: Any) -> None:
        idle = self._idle.get((peer, protocol))
        if idle is not None and len(idle) < STREAMS_PER_PEER_MAX:
            idle.append(stream)


class Responder:
    """Serves the streams that peers open for one protocol."""

    def __init__(
        self,
        protocol: str,
        answer: Answer,
        *,
        may_request: Callable[[ID], bool],
        penalise: Callable[[ID, int, str], None],
    ) -> None:
        self._protocol = protocol
        self._answer = answer
        self._may_request = may_request
        self._penalise = penalise
        self._streams: dict[ID, int] = {}
        self._large = trio.CapacityLimiter(LARGE_COUNT_MAX)

    async def serve(self, stream: Any) -> None:
        """Answer requests on one stream until it ends, breaks a rule, or idles."""
        peer: ID = stream.muxed_conn.peer_id
        if self._streams.get(peer, 0) >= STREAMS_PER_PEER_MAX:
            self._penalise(peer, 2, "opens too many streams")
            await reset(stream)
            return
        self._streams[peer] = self._streams.get(peer, 0) + 1
        try:
            while await self._serve_one(stream, peer):
                pass
        except Exception as error:  # the library raises a dozen kinds for one broken stream
            if isinstance(error, (_Broken, trio.TooSlowError)):
                self._penalise(peer, 10, f"breaks a rule of {self._protocol}: {error}")
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]
            with trio.CancelScope(shield=True):
                await reset(stream)

    async def _serve_one(self, stream: Any, peer: ID) -> bool:
        header = b""
        with trio.move_on_after(IDLE_S):
            header = await read_exactly(stream, 4)
        if not header:
            return False
        length = int.from_bytes(header, "big")
        if length > REQUEST_BYTES_MAX:
            raise _Broken(f"a request of {length} bytes")
        if length > SMALL_BYTES_MAX:
            async with self._large:
                payload = await self._read(stream, length)
        else:
            payload = await self._read(stream, length)
        answer = None
        if self._may_request(peer):
            answer = await self._answer_while_wanted(stream, peer, payload)
        else:
            self._penalise(peer, 1, "asks too often")
        with trio.fail_after(TRANSFER_TIMEOUT_S):
            if answer is None:
                await stream.write(REFUSED.to_bytes(4, "big"))
            else:
                await stream.write(len(answer).to_bytes(4, "big") + answer)
        return True

    async def _answer_while_wanted(self, stream: Any, peer: ID, payload: bytes) -> bytes | None:
        """Return the answer, or stop at once when the asker goes: others need its streams."""
        answer, gone = None, False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal gone
            with suppress(Exception):  # however the stream ends
                await stream.read(1)
            gone = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            answer = await self._answer(peer, self._protocol, payload)
            nursery.cancel_scope.cancel()
        if gone:
            raise EOFError("the asker closed its stream, or did not wait for the answer")
        return answer

    async def _read(self, stream: Any, length: int) -> bytes:
        with trio.fail_after(TRANSFER_TIMEOUT_S):
            return await read_exactly(stream, length)


class _Broken(Exception):
    """A peer broke the protocol."""


def _is_unspoken(error: BaseException) -> bool:
    """Whether a peer said of a protocol that it knows none of that name.

    The library has a class for it, and wraps it in two others that mean anything.
    """
    cause = error.__cause__
    return isinstance(cause, MultiselectClientError) and str(cause).startswith(
        "protocols not supported"
    )


async def read_exactly(stream: Any, length: int) -> bytes:
    """Return so many bytes; at the stream's end raise whatever the library raises, or EOFError."""
    parts = bytearray()
    while len(parts) < length:
        part = await stream.read(min(READ_BYTES_MAX, length - len(parts)))
        if not part:
            raise EOFError(f"the stream ended after {len(parts)} of {length} bytes")
        parts += part
    return bytes(parts)
