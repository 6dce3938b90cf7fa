"""The frames that stock Yjs editors speak: y-protocols' sync and awareness, as in y-websocket.

One WebSocket message is one frame: a kind, then what the kind says. Writing is pycrdt's; reading is
ours, because pycrdt's trusts the lengths it is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pycrdt import (
    YMessageType,
    YSyncMessageType,
    create_awareness_message,
    create_update_message,
    write_message,
    write_var_uint,
)

from node.live.errors import UpdateRefused
from node.live.reader import Reader

ENTRY_COUNT_MAX = 64
"""Cursors in one frame."""

_AWARENESS_QUERY = 3  # y-websocket's own; pycrdt has no name for it


@dataclass(frozen=True, slots=True)
class StateAsked:
    """Sync step 1: the editor says what it knows, and asks for the rest."""

    state: bytes


@dataclass(frozen=True, slots=True)
class UpdateSent:
    """Edits: sync step 2, which answers a question of ours with all there is, or an update."""

    update: bytes
    is_answer: bool


@dataclass(frozen=True, slots=True)
class PresenceEntry:
    """What one client shows to the others (cursor, name): JSON, or `null` when it left."""

    client: int
    clock: int
    state: str


@dataclass(frozen=True, slots=True)
class PresenceSent:
    """Awareness: clients that moved, came or left."""

    entries: tuple[PresenceEntry, ...]


@dataclass(frozen=True, slots=True)
class PresenceAsked:
    """The editor asks who is there."""


Frame = StateAsked | UpdateSent | PresenceSent | PresenceAsked


def read_frame(raw: bytes) -> Frame:
    """Decode one message of an editor.

    Raises:
        UpdateRefused: it is none of the four kinds, or not well formed.
    """
    reader = Reader(raw)
    frame = _read(reader)
    reader.end()
    return frame


def _read(reader: Reader) -> Frame:
    kind = reader.integer()
    if kind == YMessageType.SYNC:
        step = reader.integer()
        if step == YSyncMessageType.SYNC_STEP1:
            return StateAsked(reader.blob())
        if step in (YSyncMessageType.SYNC_STEP2, YSyncMessageType.SYNC_UPDATE):
            return UpdateSent(reader.blob(), is_answer=step == YSyncMessageType.SYNC_STEP2)
        raise UpdateRefused(f"sync step {step} is not part of the protocol; 0 to 2 are")
    if kind == YMessageType.AWARENESS:
        return PresenceSent(_read_entries(reader.blob()))
    if kind == _AWARENESS_QUERY:
        return PresenceAsked()
    raise UpdateRefused(f"a message of kind {kind} is not understood; 0, 1 and 3 are")


def _read_entries(raw: bytes) -> tuple[PresenceEntry, ...]:
    reader = Reader(raw)
    count = reader.count("cursors", ENTRY_COUNT_MAX)
    entries = tuple(
        PresenceEntry(reader.integer(), reader.integer(), reader.string()) for _ in range(count)
    )
    reader.end()
    return entries


def write_question(state: bytes) -> bytes:
    """Sync step 1: ask an editor for what is not in this state."""
    return _sync(YSyncMessageType.SYNC_STEP1, state)


def write_answer(update: bytes) -> bytes:
    """Sync step 2: answer an editor's question."""
    return _sync(YSyncMessageType.SYNC_STEP2, update)


def write_update(update: bytes) -> bytes:
    """Tell an editor of edits."""
    return create_update_message(update)


def _sync(step: YSyncMessageType, payload: bytes) -> bytes:
    return bytes([YMessageType.SYNC, step]) + write_message(payload)


def write_presence(entries: Iterable[PresenceEntry]) -> bytes:
    """Tell an editor of other clients."""
    listed = list(entries)
    parts = [write_var_uint(len(listed))]
    for entry in listed:
        parts += [write_var_uint(entry.client), write_var_uint(entry.clock)]
        parts.append(write_message(entry.state.encode()))
    return create_awareness_message(b"".join(parts))
