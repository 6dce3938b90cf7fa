"""Reading chunks from one holder: a blocking, pinned TLS connection for a worker thread.

The answer is read straight into one reused buffer, hashed, and handed on; nothing is copied and no
event loop is in the way. HTTP/1.1 is parsed here strictly, because only one shape of answer is
right: 206 (or 200) with a plain Content-Length.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Protocol

from crdt import ManifestDigest
from node.builds.errors import HolderHung
from node.peer import (
    PeerEndpoint,
    PeerMisbehaved,
    PeerRefused,
    PeerUnreachable,
    check_certificate,
    client_context,
    where_it_may_be,
)
from registry.builds import CHUNK_BYTES_MAX, MANIFEST_BYTES_MAX, TABLE_BYTES_MAX, ChunkMap

CONNECT_S = 5.0
SILENCE_S = 10.0
"""Nothing at all for this long is a hung answer."""
CHUNK_S = 30.0
"""A chunk that takes longer is a trickle: 35 kB/s, where no build is worth waiting for."""
HEAD_BYTES_MAX = 8 * 1024
_REFUSAL_BYTES_MAX = 2048

ChunkSink = Callable[[int, memoryview], None]
"""Gets each chunk's number and bytes; raises to stop the run."""
GrantFor = Callable[[PeerEndpoint, str, str, bytes], str]
"""`PeerSession.grant`: endpoint, method, path, body -> header value."""


class Holder(Protocol):
    """One connection to a peer that holds a build. Blocking; used by one thread at a time."""

    def manifest(self, digest: ManifestDigest) -> bytes:
        """Return the sealed manifest, unchecked."""
        ...

    def table(self, digest: ManifestDigest, number: int) -> bytes:
        """Return one chunk table, unchecked."""
        ...

    def pull(
        self, digest: ManifestDigest, chunks: ChunkMap, first: int, count: int, sink: ChunkSink
    ) -> None:
        """Read consecutive chunks and give each to `sink`, unchecked, in order."""
        ...

    def close(self) -> None:
        """Close the connection, from any thread; a call that is under way fails."""
        ...


