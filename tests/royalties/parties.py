"""Accounts, lanes and calls for tests of money; everything is derived from small numbers."""

from __future__ import annotations

from dataclasses import dataclass

from crdt import (
    AccountId,
    Item,
    ManifestDigest,
    OperationId,
    RecordId,
    SigningKey,
    make_genesis,
    network_id,
    sha3,
)
from royalties import Call, Lane, Order, Prices, Ticket, Tokens

NETWORK = network_id("test")
EPOCH = 20_000
NOON_S = EPOCH * 86_400 + 43_200


@dataclass(frozen=True)
class Party:
    key: SigningKey
    genesis: Item

    @property
    def id(self) -> AccountId:
        return AccountId(self.genesis.id)


def party(number: int) -> Party:
    key = SigningKey(sha3(b"party %d" % number))
    return Party(key, make_genesis(NETWORK, key, SigningKey(sha3(b"recovery %d" % number)).public))


CONSUMER, PROVIDER, CREATOR, STRANGER = (party(n) for n in range(4))
PRICES = Prices(input_price=100_000, cached_price=10_000, output_price=400_000)


def lane(
    *,
    record: bytes = sha3(b"record"),
    version: bytes = sha3(b"version"),
    prices: Prices = PRICES,
    epoch: int = EPOCH,
    consumer: Party = CONSUMER,
    provider: Party = PROVIDER,
) -> Lane:
    return Lane(
        NETWORK, consumer.id, provider.id, RecordId(record), OperationId(version),
        ManifestDigest(sha3(b"manifest")), prices, epoch,
    )  # fmt: skip


def order(**changes: object) -> Order:
    fields: dict[str, object] = {
        "network": NETWORK,
        "consumer": CONSUMER.id,
        "provider": PROVIDER.id,
        "record": RecordId(sha3(b"record")),
        "version": OperationId(sha3(b"version")),
        "manifest": ManifestDigest(sha3(b"manifest")),
        "prices": PRICES,
        "cap_picos": 10**12,
        "issued_s": NOON_S,
        "expires_s": NOON_S + 3600,
        "nonce": bytes(16),
    }
    return Order(**{**fields, **changes})  # type: ignore[arg-type]


def ticket(order_hash: bytes, body: bytes, **changes: object) -> Ticket:
    fields: dict[str, object] = {
        "network": NETWORK,
        "order": order_hash,
        "server": PROVIDER.key.public,
        "path": "/peer/v1/openai/completions",
        "body_hash": sha3(body),
        "time_s": NOON_S,
        "nonce": bytes(16),
    }
    return Ticket(**{**fields, **changes})  # type: ignore[arg-type]


def call(
    number: int, *, output: int = 20, finish: str = "complete", response: bytes = b"response"
) -> Call:
    return Call(
        nonce=number.to_bytes(16, "big"),
        order=sha3(b"order"),
        request_hash=sha3(b"request %d" % number),
        response_hash=sha3(response),
        tokens=Tokens(input_count=10, cached_count=2, output_count=output),
        finish=finish,
        first_token_ms=5,
        duration_ms=50,
    )
