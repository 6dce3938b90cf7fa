"""Frames between the node and its child: golden bytes, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import MalformedBytes, encode
from node.network import wire

DIAL = bytes.fromhex(
    "0000000a"  # 10 bytes follow
    "94"  # array of 4
    "00"  # version 0
    "a46469616c"  # "dial"
    "07"  # call 7
    "a178"  # "x"
)


def test_a_frame_has_these_bytes() -> None:
    assert wire.pack("dial", 7, "x") == DIAL
    assert wire.length_of(DIAL[:4]) == 10
    assert wire.unpack(DIAL[4:]) == ("dial", 7, "x")


@pytest.mark.parametrize("header", [b"", b"\0\0\0\0", b"\0\0\0", b"\xff\xff\xff\xff"])
def test_a_length_out_of_bounds_is_refused(header: bytes) -> None:
    with pytest.raises(MalformedBytes):
        wire.length_of(header)


@pytest.mark.parametrize(
    "frame",
    [
        [],
        [0],
        [1, "stop"],
        [0, "unknown"],
        [0, "stop", 1],
        [0, "dial", "7", "x"],
        [0, "dial", True, "x"],
        [0, "ready", "peer", "not an array"],
        [0, 5],
    ],
)
def test_another_shape_is_refused(frame: list[object]) -> None:
    with pytest.raises(MalformedBytes):
        wire.unpack(encode(frame))  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_a_frame(raw: bytes) -> None:
    try:
        frame = wire.unpack(raw)
    except MalformedBytes:
        return
    assert frame[0] in wire.SHAPES
