"""Adverts: what a node says of itself for the next minute, and the book of what others said.

One advert a node: how to reach it, which builds it holds, what it serves, at which price and under
which load. It is signed by the node key, carries its time as a sequence number, and expires. It is
never history, and nothing stale comes back: a lower sequence never replaces a higher one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntFlag
from ipaddress import ip_address
from typing import Any

from crdt import (
    AccountId,
    MalformedBytes,
    ManifestDigest,
    NetworkId,
    OperationId,
    PeerId,
    PublicKey,
    RecordId,
    Signed,
    SigningKey,
    WrongNetwork,
    array,
    decode,
    encode,
    fixed_bytes,
    natural,
    peer_id_of,
    public_key_of,
    seal,
    verify,
)
from crdt import field as typed
from inference.errors import AdvertFault, AdvertStale

DOMAIN = "hansa/advert"
VERSION = 0
LIFETIME_S = 60
"""How long an advert is believed: four refreshes, so three lost ones do no harm. The same for all,
so that of two adverts of a node the older one always expires first and can never outlive it."""
REFRESH_S = 15
SKEW_S = 30
"""How far a peer's clock may run ahead of ours."""
ADVERT_BYTES_MAX = 60 * 1024
"""Under the 64 KiB that gossipsub passes on safely (node/network/guards.py)."""
BUILD_COUNT_MAX = 512
OFFER_COUNT_MAX = 64
ENDPOINT_COUNT_MAX = 8
TEXT_BYTES_MAX = 64
HOST_BYTES_MAX = 253
PRICE_MAX = 10**12
"""Micro-USD per million tokens: a million dollars. Above it somebody's unit is wrong."""
LOAD_MAX = 1_000_000
BOOK_PEER_COUNT_MAX = 4096


class Task(IntFlag):
    """What can be asked of an offer; one bit each, so a set of tasks is one small integer."""

    CHAT = 1
    COMPLETIONS = 2
    EMBEDDINGS = 4


TASKS_ALL = int(Task.CHAT | Task.COMPLETIONS | Task.EMBEDDINGS)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node's peer HTTPS port is, and the SHA-256 of the certificate it shows there."""

    host: str
    port: int
    certificate_sha256: bytes


@dataclass(frozen=True, slots=True)
class Offer:
    """One model a node serves now. Prices are integer micro-USD per million tokens.

    Attributes:
        version: The record version (operation id) that is served.
        served_name: The name the provider's engine knows the model by.
        device: `cpu`, or a GPU's name.
        context: Tokens of prompt and answer together.
        slots: Sequences the engine runs at once.
        tokens_per_s_milli: Measured decode speed of one stream, in thousandths; 0 is unknown.
        ttft_ms: Measured time to first token without a queue; 0 is unknown.
    """

    record: RecordId
    version: OperationId
    manifest: ManifestDigest
    served_name: str
    engine: str
    device: str
    quantization: str
    context: int
    price_input: int
    price_output: int
    price_cached: int
    region: str
    running: int
    waiting: int
    slots: int
    tokens_per_s_milli: int
    ttft_ms: int
    tasks: Task

    def cost_picos(self, *, input_tokens: int, output_tokens: int) -> int:
        """Return what so many tokens cost here, in pico-USD (tokens x micro-USD per million)."""
        return input_tokens * self.price_input + output_tokens * self.price_output


@dataclass(frozen=True, slots=True)
class NodeAdvert:
    """All that one node says of itself until `expires_s`.

    Attributes:
        operator: The account it earns and pays under; its genesis is in the replicated log.
        sequence_ms: The unix time of issue in milliseconds, which orders a node's adverts.
        builds: Manifests of the whole builds it holds and will send.
    """

    peer: PeerId
    operator: AccountId
    sequence_ms: int
    endpoints: tuple[Endpoint, ...] = ()
    builds: tuple[ManifestDigest, ...] = ()
    offers: tuple[Offer, ...] = ()
    raw: bytes = field(default=b"", repr=False, compare=False)
    """The signed bytes it came in; empty before it is signed."""

    @property
    def issued_s(self) -> int:
        """Unix seconds of issue."""
        return self.sequence_ms // 1000

    @property
    def expires_s(self) -> int:
        """Unix seconds from which nobody believes it any more."""
        return self.issued_s + LIFETIME_S


