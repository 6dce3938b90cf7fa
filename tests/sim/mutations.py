"""Lies in every field: valid bytes taken apart, one value changed, and put together again."""

from __future__ import annotations

import random
from typing import Any

import msgpack  # noqa: TID251 - to write what `crdt.wire` never would

from crdt import encode, sha3

ITEM_CONTENT, ITEM_SIGNATURE = 2, 3
RECEIPT = 3


def mutated_item(raw: bytes, rng: random.Random) -> bytes:
    """Return an item that nobody signed: one field of its envelope or of its content is another.

    Its id may be the same or not; the signature is not over what it says, or the spelling is not
    the one.
    """
    fields = opened(raw)
    assert fields[1] != RECEIPT, "the simulator's receipts are not signed"
    place = rng.choice((0, 1, ITEM_CONTENT, ITEM_CONTENT, ITEM_CONTENT, ITEM_SIGNATURE, 4))
    if place == ITEM_CONTENT:
        content = opened(fields[ITEM_CONTENT])
        inner = rng.randrange(len(content))
        content[inner] = other_value(content[inner], rng)
        fields[ITEM_CONTENT] = spelt(content, rng)
    elif place == 1:
        fields[1] = rng.choice([kind for kind in (0, 1, 2, 4, True) if kind != fields[1]])
    else:
        fields[place] = other_value(fields[place], rng)
    found = spelt(fields, rng)
    return found if found != raw else raw[:-1] + bytes([raw[-1] ^ 1])


def mutated_frame(raw: bytes, rng: random.Random) -> bytes:
    """Return a frame with another value in one field, or with one of its items mutated."""
    try:
        fields = opened(raw)
    except (ValueError, TypeError):
        return raw
    if rng.random() < 0.6:
        lists = [one for one in fields if _holds_items(one)]
        if lists:
            items = rng.choice(lists)
            place = rng.randrange(len(items))
            items[place] = _mutated_element(items[place], rng)
            return encode(fields)
    place = rng.randrange(len(fields))
    fields[place] = other_value(fields[place], rng)
    return spelt(fields, rng)


def other_value(value: Any, rng: random.Random) -> Any:
    """Return a value that is not this one: near it, of another type, or at a bound."""
    match value:
        case bool():
            return rng.choice((not value, int(value), None))
        case int():
            return rng.choice((value + 1, value - 1, -1, 2**31, 2**63 - 1, 2**64 - 1, None,
                               str(value), float(value)))  # fmt: skip
        case bytes():
            return _other_bytes(value, rng)
        case str():
            return rng.choice((value + "x", value[:-1], value.upper(), value.encode(), "", None))
        case list():
            return _other_list(value, rng)
        case _:
            return rng.choice((0, b"", "", []))


def spelt(fields: list[Any], rng: random.Random) -> bytes:
    """Return the canonical bytes of an array, or now and then other bytes that mean the same."""
    raw: bytes = msgpack.packb(fields)
    if rng.random() < 0.9 or len(fields) > 15:
        return raw
    return b"\xdc\x00" + bytes([len(fields)]) + raw[1:]


def opened(raw: bytes) -> list[Any]:
    """Return the fields in an array of ours."""
    fields: list[Any] = msgpack.unpackb(raw, strict_map_key=False)
    if not isinstance(fields, list):
        raise TypeError("not an array")
    return fields


def _other_bytes(value: bytes, rng: random.Random) -> Any:
    if not value:
        return rng.choice((b"\0", None, "", sha3(b"")))
    place = rng.randrange(len(value))
    flipped = value[:place] + bytes([value[place] ^ (1 << rng.randrange(8))]) + value[place + 1 :]
    return rng.choice((flipped, flipped, value[:-1], value + b"\0", b"", bytes(len(value)), None))


def _other_list(value: list[Any], rng: random.Random) -> Any:
    options: list[Any] = [None, b"", [*value, sha3(b"more")], [*value, None], [value]]
    if value:
        options += [value[:-1], value[1:], [*value, value[0]]]
        place = rng.randrange(len(value))
        options.append([*value[:place], other_value(value[place], rng), *value[place + 1 :]])
    return rng.choice(options)


def _mutated_element(raw: bytes, rng: random.Random) -> bytes:
    """Return an item of another value, a receipt as it is, and of anything else other bytes."""
    try:
        kind = opened(raw)[1]
    except (ValueError, TypeError, IndexError):
        return bytes(raw[:-1]) + bytes([raw[-1] ^ 1 << rng.randrange(8)])
    return raw if kind == RECEIPT else mutated_item(raw, rng)


def _holds_items(value: Any) -> bool:
    """Whether this is a frame's list of items, or of parts as long as those, and not of ids."""
    return isinstance(value, list) and bool(value) and all(
        isinstance(one, bytes) and len(one) > 64 for one in value
    )  # fmt: skip
