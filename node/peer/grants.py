"""Grants: how a caller proves itself on the HTTPS channel, one signed token a request.

A grant is bound to the network, caller, server, request line and body, lives for seconds and is
taken once. So a grant that somebody saw is worth nothing to them: not here again, not elsewhere,
not for anything else. Pure: the clock and the nonce are passed in.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from crdt import (
    MalformedBytes,
    NetworkId,
    PeerId,
    PublicKey,
    RemoteFault,
    Signed,
    SigningKey,
    decode,
    encode,
    field,
    fixed_bytes,
    has_head,
    natural,
    peer_id_of,
    seal,
    sha3,
    verify,
)
from node.peer.errors import GrantRefused, GrantReplayed

DOMAIN = "hansa/grant"
VERSION = 0
HEADER = "Hansa-Grant"
LIFE_S = 60
"""Two honest clocks may differ by this much either way."""
WINDOW_S = 2 * LIFE_S
"""The longest that a grant can stay acceptable here, so the shortest that its nonce is kept."""
NONCE_BYTES = 16
PURPOSE_CHARACTERS_MAX = 1024
GRANT_BYTES_MAX = 4096
SEEN_COUNT_MAX = 200_000
"""A generation, 30 MB at worst: 1 600 requests a second for two minutes; more are refused."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller signed: `caller` asks `server` for `purpose` with this body, until then.

    Attributes:
        purpose: Method, space, path with query, exactly as sent: `GET /peer/v1/builds/...`.
        subject: SHA3-256 of the request's body.
    """

    network: NetworkId
    caller: PublicKey
    server: PublicKey
    purpose: str
    subject: bytes
    expires_s: int
    nonce: bytes


def make_grant(
    key: SigningKey,
    network: NetworkId,
    server: PublicKey,
    purpose: str,
    body: bytes,
    *,
    now_s: int,
    nonce: bytes,
) -> str:
    """Return the value of the `Hansa-Grant` header for one request to `server`."""
    assert len(nonce) == NONCE_BYTES
    assert len(purpose) <= PURPOSE_CHARACTERS_MAX
    expires_s = now_s + LIFE_S
    content = encode(
        [DOMAIN, VERSION, network, key.public, server, purpose, sha3(body), expires_s, nonce]
    )
    signed = seal(content, key)
    token = encode([signed.content, signed.signature])
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode("ascii")


def open_grant(header: str) -> Grant:
    """Return the grant in a header, with its signature checked and nothing else.

    Raises:
        RemoteFault: not a grant, or not signed by the caller that it names.
    """
    parts = decode(_unarmour(header), bytes_max=GRANT_BYTES_MAX)
    if len(parts) != 2:
        raise MalformedBytes(f"a grant token is 2 fields, not {len(parts)}")
    signed = Signed(
        field(parts[0], bytes, "grant content"), fixed_bytes(parts[1], 64, "grant signature")
    )
    inner = decode(signed.content, bytes_max=GRANT_BYTES_MAX)
    if not has_head(inner, 9, DOMAIN, VERSION):
        raise MalformedBytes(f"a grant is 9 fields that start with {DOMAIN!r}, {VERSION}")
    grant = Grant(
        network=NetworkId(fixed_bytes(inner[2], 32, "grant network")),
        caller=PublicKey(fixed_bytes(inner[3], 32, "grant caller")),
        server=PublicKey(fixed_bytes(inner[4], 32, "grant server")),
        purpose=field(inner[5], str, "grant purpose"),
        subject=fixed_bytes(inner[6], 32, "grant subject"),
        expires_s=natural(inner[7], "grant expiry"),
        nonce=fixed_bytes(inner[8], NONCE_BYTES, "grant nonce"),
    )
    verify(signed, grant.caller)
    return grant


class ReplayCache:
    """Remembers which nonces were taken until they could not be accepted anyway. Bounded.

    Two generations that change places each `window_s`: a nonce is remembered for one to two
    windows, forgetting is free, and nothing grows past twice `count_max`.
    """

    def __init__(self, window_s: int = WINDOW_S, count_max: int = SEEN_COUNT_MAX) -> None:
        assert window_s > 0
        assert count_max > 0
        self._window_s = window_s
        self._count_max = count_max
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()
        self._since_s = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def take(self, nonce: bytes, *, now_s: int) -> bool:
        """Record a nonce; False if it was taken before, or there is no room for it.

        No room means refusal and never forgetting: a flood must not open the door to replays.
        """
        age_s = now_s - self._since_s
        if age_s >= self._window_s:
            self._old = self._young if age_s < 2 * self._window_s else set()
            self._young = set()
            self._since_s = now_s
        if nonce in self._young or nonce in self._old or len(self._young) >= self._count_max:
            return False
        self._young.add(nonce)
        return True


class GrantVerifier:
    """Judges the grants that reach one server."""

    def __init__(
        self, network: NetworkId, server: PublicKey, seen: ReplayCache | None = None
    ) -> None:
        self._network = network
        self._server = server
        self._seen = seen or ReplayCache()

    def check(self, header: str | None, purpose: str, body: bytes, *, now_s: int) -> PeerId:
        """Return who is calling, and take the grant: the same one is refused from now on.

        Raises:
            GrantRefused: missing, malformed, wrongly signed, expired, or for something else.
            GrantReplayed: it was used before.
        """
        if header is None:
            raise GrantRefused(f"the request has no {HEADER} header; sign one for this request")
        try:
            grant = open_grant(header)
        except RemoteFault as error:
            raise GrantRefused(f"the {HEADER} header is not a valid grant: {error}") from error
        self._check_terms(grant, purpose, body, now_s)
        if not self._seen.take(grant.caller + grant.nonce, now_s=now_s):
            raise GrantReplayed("this grant was used already; sign a new one for each request")
        return peer_id_of(grant.caller)

    def _check_terms(self, grant: Grant, purpose: str, body: bytes, now_s: int) -> None:
        if grant.network != self._network:
            raise GrantRefused("the grant is for another network")
        if grant.server != self._server:
            raise GrantRefused("the grant is for another server")
        if grant.purpose != purpose:
            raise GrantRefused(f"the grant is for {grant.purpose[:80]!r}, not {purpose[:80]!r}")
        if grant.subject != sha3(body):
            raise GrantRefused("the grant is for another request body")
        if not now_s < grant.expires_s <= now_s + WINDOW_S:
            raise GrantRefused(
                f"the grant expires at {grant.expires_s} and it is {now_s} here; "
                "check both machines' clocks"
            )


def _unarmour(header: str) -> bytes:
    if len(header) > GRANT_BYTES_MAX * 4 // 3 + 4:
        raise MalformedBytes(f"a grant of {len(header)} characters is too long")
    try:
        raw = base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise MalformedBytes("a grant is base64url without padding") from error
    return raw
