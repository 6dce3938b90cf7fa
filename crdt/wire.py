"""Canonical bytes: the one place that speaks msgpack.

Canonical means: one positional array; integers minimal and within 64 bits; text is UTF-8; no
floats, no maps, no extension types. Decoding re-encodes and compares, so one value has exactly
one spelling, and a hash of bytes is a hash of meaning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import msgpack  # noqa: TID251 - this is the module that may

from crdt.errors import MalformedBytes

Value: TypeAlias = "bool | int | str | bytes | Sequence[Value] | None"

DEPTH_MAX = 16
"""Arrays inside arrays. The deepest frame of ours nests 6."""
INTEGER_MAX = 2**63 - 1
"""Of any integer on the wire: it fits a signed column of 64 bits."""
_SCALARS = (int, str, bytes, bool, type(None))

T = TypeVar("T")
# `type` itself, without the narrowing that would need a cast: a call, on every item's way.
_type_of: Callable[[object], type[object]] = type
# msgpack ships no types: these two lines are where its calls get theirs.
# Not packb, which passes its arguments on twice; not one Packer for all, which is not reentrant.
_Packer = cast("Callable[[], Any]", msgpack.Packer)  # type: ignore[attr-defined]
_unpackb = cast("Callable[..., Any]", msgpack.unpackb)  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType]


def encode(value: Value) -> bytes:
    """Return the canonical bytes of `value`, which its caller keeps free of floats and maps."""
    raw: bytes = _Packer().pack(value)
    return raw


def decode(raw: bytes, *, bytes_max: int) -> tuple[Any, ...]:
    """Return the array that `raw` encodes, with nested arrays as tuples.

    Elements are untyped on purpose: every caller checks each one with `field`.

    Raises:
        MalformedBytes: too long, not msgpack, not one array, not canonical, or of a banned type.
    """
    parts = decode_loosely(raw, bytes_max=bytes_max)
    _check_types(parts)
    return parts


def decode_loosely(raw: bytes, *, bytes_max: int) -> tuple[Any, ...]:
    """Return as `decode` does, but for the types: there may be floats, and arrays of any depth.

    For a caller who holds every element to its exact type, nested ones too, so that looking at each
    once more would be for nothing.

    Raises:
        MalformedBytes: too long, not msgpack, not one array, or not canonical.
    """
    if len(raw) > bytes_max:
        raise MalformedBytes(f"{len(raw)} bytes where at most {bytes_max} are allowed")
    try:
        value = _unpack(raw)
        again = encode(value)
    except MalformedBytes:
        raise
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise MalformedBytes(f"not msgpack: {type(error).__name__}: {str(error)[:100]}") from error
    if again != raw:
        raise MalformedBytes("not the canonical encoding: encoding it again gives other bytes")
    return array(value, "the whole")


def field(value: object, kind: type[T], what: str) -> T:
    """Return `value` if it is exactly of type `kind` (a bool is not an int).

    Raises:
        MalformedBytes: it is not; the message names `what`.
    """
    if type(value) is not kind:
        raise MalformedBytes(f"{what} is a {type(value).__name__}, not a {kind.__name__}")
    return value


def array(value: Any, what: str) -> tuple[Any, ...]:
    """Return `value` if it is an array, else raise."""
    kind = _type_of(value)
    if kind is not tuple:
        raise MalformedBytes(f"{what} is a {kind.__name__}, not an array")
    parts: tuple[Any, ...] = value
    return parts


def has_head(parts: Sequence[Any], count: int, *head: str | int) -> bool:
    """Whether `parts` are `count` fields that start with exactly `head`.

    Not `parts[:2] == head`, because False equals 0 and so would be a second spelling of version 0.
    """
    if len(parts) != count:
        return False
    for at, wanted in enumerate(head):
        if parts[at] != wanted or type(parts[at]) is not type(wanted):
            return False
    return True


def fixed_bytes(value: object, length: int, what: str) -> bytes:
    """Return `value` if it is a byte string of exactly `length` bytes, else raise."""
    if type(value) is not bytes or len(value) != length:
        raise MalformedBytes(f"{what} is not {length} bytes")
    return value


def natural(value: object, what: str, *, maximum: int = INTEGER_MAX) -> int:
    """Return `value` if it is an integer in 0..maximum, else raise."""
    if type(value) is not int or not 0 <= value <= maximum:
        raise MalformedBytes(f"{what} is not an integer in 0..{maximum}")
    return value


def sha3(raw: bytes) -> bytes:
    """Return the SHA3-256 of `raw` (hashlib's: pycryptodome's is three times slower)."""
    return hashlib.sha3_256(raw).digest()


def _unpack(raw: bytes) -> Any:
    return _unpackb(
        raw,
        raw=False,
        use_list=False,
        strict_map_key=True,
        object_pairs_hook=_no_map,
        ext_hook=_no_ext,
    )


def _no_map(_pairs: object) -> Any:
    raise MalformedBytes("a map where only arrays are allowed")


def _no_ext(_code: int, _data: bytes) -> Any:
    raise MalformedBytes("an extension type where only arrays are allowed")


def _check_types(parts: tuple[Any, ...]) -> None:
    """Raise for a type that msgpack can say and we do not, and for arrays nested too deep."""
    stack = [(parts, 1)]
    while stack:
        items, depth = stack.pop()
        if depth > DEPTH_MAX:
            raise MalformedBytes(f"arrays nested deeper than {DEPTH_MAX}")
        for item in items:
            kind = _type_of(item)
            if kind is tuple:
                stack.append((item, depth + 1))
            elif kind not in _SCALARS:
                raise MalformedBytes(f"a {kind.__name__} where it is not allowed")
