"""Values in a card: lib0's Any, in the one spelling that yrs writes too.

A number is a 32-bit float if that holds it exactly, else a 64-bit one: yrs knows no integers.
It is finite, at most 2**53 - 1 either way, and not minus zero, so as JSON it has one form. The keys
of a map are sorted by their UTF-8. There are no byte strings, no big integers, no `undefined`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from crdt.cards.varints import Reader, varuint
from crdt.errors import MalformedBytes

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

NUMBER_MAX = 2**53 - 1
VALUE_DEPTH_MAX = 16
"""Arrays and maps inside one another. yrs recurses: 26 KB of nesting overflow its stack."""
KEY_BYTES_MAX = 128
_NULL, _FALSE, _TRUE = 126, 121, 120
_FLOAT32, _FLOAT64, _STRING, _MAP, _ARRAY = 124, 123, 119, 118, 117
TRUE = bytes([_TRUE])
_BARE: dict[int, Json] = {_NULL: None, _FALSE: False, _TRUE: True}
_single = struct.Struct(">f")
_double = struct.Struct(">d")


class Budget:
    """How many structs, values and ranges an update may still have."""

    __slots__ = ("left", "total")

    def __init__(self, total: int) -> None:
        self.total = self.left = total

    def spend(self, count: int = 1) -> None:
        """Take `count`, or raise MalformedBytes."""
        self.left -= count
        if self.left < 0:
            raise MalformedBytes(f"more than {self.total} structs, values and ranges in an update")


def read_value(reader: Reader, budget: Budget, *, sorted_keys: bool = True, depth: int = 0) -> Json:
    """Return the next value.

    Args:
        sorted_keys: False for what the local engine wrote, whose maps have no order.
        depth: How many arrays and maps are around it.

    Raises:
        MalformedBytes: not one of the values above, or not in their one spelling.
    """
    budget.spend()
    tag = reader.byte()
    if tag in _BARE:
        return _BARE[tag]
    if tag == _STRING:
        return reader.text()
    if tag in (_FLOAT32, _FLOAT64):
        return _read_number(reader, tag)
    if tag not in (_ARRAY, _MAP):
        raise MalformedBytes(f"a value with the tag {tag}, which cards do not have")
    if depth >= VALUE_DEPTH_MAX:
        raise MalformedBytes(f"values nested deeper than {VALUE_DEPTH_MAX}")
    count = reader.varuint()
    if count > budget.left:
        budget.spend(count)
    if tag == _ARRAY:
        return [
            read_value(reader, budget, sorted_keys=sorted_keys, depth=depth + 1)
            for _ in range(count)
        ]
    entries: dict[str, Json] = {}
    last: bytes | None = None
    for _ in range(count):
        key = reader.text()
        raw = key.encode()
        unsorted = sorted_keys and last is not None and raw <= last
        if len(raw) > KEY_BYTES_MAX or key in entries or unsorted:
            raise MalformedBytes(
                f"the key {key[:40]!r} of {len(raw)} bytes is over {KEY_BYTES_MAX}, or unsorted"
            )
        last = raw
        entries[key] = read_value(reader, budget, sorted_keys=sorted_keys, depth=depth + 1)
    return entries


def write_value(value: Json) -> bytes:
    """Return the bytes of a value that `checked_value` passed."""
    if value is None:
        return bytes([_NULL])
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int | float):
        return _write_number(float(value))
    if isinstance(value, str):
        return bytes([_STRING]) + _write_text(value)
    if isinstance(value, Mapping):
        entries = sorted(cast("Mapping[str, Json]", value).items(), key=lambda one: one[0].encode())
        parts = [_write_text(key) + write_value(one) for key, one in entries]
        return bytes([_MAP]) + varuint(len(parts)) + b"".join(parts)
    parts = [write_value(one) for one in value]
    return bytes([_ARRAY]) + varuint(len(parts)) + b"".join(parts)


def canonical_value(value: Json) -> Json:
    """Return the same value as JSON has it: integral numbers are integers, arrays are lists.

    Values are equal if and only if their canonical forms are, and print the same everywhere.
    """
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Json]", value)
        return {key: canonical_value(items[key]) for key in sorted(items)}
    return [canonical_value(one) for one in value]


def number_fault(number: float) -> str | None:
    """Return why a number cannot be in a card, or None if it can."""
    if not math.isfinite(number) or abs(number) > NUMBER_MAX:
        return f"the number {number!r} is not finite, or beyond 2**53 - 1"
    return None


def _read_number(reader: Reader, tag: int) -> Json:
    raw = reader.take(4 if tag == _FLOAT32 else 8)
    number: float = (_single if tag == _FLOAT32 else _double).unpack(raw)[0]
    fault = number_fault(number)
    if fault:
        raise MalformedBytes(fault)
    if _write_number(number) != bytes([tag]) + raw:
        raise MalformedBytes(f"the number {number!r} is minus zero, or would fit 32 bits")
    return int(number) if number.is_integer() else number


def _write_number(number: float) -> bytes:
    number = number or 0.0  # there is no minus zero
    try:
        short = _single.pack(number)
    except OverflowError:
        short = b""
    if short and _single.unpack(short)[0] == number:
        return bytes([_FLOAT32]) + short
    return bytes([_FLOAT64]) + _double.pack(number)


def _write_text(text: str) -> bytes:
    raw = text.encode()
    return varuint(len(raw)) + raw