def sign_advert(advert: NodeAdvert, network: NetworkId, key: SigningKey) -> bytes:
    """Return the bytes to gossip: the advert's content and the node key's signature over it."""
    public = public_key_of(advert.peer)
    assert key.public == public, "an advert is signed by the key of the node it describes"
    content = encode(
        [
            DOMAIN,
            VERSION,
            network,
            public,
            advert.operator,
            advert.sequence_ms,
            [[e.host, e.port, e.certificate_sha256] for e in advert.endpoints],
            list(advert.builds),
            [_offer_fields(offer) for offer in advert.offers],
        ]
    )
    signed = seal(content, key)
    raw = encode([signed.content, signed.signature])
    assert len(raw) <= ADVERT_BYTES_MAX, f"an advert of {len(raw)} bytes; publish fewer builds"
    return raw


def check_advert(raw: bytes, network: NetworkId, now_s: float) -> NodeAdvert:
    """Return the advert in `raw` after every check that needs no other advert.

    Raises:
        AdvertStale: it is out of its time here, or of a later version: ignore it, its sender may
            be honest.
        RemoteFault: malformed, over a bound, wrongly signed or for another network.
    """
    advert, signed, public = _parsed(raw, network)
    _check_time(advert, now_s)
    verify(signed, public)  # last: the dearest check
    return advert


def read_clock(raw: bytes, network: NetworkId) -> tuple[PeerId, int]:
    """Return who signed an advert, and when by its own clock in unix ms, however far off that is.

    Raises:
        AdvertStale: it is of a later version.
        RemoteFault: as for `check_advert`.
    """
    advert, signed, public = _parsed(raw, network)
    verify(signed, public)
    return advert.peer, advert.sequence_ms


@dataclass(frozen=True, slots=True)
class Offered:
    """An offer together with the advert it stands in."""

    advert: NodeAdvert
    offer: Offer


class AdvertBook:
    """The newest live advert of every peer, indexed by record and by build. Bounded."""

    def __init__(self, peer_count_max: int = BOOK_PEER_COUNT_MAX) -> None:
        self._peer_count_max = peer_count_max
        self._adverts: dict[PeerId, NodeAdvert] = {}
        self._known: set[PeerId] = set()
        self._by_record: dict[RecordId, dict[PeerId, Offered]] = {}
        self._by_build: dict[ManifestDigest, dict[PeerId, NodeAdvert]] = {}

    def __len__(self) -> int:
        return len(self._adverts)

    def accept(self, advert: NodeAdvert, now_s: float, *, preferred: bool = False) -> bool:
        """Keep a checked advert; whether it says something new.

        An advert is superseded only by a higher sequence. A full book refuses strangers; a
        `preferred` peer (one we are connected to) takes the place of a stranger, so that a flood
        of made-up nodes cannot push out those we can reach.

        Raises:
            AdvertStale: it is expired, or the book holds a newer one of the same peer.
            AdvertFault: two different adverts share one sequence number.
        """
        _check_time(advert, now_s)
        held = self._adverts.get(advert.peer)
        if held is not None:
            if held.raw == advert.raw:
                return False
            if held.sequence_ms > advert.sequence_ms:
                raise AdvertStale(f"an advert of {advert.peer} older than the one held")
            if held.sequence_ms == advert.sequence_ms:
                raise AdvertFault(f"{advert.peer} signed two adverts numbered {held.sequence_ms}")
        elif len(self._adverts) >= self._peer_count_max and not self._make_room(now_s, preferred):
            raise AdvertStale(f"the book is full with {self._peer_count_max} live peers")
        if held is not None:
            self._unindex(held)
        self._adverts[advert.peer] = advert
        if preferred:
            self._known.add(advert.peer)
        self._index(advert)
        return True

    def forget(self, peer: PeerId) -> bool:
        """Drop what a peer offers and holds, because it was seen to be gone.

        Its sequence stays known until the advert would have expired, so a copy that still travels
        does not bring it back; only the peer itself can, with a newer one. Whether that dropped
        anything.
        """
        held = self._adverts.get(peer)
        if held is None or not (held.offers or held.builds):
            return False
        self._unindex(held)
        # Same raw: the same gossip arriving again is then recognised as known, not as a fork.
        self._adverts[peer] = NodeAdvert(held.peer, held.operator, held.sequence_ms, raw=held.raw)
        return True

    def expire(self, now_s: float) -> list[PeerId]:
        """Drop every advert whose time is over; return whose they were, sorted.

        An older advert of the same peer cannot come back afterwards: it has expired before.
        """
        gone = sorted(peer for peer, held in self._adverts.items() if held.expires_s <= now_s)
        for peer in gone:
            self._unindex(self._adverts.pop(peer))
            self._known.discard(peer)
        return gone

    def get(self, peer: PeerId) -> NodeAdvert | None:
        """Return the peer's live advert."""
        return self._adverts.get(peer)

    def adverts(self) -> list[NodeAdvert]:
        """Return every advert, by peer id."""
        return [self._adverts[peer] for peer in sorted(self._adverts)]

    def offers(self, record: RecordId | None = None) -> list[Offered]:
        """Return the offers of one record, or of all."""
        if record is not None:
            return list(self._by_record.get(record, {}).values())
        return [offered for table in self._by_record.values() for offered in table.values()]

    def records(self) -> set[RecordId]:
        """Return the records that somebody offers."""
        return set(self._by_record)

    def holders(self, digest: ManifestDigest) -> list[NodeAdvert]:
        """Return the adverts of the peers that hold a build, by peer id."""
        held = self._by_build.get(digest, {})
        return [held[peer] for peer in sorted(held)]

    def _make_room(self, now_s: float, preferred: bool) -> bool:
        if self.expire(now_s):
            return True
        if not preferred:
            return False
        strangers = (held for peer, held in self._adverts.items() if peer not in self._known)
        victim = min(strangers, key=lambda held: held.expires_s, default=None)
        if victim is None:
            return False
        self._unindex(self._adverts.pop(victim.peer))
        return True

    def _index(self, advert: NodeAdvert) -> None:
        for offer in advert.offers:
            self._by_record.setdefault(offer.record, {})[advert.peer] = Offered(advert, offer)
        for digest in advert.builds:
            self._by_build.setdefault(digest, {})[advert.peer] = advert

    def _unindex(self, advert: NodeAdvert) -> None:
        for offer in advert.offers:
            _drop(self._by_record, offer.record, advert.peer)
        for digest in advert.builds:
            _drop(self._by_build, digest, advert.peer)


