"""Queries over records in memory: the fake's second reading of what a query means."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from crdt import Card, RecordId, RemoteFault
from node.storage.queries import FACETS, decode_cursor, encode_cursor, words
from node.storage.states import RecordState
from registry import Facets, Hit, Page, Query, SearchRow, decode_record, projection

_PRICELESS = 2**63 - 1


def search_states(
    states: Iterable[RecordState], query: Query, card_of: Callable[[RecordId], Card | None]
) -> Page:
    """Return a page of the live records that a query finds; relevance is arrival here."""
    after = decode_cursor(query)
    found: list[tuple[tuple[int | str, int], Hit, SearchRow]] = []
    for number, state in enumerate(states, 1):
        try:
            value = decode_record(state.kind, state.body)
        except RemoteFault:
            continue
        row, card = projection(value), card_of(state.id)
        if card is not None:
            row = replace(row, description=card.text, tags=card.tags)
        if _fits(row, state, query):
            hit = Hit(state.id, state.kind, state.account, state.slug, state.operation.id, value)
            found.append(((_sort_value(row, number, query), number), hit, row))
    found.sort(key=lambda one: one[0], reverse=query.downward)
    rest = [one for one in found if after is None or _is_after(one[0], after, query.downward)]
    page = rest[: query.limit]
    cursor = None
    if len(rest) > query.limit:
        last, number = page[-1][0]
        cursor = encode_cursor(query, last, number)
    counts = {
        name: dict(Counter(getattr(row, name) for _, _, row in found if getattr(row, name)))
        for name in FACETS
    }
    return Page(tuple(hit for _, hit, _ in page), len(found), cursor, Facets(counts))


def _is_after(
    position: tuple[int | str, int], after: tuple[float | int | str, int], downward: bool
) -> bool:
    return position < after if downward else position > after


def _sort_value(row: SearchRow, number: int, query: Query) -> int | str:
    match query.sort:
        case "name":
            return row.name_key
        case "updated":
            return row.updated_at
        case "parameters":
            return row.parameters
        case "context":
            return row.context
        case "price":
            return _PRICELESS if row.price is None else row.price
        case "relevance":
            return number


def _fits(row: SearchRow, state: RecordState, query: Query) -> bool:
    owner = query.owner or ""
    return (
        row.kind in query.kinds
        and state.account.hex().startswith(owner)
        and _has_words(row, query)
        and (not query.types or row.type in query.types)
        and (not query.frameworks or row.framework in query.frameworks)
        and (not query.licenses or row.license in query.licenses)
        and (not query.quantizations or row.quantization in query.quantizations)
        and (not query.statuses or row.status in query.statuses)
        and (not query.tags or bool(set(row.tags) & set(query.tags)))
        and (not query.regions or bool(set(row.regions) & set(query.regions)))
        and (not query.segments or bool(set(row.segments) & set(query.segments)))
        and set(query.capabilities) <= set(row.capabilities)
        and _fits_numbers(row, query)
    )


def _fits_numbers(row: SearchRow, query: Query) -> bool:
    return (
        _within(row.parameters, query.parameters_min, query.parameters_max)
        and _within(row.context, query.context_min, query.context_max)
        and _within(row.min_memory_mb, None, query.memory_mb_max)
        and _within(row.updated_at, query.updated_since, None)
        and (query.price_max is None or (row.price is not None and row.price <= query.price_max))
        and (not row.requires_gpu or _within(row.min_vram_gb, None, query.vram_gb_max))
        and (query.requires_gpu is None or row.requires_gpu == query.requires_gpu)
    )


def _within(value: int, least: int | None, most: int | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _has_words(row: SearchRow, query: Query) -> bool:
    if not query.text:
        return True
    wanted = [_folded(word) for word in words(query.text)]
    text = " ".join((row.name, *row.tags, row.description))
    have = [_folded(word) for word in words_of(text)]
    return bool(wanted) and all(any(one.startswith(word) for one in have) for word in wanted)


def words_of(text: str) -> list[str]:
    """Return every word of a text."""
    found: list[str] = []
    for start in text.split():
        found += words(start)
    return found


def _folded(word: str) -> str:
    decomposed = unicodedata.normalize("NFKD", word.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