class TlsHolder:
    """A holder across the network. Connects at the first call, again after a failure.

    Every method raises PeerUnreachable, WrongPeerKey, HolderHung, PeerRefused or PeerMisbehaved.
    """

    def __init__(self, endpoint: PeerEndpoint, grant: GrantFor) -> None:
        self._endpoint = endpoint
        self._grant = grant
        self._context = client_context()
        self._socket: ssl.SSLSocket | None = None
        self._buffer = bytearray(CHUNK_BYTES_MAX)
        self._early = b""
        self._lock = threading.Lock()
        self._closed = False
        self._busy = False

    def manifest(self, digest: ManifestDigest) -> bytes:
        """Return the sealed manifest, unchecked."""
        return self._get(f"{manifest_path(digest)}", MANIFEST_BYTES_MAX)

    def table(self, digest: ManifestDigest, number: int) -> bytes:
        """Return one chunk table, unchecked."""
        return self._get(table_path(digest, number), TABLE_BYTES_MAX)

    def pull(
        self, digest: ManifestDigest, chunks: ChunkMap, first: int, count: int, sink: ChunkSink
    ) -> None:
        """Read consecutive chunks and give each to `sink`, unchecked, in order."""
        start, end = chunks.start(first), chunks.start(first + count)
        buffer = memoryview(self._buffer)
        with self._exchange():
            size = self._ask(data_path(digest), {"Range": f"bytes={start}-{end - 1}"}, 206)
            if size != end - start:
                raise PeerMisbehaved(f"{self._who} sent {size} bytes for {end - start}")
            for index in range(first, first + count):
                chunk = buffer[: chunks.length(index)]
                self._read_into(chunk)
                sink(index, chunk)

    def close(self) -> None:
        """Close the connection, from any thread; a call that is under way fails."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                # Not SSLSocket.shutdown, which would let the reader go on in plain text; and a
                # descriptor that a thread reads from is closed by that thread.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                if not self._busy:
                    self._drop()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, pinned and not known to have failed."""
        return self._socket is not None

    @property
    def _who(self) -> str:
        return f"peer {self._endpoint.peer} at {self._endpoint.host}:{self._endpoint.port}"

    def _get(self, path: str, bytes_max: int) -> bytes:
        with self._exchange():
            size = self._ask(path, {}, 200)
            if size > bytes_max:
                raise PeerMisbehaved(f"{self._who} sent {size} bytes; at most {bytes_max}")
            body = bytearray(size)
            self._read_into(memoryview(body))
            return bytes(body)

    def _exchange(self) -> contextlib.AbstractContextManager[None]:
        return _Exchange(self)

    def connected(self) -> ssl.SSLSocket:
        """Return the connection, opened and pinned if it was not yet."""
        if self._socket is not None:
            return self._socket
        endpoint = self._endpoint
        try:
            plain = socket.create_connection((endpoint.host, endpoint.port), CONNECT_S)
        except OSError as error:
            hint = where_it_may_be(endpoint.host)
            raise PeerUnreachable(f"{self._who}: {error}{hint}") from error
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = self._context.wrap_socket(plain)
        except OSError as error:
            plain.close()
            raise PeerUnreachable(f"{self._who}: TLS failed: {error}") from error
        try:
            check_certificate(secure.getpeercert(binary_form=True), endpoint)
        except Exception:
            secure.close()
            raise
        secure.settimeout(SILENCE_S)
        with self._lock:
            self._socket = secure
            if self._closed:
                raise PeerUnreachable(f"the connection to {self._who} was closed")
        return secure

    def begin(self) -> None:
        """Note that a thread is using the connection."""
        with self._lock:
            if self._closed:
                raise PeerUnreachable(f"the connection to {self._who} was closed")
            assert not self._busy, "a holder is used by one thread at a time"
            self._busy = True

    def end(self, *, failed: bool) -> None:
        """Note that it is not any more; after a failure the next call makes a new connection."""
        with self._lock:
            self._busy = False
            if failed or self._closed:
                self._drop()

    def _drop(self) -> None:
        connection, self._socket = self._socket, None
        self._early = b""
        if connection is not None:
            connection.close()

    def _ask(self, path: str, headers: dict[str, str], wanted: int) -> int:
        """Send one request, read the answer's head, and return the length of its body."""
        connection = self.connected()
        sent = {
            "Host": "peer",
            "Hansa-Grant": self._grant(self._endpoint, "GET", path, b""),
            **headers,
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
        status, fields = self._read_head(connection)
        length = fields.get("content-length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 15:
            raise PeerMisbehaved(f"{self._who} answered without a plain Content-Length")
        if "transfer-encoding" in fields or "content-encoding" in fields:
            raise PeerMisbehaved(f"{self._who} answered with an encoded body")
        size = int(length)
        if status == wanted:
            return size
        detail = bytearray(min(size, _REFUSAL_BYTES_MAX))
        self._read_into(memoryview(detail))
        raise PeerRefused(self._endpoint.peer, status, detail.decode("utf-8", "replace"))

    def _read_head(self, connection: ssl.SSLSocket) -> tuple[int, dict[str, str]]:
        head = self._early
        self._early = b""
        deadline = time.monotonic() + CHUNK_S
        while b"\r\n\r\n" not in head:
            if len(head) > HEAD_BYTES_MAX or time.monotonic() > deadline:
                raise PeerMisbehaved(f"{self._who} sent an answer head without an end")
            more = connection.recv(4096)
            if not more:
                raise PeerMisbehaved(f"{self._who} broke off before its answer")
            head += more
        raw, _, self._early = head.partition(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ", 2)
        if len(parts) < 2 or parts[0] not in {"HTTP/1.1", "HTTP/1.0"} or not _is_status(parts[1]):
            raise PeerMisbehaved(f"{self._who} does not speak HTTP/1.1: {lines[0][:60]!r}")
        fields: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name.lower() in fields:
                raise PeerMisbehaved(f"{self._who} sent a bad or doubled header {name[:40]!r}")
            fields[name.lower()] = value.strip()
        return int(parts[1]), fields

    def _read_into(self, view: memoryview) -> None:
        """Fill `view` with the next bytes of the body."""
        connection = self._socket
        assert connection is not None
        early = self._early[: len(view)]
        view[: len(early)] = early
        self._early = self._early[len(early) :]
        done = len(early)
        deadline = time.monotonic() + CHUNK_S
        while done < len(view):
            count = connection.recv_into(view[done:])
            if not count:
                raise PeerMisbehaved(f"{self._who} broke off in the middle of its answer")
            done += count
            if done < len(view) and time.monotonic() > deadline:
                raise HolderHung(f"{self._who} sends less than a chunk in {CHUNK_S:.0f} s")


class _Exchange(contextlib.AbstractContextManager[None]):
    """Turns what sockets raise into our errors, and drops the connection on any of them."""

    def __init__(self, holder: TlsHolder) -> None:
        self._holder = holder

    def __enter__(self) -> None:
        self._holder.begin()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._holder.end(failed=error is not None)
        if isinstance(error, TimeoutError):
            raise HolderHung(f"a holder sent nothing for {SILENCE_S:.0f} s") from error
        if isinstance(error, (OSError, ValueError)):
            raise PeerMisbehaved(f"the connection to a holder broke: {error}") from error


def _is_status(text: str) -> bool:
    return len(text) == 3 and text.isascii() and text.isdigit()


def manifest_path(digest: ManifestDigest) -> str:
    """Return the path on the peer port of a build's sealed manifest."""
    return f"/peer/v1/builds/{digest.hex()}/manifest"


def table_path(digest: ManifestDigest, number: int) -> str:
    """Return the path on the peer port of one of its chunk tables."""
    return f"/peer/v1/builds/{digest.hex()}/tables/{number}"


def data_path(digest: ManifestDigest) -> str:
    """Return the path on the peer port of its stream, asked for by ranges."""
    return f"/peer/v1/builds/{digest.hex()}/data"