def _drop(table: dict[Any, dict[PeerId, Any]], key: bytes, peer: PeerId) -> None:
    row = table[key]
    del row[peer]
    if not row:
        del table[key]


def _parsed(raw: bytes, network: NetworkId) -> tuple[NodeAdvert, Signed, PublicKey]:
    """Return an advert whose time and signature are still to be judged, by whom it must be."""
    outer = decode(raw, bytes_max=ADVERT_BYTES_MAX)
    if len(outer) != 2:
        raise MalformedBytes(f"an advert is content and signature, not {len(outer)} fields")
    signed = Signed(
        typed(outer[0], bytes, "advert content"), fixed_bytes(outer[1], 64, "signature")
    )
    parts = decode(signed.content, bytes_max=ADVERT_BYTES_MAX)
    if len(parts) < 2 or parts[0] != DOMAIN:
        raise MalformedBytes(f"an advert starts with {DOMAIN!r}")
    if natural(parts[1], "version") > VERSION:
        raise AdvertStale(f"an advert of version {parts[1]}; we speak {VERSION}")
    if len(parts) != 9:
        raise MalformedBytes(f"an advert is 9 fields that start with {DOMAIN!r}, {VERSION}")
    if fixed_bytes(parts[2], 32, "network id") != network:
        raise WrongNetwork("the advert was signed for another network")
    public = PublicKey(fixed_bytes(parts[3], 32, "node key"))
    advert = NodeAdvert(
        peer=peer_id_of(public),
        operator=AccountId(fixed_bytes(parts[4], 32, "operator account")),
        sequence_ms=natural(parts[5], "sequence"),
        endpoints=_endpoints(parts[6]),
        builds=_builds(parts[7]),
        offers=_offers(parts[8]),
        raw=raw,
    )
    return advert, signed, public


def _check_time(advert: NodeAdvert, now_s: float) -> None:
    if advert.expires_s <= now_s:
        raise AdvertStale(f"advert of {advert.peer} expired {now_s - advert.expires_s:.0f} s ago")
    if advert.issued_s > now_s + SKEW_S:
        ahead_s = advert.issued_s - now_s
        raise AdvertStale(f"advert of {advert.peer} is {ahead_s:.0f} s in the future")


