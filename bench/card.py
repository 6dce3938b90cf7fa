"""Cards: check, apply and rebuild small edits of one description, and raw pycrdt beside each.

The edits are those of two writers who type words into one text, each operation a few characters.
Raw pycrdt gets the same edits as its own updates, unchecked, of two client ids.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, cast

from crdt import OperationId, PublicKey, sha3
from crdt.cards import (
    CardBody,
    CardDocument,
    CardPart,
    Layout,
    Seed,
    check_card,
    edit_card,
    layout_of_seed,
    open_card,
)

KEYS = (PublicKey(sha3(b"one")), PublicKey(sha3(b"two")))
SEED = Seed("A model that summarises, translates and answers. " * 20, ("chat", "small"))
WORD_PLACES = (40, 400)
"""Where each writer types: in the middle of the text, away from one another."""


def run(operations: int = 1000) -> dict[str, Any]:
    """Return microseconds an operation and milliseconds a rebuild, ours and raw pycrdt's."""
    parts = make_parts(operations)
    bodies = [part.content.raw for part in parts[1:] if isinstance(part.content, CardBody)]
    raw = make_raw(operations)
    rebuilt = CardDocument.of(parts)
    snapshot = rebuilt.snapshot()
    return {
        "parse_us": per_item_us(lambda: [open_card(body) for body in bodies], operations),
        "check_us": per_item_us(lambda: check_all(parts), operations),
        "apply_us": per_item_us(lambda: apply_one_by_one(parts), operations),
        "raw_apply_us": per_item_us(lambda: apply_raw(raw), operations),
        "rebuild_1000_ms": per_item_us(lambda: CardDocument.of(parts), operations),
        "raw_rebuild_1000_ms": per_item_us(lambda: apply_raw(raw), operations),
        "restore_ms": round(best_s(lambda: restored(snapshot, parts)) * 1e3, 2),
        "edit_us": round(best_s(lambda: edit_card(rebuilt, type_word)) * 1e6),
        "snapshot_bytes": len(snapshot),
        "body_bytes": sum(map(len, bodies)) // len(bodies),
    }


def make_parts(count: int) -> list[CardPart]:
    """Return a seed and then edits, in canonical order."""
    parts = [CardPart(OperationId(sha3(b"seed")), 1, KEYS[0], SEED, effective=True)]
    document = CardDocument.of(parts)
    for number in range(count):
        at = WORD_PLACES[number % 2] + number // 2 * 5
        body = edit_card(document, lambda draft, at=at: draft.splice(at, 0, "word "))  # type: ignore[misc]
        assert body is not None
        part = CardPart(
            OperationId(sha3(b"%d" % number)), number + 2, KEYS[number % 2], open_card(body), True
        )  # fmt: skip
        parts.append(part)
        grown = document.extended([part])
        assert grown is document
    return parts


def make_raw(count: int) -> list[bytes]:
    """Return the same edits as pycrdt's own updates, seed first."""
    writers = [raw_document(client) for client in (1, 2)]
    texts = [text for _, text in writers]
    updates: list[bytes] = []

    def on_change(event: Any) -> None:
        updates.append(event.update)

    for writer, _ in writers:
        writer.observe(on_change)
    texts[0].insert(0, SEED.text)
    writers[1][0].apply_update(updates[-1])
    del updates[1:]
    for number in range(count):
        at = WORD_PLACES[number % 2] + number // 2 * 5
        texts[number % 2].insert(at, "word ")
        made = len(updates)
        writers[1 - number % 2][0].apply_update(updates[-1])
        del updates[made:]
    return updates


def raw_document(client: int) -> tuple[Any, Any]:
    """Return a pycrdt document and its text."""
    from pycrdt import Doc, Text

    document = cast("Any", Doc(client_id=client))
    return document, document.get("text", type=Text)


def check_all(parts: list[CardPart]) -> None:
    """Check B of every card operation."""
    layouts: dict[OperationId, Layout] = {}
    for part in parts:
        if isinstance(part.content, CardBody):
            layouts[part.id] = check_card(
                part.content, key=part.key, may_edit=True, layout_of=layouts.__getitem__
            )
        else:
            layouts[part.id] = layout_of_seed(part.content)


def apply_one_by_one(parts: list[CardPart]) -> None:
    """Grow a document by one operation at a time, and read it at the end."""
    document = CardDocument.of(parts[:1])
    for part in itertools.islice(parts, 1, None):
        assert document.extended([part]) is document
    assert document.content().text


def apply_raw(updates: list[bytes]) -> None:
    """Apply updates to a raw document, and read it at the end."""
    document, text = raw_document(3)
    for update in updates:
        document.apply_update(update)
    assert str(text)


def restored(snapshot: bytes, parts: list[CardPart]) -> None:
    """Make the document from its snapshot, and read it."""
    document = CardDocument.restored(snapshot, parts)
    assert document is not None
    assert document.content().text


def type_word(draft: Any) -> None:
    """Type a word."""
    draft.splice(100, 0, "word ")


def per_item_us(action: Callable[[], object], count: int) -> float:
    """Return microseconds an item: for 1000 items, also milliseconds for all."""
    return round(best_s(action) / count * 1e6, 2)


def best_s(action: Callable[[], object], rounds: int = 5) -> float:
    """Return the least processor time of a few rounds."""
    found: list[float] = []
    for _ in range(rounds):
        started = time.process_time()
        action()
        found.append(time.process_time() - started)
    return min(found)
