"""Calling peers over HTTPS from asyncio: the server proves its key before a byte of ours is sent.

aiohttp checks a `Fingerprint` between the handshake and the request, so a request and its grant
reach nobody but the peer that was meant.
"""

from __future__ import annotations

import asyncio
import io
import os
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from crdt import NetworkId, PeerId, public_key_of
from node.peer.errors import (
    PeerMisbehaved,
    PeerRefused,
    PeerUnreachable,
    WrongPeerKey,
    where_it_may_be,
)
from node.peer.grants import HEADER, NONCE_BYTES, make_grant
from node.peer.identity import NodeKey, PeerEndpoint, check_certificate

CONNECT_S = 5.0
CONNECTION_COUNT_MAX = 256
CONNECTION_COUNT_PER_HOST_MAX = 64
BODY_BYTES_AT_ONCE = 512 * 1024
_REFUSAL_BYTES_MAX = 2048


class _PeerPin(aiohttp.Fingerprint):
    """A pin by certificate and by the key inside it; equal pins share pooled connections."""

    def __init__(self, endpoint: PeerEndpoint) -> None:
        super().__init__(endpoint.certificate_sha256)
        self._endpoint = endpoint

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PeerPin) and other._endpoint == self._endpoint

    def __hash__(self) -> int:
        return hash(self._endpoint)

    def check(self, transport: asyncio.Transport) -> None:
        """Raise WrongPeerKey unless the other end of `transport` is the peer."""
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        try:
            check_certificate(tls.getpeercert(binary_form=True) if tls else None, self._endpoint)
        except WrongPeerKey:
            transport.abort()  # aiohttp 3.14 closes it only for an error class of its own
            raise


class PeerSession:
    """Makes requests to peers, reusing connections. One for the whole node; close it at the end.

    Args:
        now_s: Unix time, for the grants.
        nonce: 16 fresh random bytes a call.
    """

    def __init__(
        self,
        key: NodeKey,
        network: NetworkId,
        *,
        now_s: Callable[[], int] = lambda: int(time.time()),  # noqa: TID251 - an edge
        nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_BYTES),
    ) -> None:
        self._key = key
        self._network = network
        self._now_s = now_s
        self._nonce = nonce
        self._session: aiohttp.ClientSession | None = None

    @property
    def peer(self) -> PeerId:
        """The identity that calls."""
        return self._key.peer

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def post(
        self,
        endpoint: PeerEndpoint,
        path: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        read_s: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """POST `body` and yield the response, whatever its status; its body is still to be read.

        Args:
            path: Starts with `/peer/`; a query is part of it.
            timeout_s: For the whole exchange; 0 for none (a stream of unknown length).
            read_s: The longest silence within it; None for the same as `timeout_s`.

        Raises:
            PeerUnreachable: no connection, or silence for too long.
            WrongPeerKey: somebody else answered the handshake; nothing was sent.
            PeerMisbehaved: it does not speak HTTP.
        """
        async with self._request("POST", endpoint, path, body, headers, timeout_s, read_s) as it:
            yield it

    @asynccontextmanager
    async def get(
        self,
        endpoint: PeerEndpoint,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        read_s: float | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """GET `path`; as `post`."""
        async with self._request("GET", endpoint, path, b"", headers, timeout_s, read_s) as it:
            yield it

    def grant(self, endpoint: PeerEndpoint, method: str, path: str, body: bytes) -> str:
        """Return the grant header for one request, for clients other than this one."""
        purpose = f"{method} {path}"
        server = public_key_of(endpoint.peer)
        signing = self._key.signing
        return make_grant(
            signing, self._network, server, purpose, body, now_s=self._now_s(), nonce=self._nonce()
        )

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        endpoint: PeerEndpoint,
        path: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        read_s: float | None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        assert path.startswith("/peer/"), path
        timeout = aiohttp.ClientTimeout(
            total=timeout_s or None,
            sock_connect=CONNECT_S,
            sock_read=read_s if read_s is not None else (timeout_s or None),
        )
        sent = {**(headers or {}), HEADER: self.grant(endpoint, method, path, body)}
        try:
            async with self._opened().request(
                method,
                URL(endpoint.url(path), encoded=True),
                data=_payload(body),
                headers=sent,
                timeout=timeout,
                ssl=_PeerPin(endpoint),
                allow_redirects=False,
            ) as response:
                yield response
        except WrongPeerKey:
            raise
        except (TimeoutError, aiohttp.ClientConnectionError) as error:
            raise PeerUnreachable(
                f"peer {endpoint.peer} at {endpoint.host}:{endpoint.port}: "
                f"{type(error).__name__}: {error}"[:300]
                + where_it_may_be(endpoint.host)
            ) from error
        except aiohttp.ClientError as error:
            raise PeerMisbehaved(
                f"peer {endpoint.peer} broke off its answer: {type(error).__name__}: {error}"[:300]
            ) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTION_COUNT_MAX,
                    limit_per_host=CONNECTION_COUNT_PER_HOST_MAX,
                    keepalive_timeout=30,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=8192,
                max_field_size=16384,
            )
        return self._session


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp sends it without holding up the event loop, whatever its size."""
    return io.BytesIO(body) if len(body) > BODY_BYTES_AT_ONCE else body or None


async def refusal(endpoint: PeerEndpoint, response: aiohttp.ClientResponse) -> PeerRefused:
    """Return the error that a peer's answer of status 4xx or 5xx stands for."""
    raw = await response.content.read(_REFUSAL_BYTES_MAX)
    return PeerRefused(endpoint.peer, response.status, raw.decode("utf-8", "replace"))
