"""Golden bytes of asking to be dialled back, and decoders fed garbage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes, NetworkId, RemoteFault, WrongNetwork, encode
from node.network.reach import (
    Reached,
    decode_reach,
    decode_reached,
    encode_reach,
    encode_reached,
)
from tests.wire.hexdump import hexdump

NETWORK = NetworkId(bytes(range(32)))
NETWORK_BYTES = """
    c4 20 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15  # network id
    16 17 18 19 1a 1b 1c 1d 1e 1f
"""
REQUEST = hexdump(f"""
    94  # array of 4
    a6 72 65 61 63 68 3f  # "reach?"
    00  # version 0
    {NETWORK_BYTES}
    cd 0f a1  # port 4001
""")
ANSWER = hexdump(f"""
    94  # array of 4
    a7 72 65 61 63 68 65 64  # "reached"
    00  # version 0
    {NETWORK_BYTES}
    01  # no
""")


def test_the_frames_are_these_bytes() -> None:
    assert encode_reach(NETWORK, 4001) == REQUEST
    assert decode_reach(REQUEST, NETWORK) == 4001
    assert encode_reached(NETWORK, Reached.NO) == ANSWER
    assert decode_reached(ANSWER, NETWORK) is Reached.NO


@pytest.mark.parametrize("port", [0, 65536, -1, "4001", True, b"\x0f"])
def test_what_is_no_port_is_refused(port: object) -> None:
    with pytest.raises(MalformedBytes):
        decode_reach(encode(["reach?", 0, NETWORK, port]), NETWORK)  # type: ignore[list-item]


def test_another_outcome_version_tag_or_network_is_refused() -> None:
    for parts in (
        ["reached", 0, NETWORK, 3], ["reached", 1, NETWORK, 0], ["reach?", 0, NETWORK, 0],
        ["reached", 0, NETWORK], ["reached", 0, NETWORK, 0, 0],
    ):  # fmt: skip
        with pytest.raises(MalformedBytes):
            decode_reached(encode(parts), NETWORK)  # type: ignore[arg-type]
    with pytest.raises(WrongNetwork):
        decode_reach(REQUEST, NetworkId(bytes(32)))


@pytest.mark.parametrize("decoder", [decode_reach, decode_reached])
@given(raw=st.binary(max_size=200))
def test_garbage_is_refused(decoder: Callable[[bytes, NetworkId], object], raw: bytes) -> None:
    with pytest.raises(RemoteFault):
        decoder(raw, NETWORK)