def _offer_fields(offer: Offer) -> list[Any]:
    return [
        offer.record,
        offer.version,
        offer.manifest,
        offer.served_name,
        offer.engine,
        offer.device,
        offer.quantization,
        offer.context,
        offer.price_input,
        offer.price_output,
        offer.price_cached,
        offer.region,
        offer.running,
        offer.waiting,
        offer.slots,
        offer.tokens_per_s_milli,
        offer.ttft_ms,
        int(offer.tasks),
    ]


def _offers(value: object) -> tuple[Offer, ...]:
    rows = _bounded(value, "offers", OFFER_COUNT_MAX)
    offers = tuple(_offer(row) for row in rows)
    if len({offer.record for offer in offers}) != len(offers):
        raise MalformedBytes("an advert offers one record twice")
    return offers


def _offer(value: object) -> Offer:
    row = array(value, "offer")
    if len(row) != 18:
        raise MalformedBytes(f"an offer of {len(row)} fields; it has 18")
    tasks = natural(row[17], "tasks", maximum=TASKS_ALL)
    if not tasks:
        raise MalformedBytes("an offer that can do no task")
    return Offer(
        record=RecordId(fixed_bytes(row[0], 32, "record id")),
        version=OperationId(fixed_bytes(row[1], 32, "record version")),
        manifest=ManifestDigest(fixed_bytes(row[2], 32, "manifest digest")),
        served_name=_text(row[3], "served name", bytes_max=HOST_BYTES_MAX, empty=False),
        engine=_text(row[4], "engine", empty=False),
        device=_text(row[5], "device", empty=False),
        quantization=_text(row[6], "quantization"),
        context=natural(row[7], "context", maximum=2**32 - 1),
        price_input=natural(row[8], "input price", maximum=PRICE_MAX),
        price_output=natural(row[9], "output price", maximum=PRICE_MAX),
        price_cached=natural(row[10], "cached input price", maximum=PRICE_MAX),
        region=_text(row[11], "region"),
        running=natural(row[12], "running", maximum=LOAD_MAX),
        waiting=natural(row[13], "waiting", maximum=LOAD_MAX),
        slots=max(1, natural(row[14], "slots", maximum=LOAD_MAX)),
        tokens_per_s_milli=natural(row[15], "tokens per second", maximum=10**9),
        ttft_ms=natural(row[16], "time to first token", maximum=10**7),
        tasks=Task(tasks),
    )


def _endpoints(value: object) -> tuple[Endpoint, ...]:
    found: list[Endpoint] = []
    for item in _bounded(value, "endpoints", ENDPOINT_COUNT_MAX):
        row = array(item, "endpoint")
        if len(row) != 3:
            raise MalformedBytes(f"an endpoint of {len(row)} fields; it has 3")
        host = _text(row[0], "endpoint host", bytes_max=HOST_BYTES_MAX, empty=False)
        if not _is_host(host):
            raise MalformedBytes(f"endpoint host {host[:60]!r} is neither a name nor an address")
        port = natural(row[1], "endpoint port", maximum=65535)
        if not port:
            raise MalformedBytes("endpoint port 0")
        found.append(Endpoint(host, port, fixed_bytes(row[2], 32, "certificate digest")))
    return tuple(found)


def _builds(value: object) -> tuple[ManifestDigest, ...]:
    rows = _bounded(value, "builds", BUILD_COUNT_MAX)
    builds = tuple(ManifestDigest(fixed_bytes(row, 32, "manifest digest")) for row in rows)
    if len(set(builds)) != len(builds):
        raise MalformedBytes("an advert lists one build twice")
    return builds


def _bounded(value: object, what: str, count_max: int) -> Iterator[Any]:
    rows = array(value, what)
    if len(rows) > count_max:
        raise MalformedBytes(f"{len(rows)} {what}; at most {count_max}")
    return iter(rows)


def _text(value: object, what: str, *, bytes_max: int = TEXT_BYTES_MAX, empty: bool = True) -> str:
    text = typed(value, str, what)
    if len(text.encode()) > bytes_max:
        raise MalformedBytes(f"{what} of {len(text)} characters; at most {bytes_max} bytes")
    if not text and not empty:
        raise MalformedBytes(f"{what} is empty")
    if not text.isprintable():
        raise MalformedBytes(f"{what} holds characters that cannot be shown")
    return text


def _is_host(host: str) -> bool:
    """Whether a URL and a resolver can be given this: others raise where nobody looks for it."""
    try:
        ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None
    return True


_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
