"""How a creator's request is signed: the shapes the command line makes and the node checks.

Two signatures travel with a write. The *operation* (crdt) is what every node of the network judges
and keeps for ever. The *request signature* is for this node and this minute only: it binds method,
path, query, body and the operation header to the node's key, a time and a nonce, so that nothing
that is overheard can be sent again. Pure: the clock and the nonce are passed in.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass

from crdt import (
    AccountId,
    BadSignature,
    Item,
    MalformedBytes,
    NetworkId,
    PublicKey,
    RemoteFault,
    Signed,
    SigningKey,
    UserFault,
    decode,
    encode,
    field,
    fixed_bytes,
    natural,
    seal,
    sha3,
    unpack_item,
    verify,
)

REQUEST_DOMAIN = "hansa/request"
VERSION = 0
SCHEME = "Hansa"
AUTHORIZATION = "Authorization"
OPERATION_HEADER = "Hansa-Operation"
ACCOUNT_HEADER = "Hansa-Account"
WINDOW_S = 60
"""How far a request's time may be from the node's clock, both ways (node.md)."""
NONCE_BYTES = 16
NONCE_COUNT_MAX = 100_000
"""About 800 signed requests a second for the whole window both ways; 20 MB."""
HEADER_BYTES_MAX = 8 * 1024
"""Over the longest operation (4 KiB and a signature, in base64)."""


class Unsigned(UserFault):
    """A request that must be signed is not, or not in a way that can be read."""

    code = "unsigned"


class BadRequestSignature(UserFault):
    """A request's signature does not verify, or is for another node, network or time."""

    code = "bad-request-signature"


class ReplayedRequest(UserFault):
    """A signed request came a second time."""

    code = "replayed-request"


class TooManyRequests(UserFault):
    """More signed requests came within the window than are remembered."""

    code = "too-many-requests"


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What of an HTTP request is signed.

    Attributes:
        node: The Ed25519 key of the node it is for.
        path: As it stands in the request line, still quoted, without the query.
        query: The raw query string without `?`.
        operation: The value of the operation header as bytes, empty without one.
    """

    network: NetworkId
    node: PublicKey
    method: str
    path: str
    query: str
    body: bytes
    operation: bytes = b""


@dataclass(frozen=True, slots=True)
class RequestSigner:
    """Who signed a request that was checked."""

    account: AccountId
    key: PublicKey
    time_s: int
    nonce: bytes


def authorization(
    facts: RequestFacts, account: AccountId, key: SigningKey, *, now_s: int, nonce: bytes
) -> str:
    """Return the `Authorization` header that signs a request."""
    assert len(nonce) == NONCE_BYTES
    content = _content(facts, RequestSigner(account, key.public, now_s, nonce))
    signature = seal(content, key).signature
    return f"{SCHEME} {to_header(encode([account, key.public, now_s, nonce, signature]))}"


def check_authorization(
    header: str | None, facts: RequestFacts, nonces: NonceCache, *, now_s: int
) -> RequestSigner:
    """Return who signed the request, after every check that needs no account.

    That `key` may act for `account` is for the caller to check against the account's log.

    Raises:
        Unsigned, BadRequestSignature, ReplayedRequest, TooManyRequests: refuse it with 401 or 429.
    """
    if not header or not header.startswith(f"{SCHEME} "):
        raise Unsigned(
            "this request must be signed with a creator's key "
            "(`Authorization: Hansa ...`); `hansa` does it, docs/wire.md says how"
        )
    signer, signature = _parse(header[len(SCHEME) + 1 :])
    if abs(now_s - signer.time_s) > WINDOW_S:
        raise BadRequestSignature(
            f"the request was signed {now_s - signer.time_s} s ago by this node's clock and "
            f"{WINDOW_S} are allowed; set the clock right and sign again"
        )
    try:
        verify(Signed(_content(facts, signer), signature), signer.key)
    except BadSignature as error:
        raise BadRequestSignature(
            "the request signature does not fit this request to this node on this network; "
            "sign the exact method, path, query and body for the node's key"
        ) from error
    nonces.take(signer.key + signer.nonce, signer.time_s + WINDOW_S, now_s=now_s)
    return signer


class NonceCache:
    """Remembers the nonces of signed requests for as long as they would be accepted."""

    def __init__(self, count_max: int = NONCE_COUNT_MAX) -> None:
        self._until: OrderedDict[bytes, int] = OrderedDict()
        self._count_max = count_max
        self._swept_s = 0

    def take(self, nonce: bytes, until_s: int, *, now_s: int) -> None:
        """Remember a nonce.

        Raises:
            ReplayedRequest: it was taken before.
            TooManyRequests: no room until older ones expire.
        """
        if self._until.get(nonce, -1) >= now_s:
            raise ReplayedRequest("this signed request was already received; sign a new one")
        if len(self._until) >= self._count_max or now_s - self._swept_s > WINDOW_S:
            self._sweep(now_s)
        if len(self._until) >= self._count_max:
            raise TooManyRequests(
                f"{self._count_max} signed requests within {2 * WINDOW_S} s; try again in a minute"
            )
        self._until[nonce] = until_s

    def __len__(self) -> int:
        return len(self._until)

    def _sweep(self, now_s: int) -> None:
        if now_s == self._swept_s:
            return  # once a second at most, however many come
        self._swept_s = now_s
        for nonce in [one for one, until_s in self._until.items() if until_s < now_s]:
            del self._until[nonce]


def operation_header(item: Item) -> str:
    """Return the `Hansa-Operation` header of a signed operation; its body travels as JSON."""
    return to_header(encode([item.signed.content, item.signed.signature]))


def read_operation(header: str | None) -> Signed:
    """Return the signed operation in a `Hansa-Operation` header; nothing of it is checked yet.

    Raises:
        Unsigned: there is none, or it cannot be read.
    """
    if not header:
        raise Unsigned(
            f"a write carries the creator's signed operation in the {OPERATION_HEADER} header; "
            "the node signs nothing for anybody"
        )
    try:
        parts = decode(from_header(header), bytes_max=HEADER_BYTES_MAX)
        if len(parts) != 2:
            raise MalformedBytes("it is an array of 2")
        return Signed(
            field(parts[0], bytes, "operation content"),
            fixed_bytes(parts[1], 64, "operation signature"),
        )
    except RemoteFault as error:
        raise Unsigned(f"the {OPERATION_HEADER} header cannot be read: {error}") from error


def account_header(genesis: Item) -> str:
    """Return the `Hansa-Account` header that introduces a creator's account."""
    return to_header(genesis.raw)


