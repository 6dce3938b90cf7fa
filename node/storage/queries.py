"""Queries as SQL, and the cursors between their pages.

A page starts after the (sort value, number) that the last one ended with, so writes that land in
between neither repeat nor hide a record that stays where it was.
"""
# ruff: noqa: S608 - the SQL is put together from constants of ours; every value is a parameter.

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

from crdt import MalformedBytes, decode, encode, natural, sha3
from registry import BadQuery, Query

FACET_TOTAL_MAX = 2_000
"""Facets of more records than this are left out: counting them would hold the event loop."""
FACETS = ("type", "framework", "license", "quantization", "status")
TOKEN_COUNT_MAX = 16
_PRICELESS = 2**63 - 1
_WORD = re.compile(r"[^\W_]+")
_SORT_COLUMNS = {
    "name": "v.name_key",
    "updated": "v.updated_at",
    "parameters": "v.parameters",
    "context": "v.context",
    "price": f"coalesce(v.price, {_PRICELESS})",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A query's parts in SQL.

    Attributes:
        source: What follows FROM, with the conditions.
        sort: The expression that orders; ties go by number, the same way.
    """

    source: str
    parameters: tuple[object, ...]
    sort: str
    downward: bool


def words(text: str) -> list[str]:
    """Return the words of a search text, at most `TOKEN_COUNT_MAX`."""
    return _WORD.findall(text)[:TOKEN_COUNT_MAX]


def statement_of(query: Query) -> Statement:
    """Return a query in SQL over the views."""
    source = "view_v1 v"
    conditions: list[str] = []
    parameters: list[object] = []

    def require(condition: str, *values: object) -> None:
        conditions.append(condition)
        parameters.extend(values)

    sort, downward = _SORT_COLUMNS.get(query.sort, "v.number"), query.downward
    if query.text:
        source += " JOIN words_v1 w ON w.rowid = v.number"
        require("words_v1 MATCH ?", " ".join(f'"{word}"*' for word in words(query.text)))
        if query.sort == "relevance":
            # FTS5's bm25 is the less the better; a name weighs more than a tag than a text.
            sort = "-bm25(words_v1, 10.0, 5.0, 1.0)"
    require(f"v.kind IN ({_marks(query.kinds)})", *map(int, query.kinds))
    for column, values in (
        ("type", query.types),
        ("framework", query.frameworks),
        ("license", query.licenses),
        ("quantization", query.quantizations),
        ("status", query.statuses),
    ):
        if values:
            require(f"v.{column} IN ({_marks(values)})", *values)
    for name, values in (
        ("tag", query.tags),
        ("region", query.regions),
        ("segment", query.segments),
    ):
        if values:
            require(_any_mark(len(values)), name, *values)
    for value in query.capabilities:
        require(_any_mark(1), "capability", value)
    _require_numbers(query, require)
    return Statement(
        f"{source} WHERE {' AND '.join(conditions)}", tuple(parameters), sort, downward
    )


def _require_numbers(query: Query, require: Callable[..., None]) -> None:
    if query.owner is not None:
        first, last = query.owner.ljust(64, "0"), query.owner.ljust(64, "f")
        require("v.account BETWEEN ? AND ?", bytes.fromhex(first), bytes.fromhex(last))
    for condition, value in (
        ("v.parameters >= ?", query.parameters_min),
        ("v.parameters <= ?", query.parameters_max),
        ("v.context >= ?", query.context_min),
        ("v.context <= ?", query.context_max),
        ("v.price <= ?", query.price_max),
        ("(v.requires_gpu = 0 OR v.min_vram_gb <= ?)", query.vram_gb_max),
        ("v.min_memory_mb <= ?", query.memory_mb_max),
        ("v.requires_gpu = ?", query.requires_gpu),
        ("v.updated_at >= ?", query.updated_since),
    ):
        if value is not None:
            require(condition, int(value))


def encode_cursor(query: Query, value: float | str, number: int) -> str:
    """Return where a page that ended with this sort value and number is gone on with."""
    text = value.hex() if isinstance(value, float) else value
    raw = encode([_digest(query), text, number])
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode_cursor(query: Query) -> tuple[float | int | str, int] | None:
    """Return the sort value and number that the last page ended with; None for the first page.

    Raises:
        BadQuery: the cursor is not one, or of another query.
    """
    if query.cursor is None:
        return None
    try:
        padded = query.cursor + "=" * (-len(query.cursor) % 4)
        raw = base64.urlsafe_b64decode(padded.encode())
        digest, value, number = decode(raw, bytes_max=1024)
        position = natural(number, "number")
        if digest != _digest(query) or not isinstance(value, int | str):
            raise MalformedBytes("of another query")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise MalformedBytes("wider than a column")
        if isinstance(value, str) and _is_scored(query):
            return float.fromhex(value), position
        return value, position
    except (ValueError, OverflowError, binascii.Error, MalformedBytes) as error:
        raise BadQuery(
            "cursor is not one of this query; send the query as it was, with the cursor of its page"
        ) from error


def _is_scored(query: Query) -> bool:
    return bool(query.text) and query.sort == "relevance"


def _digest(query: Query) -> bytes:
    fields = query.model_dump_json(exclude={"cursor", "limit"})
    kinds = ",".join(str(int(kind)) for kind in sorted(query.kinds))
    return sha3(f"{kinds} {fields}".encode())[:8]


def _marks(values: tuple[object, ...]) -> str:
    return ",".join("?" * len(values))


def _any_mark(count: int) -> str:
    marks = ",".join("?" * count)
    # Not a correlated EXISTS: a list of numbers lets a rare value drive the whole query.
    return (
        "v.number IN (SELECT m.number FROM mark_v1 m WHERE m.property = ? "
        f"AND m.value IN ({marks}))"
    )
