"""Yjs updates, byte by byte: what no honest editor would send."""

from __future__ import annotations

from pycrdt import write_message, write_var_uint

Id = tuple[int, int]


def insert_text(
    client: int, clock: int, text: str, *, left: Id | None = None, right: Id | None = None
) -> bytes:
    """One client's block with one string."""
    return _block(client, clock, 4, write_message(text.encode()), left, right)


def embed(client: int, clock: int, value: str) -> bytes:
    """One client's block with one embedded value, given as JSON."""
    return _block(client, clock, 5, write_message(value.encode()), None, None)


def update(*blocks: bytes) -> bytes:
    """An update of these blocks that deletes nothing."""
    return write_var_uint(len(blocks)) + b"".join(blocks) + b"\x00"


def _block(client, clock, kind, content, left, right) -> bytes:
    info = kind | (0x80 if left else 0) | (0x40 if right else 0)
    parent = b"" if left or right else b"\x01" + write_message(b"text")
    ids = [write_var_uint(part) for one in (left, right) if one for part in one]
    head = write_var_uint(1) + write_var_uint(client) + write_var_uint(clock)
    return head + bytes([info]) + b"".join(ids) + parent + content
