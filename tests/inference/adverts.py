"""Makers of adverts and offers for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crdt import (
    AccountId,
    ManifestDigest,
    OperationId,
    PeerId,
    RecordId,
    SigningKey,
    network_id,
    peer_id_of,
)
from inference import Endpoint, NodeAdvert, Offer, Task, check_advert, sign_advert

NETWORK = network_id("test")
NOW_S = 1_700_000_000
RECORD = RecordId(b"\x01" * 32)
BUILD = ManifestDigest(b"\x03" * 32)
OFFER = Offer(
    record=RECORD,
    version=OperationId(b"\x02" * 32),
    manifest=BUILD,
    served_name="anna/tiny",
    engine="vllm",
    device="cpu",
    quantization="BF16",
    context=1024,
    price_input=100,
    price_output=200,
    price_cached=50,
    region="eu",
    running=1,
    waiting=0,
    slots=16,
    tokens_per_s_milli=50_000,
    ttft_ms=40,
    tasks=Task.CHAT | Task.COMPLETIONS,
)


def key_of(seed: int) -> SigningKey:
    return SigningKey(seed.to_bytes(32, "big"))


def peer_of(seed: int) -> PeerId:
    return peer_id_of(key_of(seed).public)


def an_offer(**changes: Any) -> Offer:
    return replace(OFFER, **changes)


def raw_advert(seed: int = 1, *, at_ms: int = NOW_S * 1000, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "endpoints": (Endpoint("127.0.0.1", 8421, b"\x07" * 32),),
        "builds": (BUILD,),
        "offers": (OFFER,),
    }
    advert = NodeAdvert(peer_of(seed), AccountId(b"\x09" * 32), at_ms, **(fields | changes))
    return sign_advert(advert, NETWORK, key_of(seed))


def an_advert(seed: int = 1, *, at_ms: int = NOW_S * 1000, **changes: Any) -> NodeAdvert:
    raw = raw_advert(seed, at_ms=at_ms, **changes)
    return check_advert(raw, NETWORK, at_ms / 1000)
