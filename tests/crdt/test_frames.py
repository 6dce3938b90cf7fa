"""Hostile frames: every border of the sync protocol refuses, and never raises anything else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import (
    GOSSIP_BYTES_MAX,
    ItemId,
    RemoteFault,
    Verdict,
    check_gossip,
    encode,
    pack_item,
    sha3,
)
from crdt.frames import (
    HAVE_COUNT_MAX,
    CatchUp,
    CatchUpMode,
    Fetch,
    Ops,
    decode_caught_up,
    decode_fetched,
    decode_gossip,
    decode_request,
    encode_caught_up,
    encode_fetched,
    encode_have,
    encode_ops,
    encode_request,
    gossip_frames,
)
from crdt.framing import FETCH_COUNT_MAX
from tests.writers import NETWORK, OTHER_NETWORK, Writer

ANN = Writer("ann")
PUT = ANN.put()
OPS = encode_ops([ANN.genesis, PUT], NETWORK)
IDS = [ItemId(sha3(bytes([i]))) for i in range(3)]
GOSSIP = [OPS, encode_have(IDS, NETWORK)]
REQUESTS = [
    encode_request(Fetch(tuple(IDS)), NETWORK),
    encode_request(CatchUp(b"e" * 16, 7, CatchUpMode.IDS), NETWORK),
]
PAGE = encode_caught_up(
    network=NETWORK, epoch=b"e" * 16, next_n=2, last_n=9, done=False, raws=[PUT.raw]
)
FETCHED = encode_fetched([PUT.raw], IDS, NETWORK)
Decoder = Callable[[bytes], object]
CASES: list[tuple[Decoder, bytes]] = [
    *((lambda raw: decode_gossip(raw, NETWORK), raw) for raw in GOSSIP),
    *((lambda raw: decode_request(raw, NETWORK), raw) for raw in REQUESTS),
    (lambda raw: decode_caught_up(raw, NETWORK), PAGE),
    (lambda raw: decode_fetched(raw, NETWORK), FETCHED),
]
FORGED = pack_item(PUT.kind, type(PUT.signed)(PUT.signed.content, b"\0" * 64), PUT.body)


@pytest.mark.parametrize(("decoder", "raw"), CASES)
def test_what_we_encode_is_decoded_and_every_prefix_refused(decoder: Decoder, raw: bytes) -> None:
    decoder(raw)
    for length in range(0, len(raw), 7):
        with pytest.raises(RemoteFault):
            decoder(raw[:length])
    with pytest.raises(RemoteFault):
        decoder(raw + b"\0")


@given(st.sampled_from(CASES), st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_decoded_or_refused(
    case: tuple[Decoder, bytes], place: int, flip: int
) -> None:
    decoder, raw = case
    broken = bytearray(raw)
    broken[place % len(raw)] ^= flip
    with contextlib.suppress(RemoteFault):
        decoder(bytes(broken))


@given(st.sampled_from(CASES), st.binary(max_size=300))
def test_garbage_is_refused(case: tuple[Decoder, bytes], raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        case[0](raw)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(["ops", 0, NETWORK, []], id="no items"),
        pytest.param(["ops", 0, NETWORK, [b"x"]], id="an item that is none"),
        pytest.param(["ops", 0, NETWORK, "x"], id="text for items"),
        pytest.param(["ops", 0, NETWORK], id="no list"),
        pytest.param(["ops", 0, NETWORK, [PUT.raw], 1], id="a field too many"),
        pytest.param(["ops", False, NETWORK, [PUT.raw]], id="a bool for a version"),
        pytest.param(["ops", -1, NETWORK, [PUT.raw]], id="a negative version"),
        pytest.param(["ops", 0, b"short", [PUT.raw]], id="a short network"),
        pytest.param(["ops", 0, NETWORK, [PUT.raw, 1]], id="an integer for an item"),
        pytest.param(["have", 0, NETWORK, []], id="no ids"),
        pytest.param(["have", 0, NETWORK, [b"x" * 31]], id="a short id"),
        pytest.param(["have", 0, NETWORK, [b"x" * 32] * 2], id="an id twice"),
        pytest.param(
            ["have", 0, NETWORK, [sha3(b"%d" % i) for i in range(HAVE_COUNT_MAX + 1)]],
            id="too many ids",
        ),
        pytest.param(["gift", 0, NETWORK, []], id="an unknown tag"),
        pytest.param([7, 0, NETWORK, []], id="a tag that is a number"),
        pytest.param([], id="nothing"),
    ],
)
def test_malformed_gossip_is_rejected(fields: list[object]) -> None:
    raw = encode(fields)  # type: ignore[arg-type]
    with pytest.raises(RemoteFault):
        decode_gossip(raw, NETWORK)
    assert check_gossip(raw, NETWORK) is Verdict.REJECT


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(["fetch", 0, NETWORK, []], id="no ids"),
        pytest.param(
            ["fetch", 0, NETWORK, [sha3(b"%d" % i) for i in range(FETCH_COUNT_MAX + 1)]],
            id="too many ids",
        ),
        pytest.param(["after", 0, NETWORK, b"e", 0, 0], id="a short epoch"),
        pytest.param(["after", 0, NETWORK, b"e" * 16, -1, 0], id="a negative cursor"),
        pytest.param(["after", 0, NETWORK, b"e" * 16, 2**63, 0], id="a huge cursor"),
        pytest.param(["after", 0, NETWORK, b"e" * 16, 0, 2], id="an unknown mode"),
        pytest.param(["after", 0, OTHER_NETWORK, b"", 0, 0], id="another network"),
        pytest.param(["ops", 0, NETWORK, [PUT.raw]], id="gossip as a request"),
    ],
)
def test_malformed_requests_are_refused(fields: list[object]) -> None:
    with pytest.raises(RemoteFault):
        decode_request(encode(fields), NETWORK)  # type: ignore[arg-type]


def test_check_gossip() -> None:
    assert check_gossip(OPS, NETWORK) is Verdict.ACCEPT
    assert check_gossip(GOSSIP[1], NETWORK) is Verdict.ACCEPT
    assert check_gossip(OPS, OTHER_NETWORK) is Verdict.REJECT
    assert check_gossip(encode_ops([FORGED], NETWORK), NETWORK) is Verdict.REJECT
    assert check_gossip(b"", NETWORK) is Verdict.REJECT
    assert check_gossip(encode(["ops", 1, NETWORK, []]), NETWORK) is Verdict.IGNORE
    stranger = Writer("eve", OTHER_NETWORK)
    assert check_gossip(encode_ops([stranger.genesis], NETWORK), NETWORK) is Verdict.REJECT


def test_a_frame_over_the_bound_is_refused_before_it_is_parsed() -> None:
    raw = encode(["ops", 0, NETWORK, [b"\0" * (GOSSIP_BYTES_MAX - 20)]])
    assert len(raw) > GOSSIP_BYTES_MAX
    with pytest.raises(RemoteFault, match="bytes where at most"):
        decode_gossip(raw, NETWORK)


def test_not_canonical_is_refused() -> None:
    # The version 0 spelled as a 32-bit integer.
    raw = OPS.replace(b"\xa3ops\x00", b"\xa3ops\xce\x00\x00\x00\x00", 1)
    assert check_gossip(raw, NETWORK) is Verdict.REJECT


def test_big_items_are_announced_and_the_rest_batched() -> None:
    small = [ANN.put(b"s" * 1000, slug=f"s{i}") for i in range(100)]
    big = ANN.put(b"b" * 62_000, slug="big")
    frames = gossip_frames([*small[:50], big, *small[50:]], NETWORK)
    assert all(len(raw) <= GOSSIP_BYTES_MAX for raw in frames)
    opened = [decode_gossip(raw, NETWORK) for raw in frames]
    items = [item.id for frame in opened if isinstance(frame, Ops) for item in frame.items]
    assert items == [item.id for item in small]
    assert [frame.ids for frame in opened if not isinstance(frame, Ops)] == [(big.id,)]
