"""What the decoders accept, said in the plainest way: read, encode again, compare.

The decoders in `crdt/wire.py` and `registry/wire.py` are on every item's way and take short cuts.
These do not, and `test_encoding_again.py` holds the two to the same accept, reject and value.
"""

from __future__ import annotations

from typing import Any

import msgpack  # noqa: TID251 - what crdt/wire.py is held to
from pydantic import ValidationError

from crdt import BODY_BYTES_MAX, RecordKind
from registry import AIAgent, AIModel, encode_record
from registry.resources import AGENT_RESOURCE_FIELDS, MODEL_RESOURCE_FIELDS
from registry.terms import PRICE_FIELDS
from registry.wire import AGENT_FIELDS, MODEL_FIELDS

DEPTH_MAX = 16
NAMED = {
    "price": PRICE_FIELDS,
    "splits": ("account", "weight"),
    "base_models": ("record", "share_bps"),
}
OTHERS = ("framework", "model_type", "quantization", "agent_type")


class Refused(Exception):
    """These are not the canonical bytes of anything."""


def decode_plainly(raw: bytes, bytes_max: int) -> tuple[Any, ...]:
    """Return the array in `raw`, or raise `Refused`."""
    if len(raw) > bytes_max:
        raise Refused("too long")
    try:
        value = msgpack.unpackb(raw, use_list=False, strict_map_key=False)
        again = msgpack.packb(value)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise Refused(repr(error)) from error
    if again != raw or type(value) is not tuple:
        raise Refused("another spelling, or no array")
    _walk(value, 1)
    return value


def decode_record_plainly(kind: RecordKind, body: bytes) -> AIModel | AIAgent:
    """Return the record in `body`, or raise `Refused`."""
    parts = decode_plainly(body, BODY_BYTES_MAX)
    fields = MODEL_FIELDS if kind is RecordKind.MODEL else AGENT_FIELDS
    if len(parts) != 2 + len(fields) or parts[:2] != (0, int(kind)):
        raise Refused("another schema or kind")
    values = {
        name: _readable(kind, name, value) for name, value in zip(fields, parts[2:], strict=True)
    }
    class_ = AIModel if kind is RecordKind.MODEL else AIAgent
    try:
        record = class_.model_validate(values)
    except ValidationError as error:
        raise Refused(str(error)) from error
    if encode_record(record) != body:
        raise Refused("another spelling")
    return record


def _walk(parts: tuple[Any, ...], depth: int) -> None:
    if depth > DEPTH_MAX:
        raise Refused("too deep")
    for part in parts:
        if type(part) is tuple:
            _walk(part, depth + 1)
        elif type(part) not in {int, str, bytes, bool, type(None)}:
            raise Refused(f"a {type(part).__name__}")


def _readable(kind: RecordKind, name: str, value: Any) -> Any:
    if name == "price":
        return None if value is None else _named(NAMED[name], value)
    if name in NAMED:
        return [_named(NAMED[name], one) for one in _array(value)]
    if name == "resource_requirements":
        is_model = kind is RecordKind.MODEL
        return _named(MODEL_RESOURCE_FIELDS if is_model else AGENT_RESOURCE_FIELDS, value)
    if name in OTHERS:
        return _other(value)
    if name == "compatible_model_types":
        return [_other(one) for one in _array(value)]
    return value


def _named(fields: tuple[str, ...], value: Any) -> dict[str, Any]:
    parts = _array(value)
    if len(parts) != len(fields):
        raise Refused("a field too few or too many")
    return dict(zip(fields, parts, strict=True))


def _other(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    parts = _array(value)
    if len(parts) != 1:
        raise Refused("another kind is one text")
    return {"Other": parts[0]}


def _array(value: Any) -> tuple[Any, ...]:
    if type(value) is not tuple:
        raise Refused("no array")
    return value