def read_account(header: str) -> Item:
    """Return the genesis in a `Hansa-Account` header; nothing of it is checked yet.

    Raises:
        Unsigned: it cannot be read.
    """
    try:
        return unpack_item(from_header(header))
    except RemoteFault as error:
        raise Unsigned(f"the {ACCOUNT_HEADER} header cannot be read: {error}") from error


def to_header(raw: bytes) -> str:
    """Return bytes as unpadded base64url text."""
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def from_header(text: str, *, characters_max: int = HEADER_BYTES_MAX) -> bytes:
    """Return the bytes of base64url text, padded or not.

    Raises:
        MalformedBytes: it is not base64url, or too long.
    """
    if len(text) > characters_max:
        raise MalformedBytes(f"{len(text)} characters; at most {characters_max}")
    try:
        bare = text.rstrip("=")
        return base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedBytes("it is not base64url") from error


def _content(facts: RequestFacts, signer: RequestSigner) -> bytes:
    return encode([
        REQUEST_DOMAIN, VERSION, facts.network, facts.node, facts.method, facts.path, facts.query,
        sha3(facts.body), sha3(facts.operation), signer.account, signer.key, signer.time_s,
        signer.nonce,
    ])  # fmt: skip


def _parse(text: str) -> tuple[RequestSigner, bytes]:
    try:
        parts = decode(from_header(text.strip()), bytes_max=HEADER_BYTES_MAX)
        if len(parts) != 5:
            raise MalformedBytes("it is an array of 5")
        signer = RequestSigner(
            AccountId(fixed_bytes(parts[0], 32, "account")),
            PublicKey(fixed_bytes(parts[1], 32, "key")),
            natural(parts[2], "time"),
            fixed_bytes(parts[3], NONCE_BYTES, "nonce"),
        )
        return signer, fixed_bytes(parts[4], 64, "signature")
    except RemoteFault as error:
        raise Unsigned(f"the {AUTHORIZATION} header cannot be read: {error}") from error
