"""Frames between the node and its network child: u32 big-endian length, then one canonical array.

The child parses hostile bytes, so what it says is checked like a stranger's. Each kind of frame
is one row of `SHAPES`; docs/wire.md explains them.
"""

from __future__ import annotations

from crdt import MalformedBytes, array, decode, encode, field
from crdt.wire import Value

VERSION = 0
FRAME_BYTES_MAX = 1024 * 1024 + 64 * 1024
"""The largest request (1 MiB) with its envelope."""
HEADER_BYTES = 4

SHAPES: dict[str, tuple[type, ...]] = {
    # To the child. The number that follows the name ties a `done` to what it answers.
    "start": (bytes, bytes, tuple, tuple, *(int,) * 5, tuple, *(int,) * 3, *(tuple,) * 3, bool),
    "publish": (int, str, bytes),
    "request": (int, str, str, bytes, int, int),
    "cancel": (int,),
    "answer": (int, bool, bytes),
    "dial": (int, str),
    "probe": (int, str),
    "drop": (str, str, int),
    "stop": (),
    # From the child.
    "ready": (str, tuple),
    "failed": (str, str),
    "connected": (str, str, bool),
    "lost": (str,),
    "identified": (str, str, tuple, str),
    "circuits": (tuple,),
    "rtt": (str, int),
    "gossip": (str, str, str, bytes),
    "ask": (int, str, str, bytes),
    "done": (int, str, str, bytes),
    "log": (str, str, tuple),
}


def pack(kind: str, *fields: Value) -> bytes:
    """Return one frame with its length in front."""
    assert len(fields) == len(SHAPES[kind]), kind
    raw = encode([VERSION, kind, *fields])
    assert len(raw) <= FRAME_BYTES_MAX, f"a {kind} frame of {len(raw)} bytes"
    return len(raw).to_bytes(HEADER_BYTES, "big") + raw


def length_of(header: bytes) -> int:
    """Return the length that a frame's first bytes announce.

    Raises:
        MalformedBytes: it is over the bound.
    """
    length = int.from_bytes(header, "big")
    if len(header) != HEADER_BYTES or not 0 < length <= FRAME_BYTES_MAX:
        raise MalformedBytes(f"a frame of {length} bytes; at most {FRAME_BYTES_MAX} are allowed")
    return length


def unpack(raw: bytes) -> tuple[object, ...]:
    """Return a frame's kind and its fields, each of the type that `SHAPES` states.

    Raises:
        MalformedBytes: another version, an unknown kind, or a field of another type.
    """
    parts = decode(raw, bytes_max=FRAME_BYTES_MAX)
    if len(parts) < 2 or field(parts[0], int, "version") != VERSION:
        raise MalformedBytes("not a frame of the version the network child speaks")
    kind = field(parts[1], str, "frame kind")
    shape = SHAPES.get(kind)
    if shape is None or len(parts) != len(shape) + 2:
        raise MalformedBytes(f"a {kind[:20]!r} frame of {len(parts)} fields")
    for value, expected in zip(parts[2:], shape, strict=True):
        if expected is tuple:
            array(value, kind)
        else:
            field(value, expected, kind)
    return parts[1:]
