"""The session's document: a Yjs text with item ids of its own that shows what the card says.

It is synchronous and knows no editor, no socket and no card. Two things change it: an update of an
editor (`receive`), and the card's text when others changed it (`show`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pycrdt import Doc, Text

from node.live.deltas import Splice, difference, from_delta, spliced
from node.live.errors import SessionBroken, UpdateRefused
from node.live.updates import (
    Pairs,
    Scanned,
    add_pairs,
    check_known,
    cut_pairs,
    scan_state,
    scan_update,
    without_pairs,
)

REPLACEMENT = "\ufffd"
_Result = TypeVar("_Result")
_EMPTY = b"\x00\x00"


@dataclass(frozen=True, slots=True)
class Received:
    """What came of an editor's update.

    Attributes:
        splices: What it did to the text, in order.
        relay: What the other editors are to be sent; None if it said nothing new.
        mends: Updates for every editor: what was taken out of the document again.
    """

    splices: tuple[Splice, ...]
    relay: bytes | None
    mends: tuple[bytes, ...]


class Mirror:
    """A Yjs document whose text is known at every moment, and holds nothing but text.

    Args:
        client: The Yjs client id of the bridge: what it writes is written under it.
    """

    def __init__(self, root: str, text: str, *, client: int) -> None:
        self._root = root
        self._client = client
        self._pairs: Pairs = {}
        self._bytes = 0
        self._text = ""
        self._load(None)
        self.show(text)

    @property
    def text(self) -> str:
        """What every editor shows that has received everything."""
        return self._text

    @property
    def received_bytes(self) -> int:
        """The size of everything editors sent: the document never forgets that it was there."""
        return self._bytes

    def state(self) -> bytes:
        """Return the state vector: what an editor is asked for the rest of."""
        return self._doc.get_state()

    def since(self, state: bytes) -> bytes:
        """Return what an editor that is in this state lacks.

        Raises:
            UpdateRefused: it is no state, or one that cuts a surrogate pair in two.
        """
        for client, clock in scan_state(state).items():
            if clock in self._pairs.get(client, ()):
                raise UpdateRefused(f"a state ends within a character, at {clock} of {client}")
        return self._guarded(lambda: self._doc.get_update(state))

    def show(self, text: str) -> bytes | None:
        """Make the document say `text`; return the update for the editors, None if it did.

        Raises:
            SessionBroken: it cannot be made to.
        """
        splices = difference(self._text, text)
        if not splices:
            return None
        return self._write(lambda: self._splice(splices))

    def receive(self, update: bytes) -> Received:
        """Apply an editor's update.

        Raises:
            UpdateRefused: a session does not take it; nothing was changed.
            EditsMissing: it builds on what never arrived; nothing was changed.
            SessionBroken: pycrdt failed; the document is not to be used any more.
        """
        if update == _EMPTY:
            return Received((), None, ())
        scanned = scan_update(update, self._root)
        state = scan_state(self.state())
        self._check_own(scanned, state)
        check_known(scanned, state)
        old = self._text
        update, scanned = self._whole(update, scanned, state)
        middle = self._text
        self._apply(update)
        self._check_complete(scanned, state)
        add_pairs(scanned, self._pairs)
        self._bytes += len(update)
        relay = update if self._updates else None
        delta = [change for part in self._deltas for change in part]
        mends = self._mend(delta)
        self._text = str(self._content)
        splices = [*difference(old, middle), *_splices(middle, delta, self._text)]
        return Received(tuple(splices), relay, mends)

    def close(self) -> None:
        """Let go of the document, which would otherwise hold itself in memory."""
        self._content.unobserve(self._watches[0])
        self._doc.unobserve(self._watches[1])

    def _check_own(self, scanned: Scanned, state: Mapping[int, int]) -> None:
        """Nobody but the bridge writes under its id, or two contents would have one id."""
        own = state.get(self._client, 0)
        for struct in scanned.structs:
            if struct.client == self._client and struct.clock + struct.length > own:
                raise UpdateRefused(f"an update writes as client {own}, which is the session's own")

    def _check_complete(self, scanned: Scanned, state: Mapping[int, int]) -> None:
        expected = dict(state)
        for struct in scanned.structs:
            end = struct.clock + struct.length
            expected[struct.client] = max(expected.get(struct.client, 0), end)
        if scan_state(self.state()) != expected:
            raise SessionBroken(
                "the document did not take all of an update; start the session again"
            )

    def _whole(
        self, update: bytes, scanned: Scanned, state: Mapping[int, int]
    ) -> tuple[bytes, Scanned]:
        """Put U+FFFD for every surrogate pair that the update cuts, here and in the update.

        JavaScript counts pairs as two and lets editors write between; Yjs then puts U+FFFD for both
        halves, everywhere. yrs cuts behind the pair instead, and deletes what is not meant.
        """
        incoming: Pairs = {}
        add_pairs(scanned, incoming)
        cut = cut_pairs(scanned, state, self._pairs, incoming)
        if not cut:
            return update, scanned
        whole = self._doc.get_update()
        self.close()
        self._load(without_pairs(whole, scan_update(whole, self._root), cut))
        for client, clocks in cut.items():
            self._pairs.get(client, set()).difference_update(clocks)
        update = without_pairs(update, scanned, cut)
        return update, scan_update(update, self._root)

    def _load(self, update: bytes | None) -> None:
        """Make the document anew, from what the old one held."""
        deltas: list[list[dict[str, Any]]] = []
        updates: list[bytes] = []
        self._doc = Doc[Text](client_id=self._client)
        self._content = self._doc.get(self._root, type=Text)
        self._watches = (
            self._content.observe(lambda event: deltas.append(cast("Any", event).delta)),
            self._doc.observe(lambda event: updates.append(event.update)),
        )
        if update is not None:
            self._guarded(lambda: self._doc.apply_update(update))
        self._deltas, self._updates = deltas, updates
        self._text = str(self._content)

    def _apply(self, update: bytes) -> None:
        self._deltas.clear()
        self._updates.clear()
        try:
            self._guarded(lambda: self._doc.apply_update(update))
        except UpdateRefused:
            self._text = str(self._content)  # a pair may have been cut for it
            raise

    def _mend(self, delta: Sequence[Mapping[str, Any]]) -> tuple[bytes, ...]:
        """Take out of the document what an update brought that is not text."""
        blemishes = _blemishes(delta)
        if not blemishes.places and not blemishes.keys:
            return ()
        return (self._write(lambda: self._remove(blemishes)),)

    def _remove(self, blemishes: _Blemishes) -> None:
        for start, end, instead in reversed(blemishes.places):
            del self._content[start:end]
            if instead:
                self._content.insert(start, instead)
        if blemishes.keys:
            plain = dict.fromkeys(sorted(blemishes.keys))
            self._content.format(0, len(self._content), plain)

    def _splice(self, splices: Sequence[Splice]) -> None:
        text = self._text
        for splice in splices:
            end = splice.index + splice.delete
            start = len(text[: splice.index].encode())
            length = len(text[splice.index : end].encode())
            if length:
                del self._content[start : start + length]
            if splice.insert:
                self._content.insert(start, splice.insert)
            text = spliced(text, [splice])

    def _write(self, change: Callable[[], None]) -> bytes:
        """Change the document as the bridge; return the update that says so."""
        self._updates.clear()

        def transact() -> None:
            with self._doc.transaction():
                change()

        try:
            self._guarded(transact)
        except UpdateRefused as error:
            raise SessionBroken(f"a change could not be shown: {error}") from error
        if len(self._updates) != 1:
            raise SessionBroken(f"a change made {len(self._updates)} updates; start it again")
        self._text = str(self._content)
        if len(self._content) != len(self._text.encode()):
            raise SessionBroken("the document holds what is not text; start the session again")
        add_pairs(scan_update(self._updates[0], self._root), self._pairs)
        return self._updates[0]

    def _guarded(self, action: Callable[[], _Result]) -> _Result:
        """Call into pycrdt. Its panics are not subclasses of `Exception`."""
        try:
            return action()
        except ValueError as error:
            raise UpdateRefused(f"an update is not well formed: {error}") from error
        except (Exception, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            raise SessionBroken(f"pycrdt failed ({error}); start the session again") from error


@dataclass(frozen=True, slots=True)
class _Blemishes:
    """What is not text. Places are (start, end, what to put there), in bytes, ascending."""

    places: tuple[tuple[int, int, str], ...]
    keys: frozenset[str]


def _blemishes(delta: Sequence[Mapping[str, Any]]) -> _Blemishes:
    """Return what an event brought that a card cannot say.

    U+FFFD is among it: half a surrogate pair travels as one, and the editor that wrote it goes on
    showing the half. Written again by the bridge, all editors show the same.
    """
    places: list[tuple[int, int, str]] = []
    keys: set[str] = set()
    offset = 0
    for change in delta:
        keys |= {key for key, value in change.get("attributes", {}).items() if value is not None}
        insert = change.get("insert")
        if isinstance(insert, str):
            places += _replacements(offset, insert)
            offset += len(insert.encode())
        elif insert is not None:
            places.append((offset, offset + 1, ""))
            offset += 1
        offset += int(change.get("retain", 0))
    return _Blemishes(tuple(places), frozenset(keys))


def _replacements(offset: int, insert: str) -> list[tuple[int, int, str]]:
    places: list[tuple[int, int, str]] = []
    for run in re.finditer(f"{REPLACEMENT}+", insert):
        start = offset + len(insert[: run.start()].encode())
        places.append((start, start + len(run[0].encode()), run[0]))
    return places


def _splices(old: str, delta: Sequence[Mapping[str, Any]], new: str) -> list[Splice]:
    """Return the splices from `old` to `new`: the event's if they lead there, else the smallest.

    The event knows where a letter was typed in a run of the same; but what shows is what counts.
    """
    try:
        splices = from_delta(old, delta)
    except UnicodeDecodeError:
        return difference(old, new)
    return splices if spliced(old, splices) == new else difference(old, new)
