"""One card, open in several editors at once: what one types, all show and the card says.

The card's text is the truth, and lives elsewhere with item ids of its own. The session's document
mirrors it: **between two calls of a session, its text is the card's text.** An editor's update is
applied to the document and, before anything else can happen, to the card (`CardText.splice`);
signing and sending follow later (`publishing.py`). So there is no moment at which an edit is in one
and not in the other, and nothing to rebase: what others wrote is the difference of two texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from crdt import UserFault
from node.live.deltas import Splice
from node.live.errors import EditsMissing, SessionBroken, UpdateRefused
from node.live.mirror import Mirror
from node.live.presence import Presence
from node.live.protocol import (
    PresenceAsked,
    PresenceEntry,
    PresenceSent,
    StateAsked,
    UpdateSent,
    read_frame,
    write_answer,
    write_presence,
    write_question,
    write_update,
)

RECEIVED_BYTES_MAX = 64 * 1024 * 1024
"""A Yjs document never forgets; a keystroke is about 20 bytes, so this is three million of them."""


class CardText(Protocol):
    """The text of a card, as the session's key may write it."""

    def text(self) -> str:
        """Return the text now, with local edits that are not published yet."""
        ...

    def splice(self, splices: Sequence[Splice]) -> None:
        """Change the text at once, all of it or nothing; each splice counts after those before.

        Raises:
            UserFault: the card refuses it, because it would be too long for example.
        """
        ...

    async def publish(self) -> int:
        """Sign and send what was spliced since the last time; return how many operations.

        Raises:
            WorldFault, UserFault: it could not be; nothing is lost, and it may be tried again.
        """
        ...

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back on the event loop when others changed the text; return what ends that."""
        ...


class Editor(Protocol):
    """The way to one editor."""

    def send(self, frame: bytes) -> None:
        """Send a frame behind all others, without waiting."""
        ...


@dataclass(slots=True)
class _Standing:
    """How far an editor is: it has `synced` once it answered; `asked` answers are outstanding."""

    synced: bool = False
    asked: int = 0


class Session:
    """The editors of one card. Synchronous: it never waits, so nothing comes between.

    Args:
        root: The name of the Yjs text that editors bind to.
        client: The Yjs client id under which others' edits appear. Random, 32 bits.
        edited: Called after a local edit: it is to be published.
        notice: Called with a line for the person who edits.
        broken: Called when the card changed and could not be shown: the session is over.
    """

    def __init__(
        self,
        card: CardText,
        *,
        root: str,
        client: int,
        edited: Callable[[], None],
        notice: Callable[[str], None],
        broken: Callable[[SessionBroken], None],
    ) -> None:
        self._card = card
        self._edited = edited
        self._notice = notice
        self._broken = broken
        self._mirror = Mirror(root, card.text(), client=client)
        self._presence = Presence()
        self._editors: dict[Editor, _Standing] = {}
        self._unsubscribe = card.subscribe(self._on_change)

    @property
    def text(self) -> str:
        """What the editors show."""
        return self._mirror.text

    @property
    def editor_count(self) -> int:
        """How many editors are connected."""
        return len(self._editors)

    @property
    def waits_for_answers(self) -> bool:
        """Whether an editor may have edits that it was asked for and that are not here yet."""
        return any(standing.asked for standing in self._editors.values())

    def join(self, editor: Editor) -> None:
        """Take an editor in: ask what it knows, tell it who is there."""
        self._editors[editor] = _Standing()
        self._ask(editor)
        if present := self._presence.entries():
            editor.send(write_presence(present))

    def leave(self, editor: Editor) -> None:
        """Forget an editor that is gone."""
        if self._editors.pop(editor, None) is not None:
            self._tell(self._presence.leave(editor))

    def ask_all(self) -> None:
        """Ask every editor for what it has: its answer comes behind everything it sent before."""
        for editor in list(self._editors):
            self._ask(editor)

    def receive(self, editor: Editor, raw: bytes) -> None:
        """Handle one message of an editor that has joined.

        Raises:
            UpdateRefused: the editor is not fit for this session; nothing was changed.
            SessionBroken: the session is over; the card has every edit that was taken.
        """
        assert editor in self._editors
        match read_frame(raw):
            case StateAsked(state):
                editor.send(write_answer(self._mirror.since(state)))
            case UpdateSent() as sent:
                self._on_update(editor, sent)
            case PresenceSent(entries):
                self._tell(self._presence.hear(editor, entries))
            case PresenceAsked():
                editor.send(write_presence(self._presence.entries()))

    def close(self) -> None:
        """Stop following the card. Every edit that was taken is in it."""
        self._unsubscribe()
        self._mirror.close()
        self._editors.clear()

    def _on_change(self) -> None:
        try:
            self._pull()
        except SessionBroken as fault:
            self._broken(fault)

    def _on_update(self, editor: Editor, sent: UpdateSent) -> None:
        standing = self._editors[editor]
        try:
            self._take(editor, sent.update)
        except EditsMissing:
            # An editor that comes back with edits may type before it answers our question: the
            # answer holds all of it. An answer that lacks something will never be better.
            if sent.is_answer:
                raise
            if standing.synced:
                self._ask(editor)
        if sent.is_answer:
            standing.synced = True
            standing.asked = max(0, standing.asked - 1)

    def _take(self, editor: Editor, update: bytes) -> None:
        """Apply an update to the document and what it did to the card."""
        if self._mirror.received_bytes + len(update) > RECEIVED_BYTES_MAX:
            raise UpdateRefused(f"this session took {RECEIVED_BYTES_MAX} bytes; start a new one")
        self._pull()  # the splices count in the card's text, which must be the document's
        received = self._mirror.receive(update)
        if received.relay is not None:
            self._broadcast(received.relay, but=editor)
        for mend in received.mends:
            self._broadcast(mend)
        if received.splices:
            self._write(received.splices)

    def _write(self, splices: Sequence[Splice]) -> None:
        try:
            self._card.splice(splices)
        except UserFault as fault:
            self._notice(f"an edit was taken back: {fault}")
        else:
            self._edited()
        self._pull()

    def _pull(self) -> None:
        """Show what the card says."""
        text = self._card.text()
        if text != self._mirror.text and (update := self._mirror.show(text)) is not None:
            self._broadcast(update)

    def _ask(self, editor: Editor) -> None:
        self._editors[editor].asked += 1
        editor.send(write_question(self._mirror.state()))

    def _broadcast(self, update: bytes, *, but: Editor | None = None) -> None:
        frame = write_update(update)
        for editor in list(self._editors):
            if editor is not but:
                editor.send(frame)

    def _tell(self, entries: Sequence[PresenceEntry]) -> None:
        if entries:
            frame = write_presence(entries)
            for editor in list(self._editors):
                editor.send(frame)
