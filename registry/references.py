"""How text names a record: an id, `owner/slug` with a range of versions, or a requirement."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from crdt import RecordId, is_slug
from registry.errors import BadReference, shown
from registry.semver import is_range

REFERENCE_CHARACTERS_MAX = 512
OWNER_PREFIX_MIN = 8
"""Fewer hex digits of an account name too many accounts."""
CAPABILITY_COUNT_MAX = 16
NUMBER_MAX = 2**63 - 1
MODEL_KINDS = {
    "llm": "LLM", "embedding": "Embedding", "multimodal": "Multimodal",
    "audio": "AudioProcessing", "image": "ImageGeneration", "model": None,
}  # fmt: skip
"""What may follow `any:`, and the model type it asks for."""
_OWNER = re.compile(r"[0-9a-f]{8,64}")
_ID = re.compile(r"[0-9a-f]{64}")
_SPLIT = re.compile(r"@|(?=[\^~])")
_TERM = re.compile(r"([a-z_]+)(>=|<=|=)(.+)")


@dataclass(frozen=True, slots=True)
class ById:
    """The record with this id, in the given range of versions (`*` is whichever stands)."""

    record: RecordId
    range: str = "*"


@dataclass(frozen=True, slots=True)
class BySlug:
    """An account's record; `owner` is its id in hex or at least 8 digits of it."""

    owner: str
    slug: str
    range: str = "*"


@dataclass(frozen=True, slots=True)
class AnyModel:
    """Whatever model fulfils this.

    Attributes:
        model_type: As in records.md; None for any.
        price_max: Micro-USD per million tokens, of input and of output alike.
    """

    model_type: str | None
    capabilities: frozenset[str] = frozenset()
    context_min: int = 0
    price_max: int | None = None
    quantizations: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    segment: str | None = None
    license: str | None = None


Reference: TypeAlias = ById | BySlug | AnyModel


def parse_reference(text: str) -> Reference:
    """Return what `text` names.

    Raises:
        BadReference: it is none of the three forms.
    """
    if len(text) > REFERENCE_CHARACTERS_MAX:
        raise BadReference(
            f"a reference of {len(text)} characters; at most {REFERENCE_CHARACTERS_MAX}"
        )
    if text.startswith("any:"):
        return _any_model(text)
    return parse_record_reference(text)


def parse_record_reference(text: str) -> ById | BySlug:
    """Return which record `text` names: an id or `owner/slug`, with or without `@range`.

    Raises:
        BadReference: it is neither.
    """
    name, range_ = _with_range(text)
    if _ID.fullmatch(name):
        if not name.strip("0"):
            raise BadReference("the all-zero id names no record; ids are derived, never chosen")
        return ById(RecordId(bytes.fromhex(name)), range_)
    owner, slash, slug = name.partition("/")
    if not slash:
        raise BadReference(
            f"{shown(text)} names no record; write its id (64 lower-case hex digits), "
            "owner/slug, owner/slug@^1.2 or any:llm?caps=tools"
        )
    if not _OWNER.fullmatch(owner):
        raise BadReference(
            f"owner {shown(owner)} is not {OWNER_PREFIX_MIN}..64 lower-case hex digits of an "
            "account id"
        )
    if not is_slug(slug):
        raise BadReference(f"slug {shown(slug)} is not 1..64 of a-z 0-9 . _ -")
    return BySlug(owner, slug, range_)


def _with_range(text: str) -> tuple[str, str]:
    parts = _SPLIT.split(text, maxsplit=1)
    if len(parts) == 1:
        return text, "*"
    name, range_ = parts
    if not is_range(range_):
        raise BadReference(
            f"{shown(range_)} is no range of versions; write *, 1.2.3, ^1.2, ~1.2 or '>=1 <2'"
        )
    return name, range_


def _any_model(text: str) -> AnyModel:
    kind, _, query = text.removeprefix("any:").partition("?")
    if kind not in MODEL_KINDS:
        raise BadReference(f"any:{kind[:40]} is unknown; one of {', '.join(MODEL_KINDS)}")
    terms: dict[str, tuple[str, str]] = {}
    for part in query.split("&") if query else ():
        match = _TERM.fullmatch(unquote(part))
        if match is None:
            raise BadReference(f"{shown(part)} is not name=value or name>=value")
        name, operator, value = match.groups()
        if _OPERATORS.get(name) != operator:
            raise BadReference(
                f"{shown(part)} is unknown; a requirement has "
                + ", ".join(f"{n}{o}..." for n, o in _OPERATORS.items())
            )
        if name in terms:
            raise BadReference(f"{name} is given twice")
        terms[name] = (operator, value)
    values = {name: value for name, (_, value) in terms.items()}
    return AnyModel(
        MODEL_KINDS[kind],
        capabilities=_words(values, "caps"),
        context_min=_number(values, "ctx") or 0,
        price_max=_number(values, "max_price"),
        quantizations=_words(values, "quant"),
        regions=_words(values, "region"),
        segment=values.get("segment"),
        license=values.get("license"),
    )


_OPERATORS = {
    "caps": "=", "ctx": ">=", "max_price": "=", "quant": "=", "region": "=", "segment": "=",
    "license": "=",
}  # fmt: skip


def _words(values: dict[str, str], name: str) -> frozenset[str]:
    words = frozenset(word for word in values.get(name, "").split(",") if word)
    if len(words) > CAPABILITY_COUNT_MAX:
        raise BadReference(f"{len(words)} words in {name}; at most {CAPABILITY_COUNT_MAX}")
    return words


def _number(values: dict[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > NUMBER_MAX:
        raise BadReference(f"{name} {shown(text)} is not an integer in 0..{NUMBER_MAX}")
    return int(text)
