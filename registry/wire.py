"""The canonical bytes of a record: one positional array, and nothing that can be said twice.

`docs/wire.md`, Records. Every hash and signature is over these bytes, on every node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from crdt import (
    BODY_BYTES_MAX,
    MalformedBytes,
    RecordKind,
    array,
    decode_loosely,
    encode,
    has_head,
    sha3,
)
from registry.agents import AIAgent
from registry.errors import BadRecord, InvalidRecord, Problem
from registry.fields import Other
from registry.models import AIModel
from registry.problems import problems_of
from registry.resources import (
    AGENT_RESOURCE_FIELDS,
    MODEL_RESOURCE_FIELDS,
    AgentResourceRequirements,
    ModelResourceRequirements,
)
from registry.terms import PRICE_FIELDS, BaseModelShare, Price, Split

SCHEMA_VERSION = 0
SHARED_FIELDS = (
    "name", "version", "description", "license", "tags", "capabilities", "created_at",
    "updated_at", "formfile_template", "price", "royalty_bps", "splits", "base_models",
    "pricing_tier", "regions", "segments", "builds", "dependencies", "status", "homepage",
    "support_url",
)  # fmt: skip
MODEL_FIELDS = (
    *SHARED_FIELDS, "model_type", "framework", "parameters", "quantization", "context_length",
    "input_tokens_per_second", "output_tokens_per_second", "resource_requirements",
)  # fmt: skip
AGENT_FIELDS = (
    *SHARED_FIELDS, "agent_type", "framework", "compatible_model_types", "preferred_models",
    "resource_requirements", "tools",
)  # fmt: skip
_HEADER = 2
_SCALARS = (str, int)
_CLASSES: Mapping[RecordKind, tuple[type[AIModel | AIAgent], tuple[str, ...]]] = {
    RecordKind.MODEL: (AIModel, MODEL_FIELDS),
    RecordKind.AGENT: (AIAgent, AGENT_FIELDS),
}

_VALIDATORS = {
    kind: (fields, TypeAdapter(class_).validator.validate_python)
    for kind, (class_, fields) in _CLASSES.items()
}
"""Each kind's fields in order, and pydantic's own validator: on every put's way."""
_NESTED = (Price, Split, BaseModelShare, ModelResourceRequirements, AgentResourceRequirements)
"""What is written as its fields in order: pydantic keeps `__dict__` in the order of the class,
whatever the order of the input (a test holds it to that)."""


def kind_of(record: AIModel | AIAgent) -> RecordKind:
    """Return which kind a record is of."""
    return RecordKind.MODEL if isinstance(record, AIModel) else RecordKind.AGENT


def encode_record(record: AIModel | AIAgent) -> bytes:
    """Return the canonical bytes of a record: `[schema version, kind, field, ...]`.

    Raises:
        InvalidRecord: they are more than 64 KiB.
    """
    kind = kind_of(record)
    fields = _CLASSES[kind][1]
    values = record.__dict__
    raw = encode([SCHEMA_VERSION, int(kind), *[_plain(values[name]) for name in fields]])
    if len(raw) > BODY_BYTES_MAX:
        problem = Problem(
            "record", f"{len(raw)} bytes", f"is longer than the {BODY_BYTES_MAX} of one version"
        )
        raise InvalidRecord([problem])
    return raw


def decode_record(kind: RecordKind, body: bytes) -> AIModel | AIAgent:
    """Return the record in a put's body, fully validated.

    Raises:
        MalformedBytes: not canonical bytes.
        BadRecord: not a valid record of this kind, or not spelt as `encode_record` does.
    """
    parts = decode_loosely(body, bytes_max=BODY_BYTES_MAX)  # the schema is strict about types
    fields, validated = _VALIDATORS[kind]
    if not has_head(parts, _HEADER + len(fields), SCHEMA_VERSION, int(kind)):
        raise BadRecord(
            f"a {kind.name.lower()} is {_HEADER + len(fields)} fields of schema {SCHEMA_VERSION}"
        )
    given: dict[str, Any] = dict(zip(fields, parts[_HEADER:], strict=True))
    try:
        read = {
            name: read_array(value)
            for name, read_array in _READERS[kind]
            if (value := given[name]) and type(value) is tuple
        }
        record: AIModel | AIAgent = validated({**given, **read})
    except MalformedBytes as error:
        raise BadRecord(str(error)) from error
    except ValidationError as error:
        first = problems_of(error)[0]
        raise BadRecord(f"{first.field} = {first.value}: {first.message}") from error
    spelt = record.__dict__
    # What was validated is of the exact types that were given, so equal values are equal bytes.
    if {**spelt, **{name: _plain(spelt[name]) for name in read}} != given:
        raise BadRecord("a set in it is not sorted and unique, so it has another spelling")
    return record


def content_hash(record: AIModel | AIAgent) -> bytes:
    """Return the SHA3-256 of a record's canonical bytes: equal records, equal hashes."""
    return sha3(encode_record(record))


def _plain(value: Any) -> Any:
    """Return what stands for a field's value on the wire."""
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, tuple):
        return tuple([_plain(one) for one in cast("tuple[Any, ...]", value)])
    if isinstance(value, Other):
        return (value.Other,)
    assert isinstance(value, _NESTED)
    return tuple(value.__dict__.values())


def _other(parts: tuple[Any, ...]) -> Any:
    if len(parts) != 1:
        raise MalformedBytes("another kind is an array of one text")
    return {"Other": parts[0]}


def _others(parts: tuple[Any, ...]) -> Any:
    return [one if isinstance(one, str) else _other(array(one, "another kind")) for one in parts]


def _named(fields: tuple[str, ...]) -> Callable[[Any], Any]:
    names = ", ".join(fields)

    def read(value: Any) -> Any:
        parts = array(value, names)
        if len(parts) != len(fields):
            raise MalformedBytes(f"not an array of {names}")
        return dict(zip(fields, parts, strict=True))

    return read


def _each(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda parts: [read(one) for one in parts]


# How an array is read that is not a list of words; of any other value the schema is the judge.
_SHARED_READERS = (
    ("price", _named(PRICE_FIELDS)),
    ("splits", _each(_named(tuple(Split.model_fields)))),
    ("base_models", _each(_named(tuple(BaseModelShare.model_fields)))),
    ("framework", _other),
)
_READERS: Mapping[RecordKind, tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    RecordKind.MODEL: (
        *_SHARED_READERS,
        ("model_type", _other),
        ("quantization", _other),
        ("resource_requirements", _named(MODEL_RESOURCE_FIELDS)),
    ),
    RecordKind.AGENT: (
        *_SHARED_READERS,
        ("agent_type", _other),
        ("compatible_model_types", _others),
        ("resource_requirements", _named(AGENT_RESOURCE_FIELDS)),
    ),
}
