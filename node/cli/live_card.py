"""The card behind a live session: a verified copy of the record, edited here and published.

Only the event loop's thread touches the copy, because the engine's documents are not for two. Two
other threads do nothing but ask the node: one waits for the record's log to grow and hands over
what came, one sends what was signed. Nobody waits for them: edits are made here first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NoReturn, Protocol, TypeVar

from crdt import (
    CardDraft,
    CardFull,
    EditTooLarge,
    Entry,
    HansaError,
    Item,
    Operation,
    SigningKey,
    UserFault,
    WorldFault,
)
from node.client import (
    BadAnswer,
    Client,
    ItemRejected,
    NoAuthority,
    NotTaken,
    RecordCopy,
    RecordPage,
    publish_items,
)
from node.live import Splice, difference, rebased, spliced
from registry import TEXT_CHARACTERS_MAX

LOG_WAIT_S = 20.0
"""How long the node keeps a request that waits for the log to grow; a node takes up to 25 s."""
LOG_PAUSE_S = 0.05
"""Between two looks at the log, so that many small edits of others are taken in at once: before
each, what was typed here is signed, and that should stay few operations."""
LOG_PAUSE_SHARE = 2
"""The pause is this much longer than taking the last stretch in took: editors have their turn, also
with a long history, which edits that were made at the same time have to be woven into anew."""
SEND_S_MAX = 15.0
"""A node that has not stored some edits in this time is treated as if it were away."""
RETRY_S_MAX = 5.0
SEND_COUNT = 256
"""Items in one call of /v1/items."""
PENDING_COUNT_MAX = 256
PENDING_CHARACTERS_MAX = 16_384
"""What was typed and is not signed yet; beyond it, it is signed at once."""

T = TypeVar("T")


class RecordGone(UserFault):
    """The record was deleted while it was edited."""

    code = "gone"


class LiveWatch(Protocol):
    """Who is told what happens to the card, on the event loop's thread."""

    def published(self, items: Sequence[Item]) -> None:
        """Edits of this session are on the node's disk."""
        ...

    def heard(self, operations: Sequence[Operation]) -> None:
        """Others wrote to the record."""
        ...

    def reached(self, fault: HansaError | None) -> None:
        """Tell that the node does not answer, for this reason; None: it answers again."""
        ...

    def notice(self, line: str) -> None:
        """Something the person who edits has to know."""
        ...


class LiveCard:
    """A record's text for `node.live`: the port `CardText`.

    Args:
        connect: Makes a client of the node; each thread has one of its own.

    Attributes:
        back: Called when what waits may be published now: the node answers again, for example.
    """

    def __init__(
        self,
        copy: RecordCopy,
        key: SigningKey,
        *,
        connect: Callable[[], Client],
        watch: LiveWatch,
        now_s: Callable[[], int],
    ) -> None:
        copy.check_may_edit(key.public)
        self.copy = copy
        self._key = key
        self._connect = connect
        self._waiting = connect()
        self._sending = connect()
        self._watch = watch
        self._now_s = now_s
        self._text = copy.card().text
        self._pending: list[Splice] = []
        self._ended: UserFault | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="live-card")
        self.back: Callable[[], None] = _nothing

    @property
    def waiting_count(self) -> int:
        """How many operations are signed, or about to be, and not known to be on the node."""
        return len(self.copy.unsent) + bool(self._pending)

    def text(self) -> str:
        """Return the text now, with what is not signed or not sent yet."""
        return self._text

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when the text changed other than by `splice`; return what ends that."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def splice(self, splices: Sequence[Splice]) -> None:
        """Change the text at once.

        Raises:
            UserFault: it would be too long, the card is full, or the key may not edit any more.
        """
        if self._ended is not None:
            raise self._ended
        text = spliced(self._text, splices)
        if len(text) > max(TEXT_CHARACTERS_MAX, len(self._text)):
            raise UserFault(
                f"the text would have {len(text)} characters; a record's description has at most "
                f"{TEXT_CHARACTERS_MAX}"
            )
        self._text = text
        for splice in splices:
            _join(self._pending, splice)
        size = sum(len(one.insert) for one in self._pending)
        if size > PENDING_CHARACTERS_MAX or len(self._pending) > PENDING_COUNT_MAX:
            self._sign()

    async def publish(self) -> int:
        """Sign what was spliced, send what was signed; return how many operations were sent.

        Raises:
            WorldFault, UserFault: it could not be sent; it waits, and may be tried again.
            BadAnswer: the node says that an operation is not valid.
        """
        self._sign_or_tell()
        count = 0
        while items := self.copy.unsent[:SEND_COUNT]:
            try:
                await self._sent(items)
            except HansaError:
                if self.copy.unsent[: len(items)] == items:
                    raise
                continue  # a new era opened meanwhile, and they are not wanted any more
            self._note_sent(items)
            count += len(items)
        return count

    async def follow(self) -> NoReturn:
        """Take in what others write, for ever.

        Raises:
            NoAuthority, RecordGone: nothing can be edited any more.
            BadAnswer: the node sends what does not hold.
        """
        pages = self.copy.pages.through(self._waiting)
        loop = asyncio.get_running_loop()
        failure_count = 0
        try:
            while True:
                wait_s = 0 if failure_count else LOG_WAIT_S
                try:
                    page = await self._in_thread(partial(pages.fetch, wait_s=wait_s))
                except (WorldFault, UserFault, BadAnswer) as fault:
                    if not failure_count:
                        self._watch.reached(fault)
                    await asyncio.sleep(min(0.1 * 2**failure_count, RETRY_S_MAX))
                    failure_count = min(failure_count + 1, 16)
                    pages.rewind()
                    continue
                if failure_count:
                    failure_count = 0
                    self._watch.reached(None)
                    self.back()
                began_s = loop.time()
                self._take(page)
                if page.done:
                    took_s = loop.time() - began_s
                    await asyncio.sleep(max(LOG_PAUSE_S, LOG_PAUSE_SHARE * took_s))
        finally:
            self._waiting.cut()

    def close(self) -> None:
        """Let the threads go; what they wait for is cut off."""
        self._waiting.cut()
        self._sending.cut()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._waiting.close()
        self._sending.close()

    def _take(self, page: RecordPage) -> None:
        """Take in a stretch of the log."""
        # What was typed counts in what is shown now: it is signed before that changes.
        if any(not self.copy.knows(item.id) for item in page.items):
            self._sign_or_tell()
        mine, era = self._text, self.copy.register.era
        self._note_sent(page.items)
        news = self.copy.take(page.items)
        if not news:
            return
        self._text = self.copy.card().text
        if self.copy.register.era != era:
            self._rebase(mine, news)
        self._watch.heard([one for one in news if isinstance(one, Operation)])
        self._check_standing(news)
        self._tell(mine)
        if self._ended is not None:
            raise self._ended

    def _rebase(self, mine: str, news: Sequence[Entry | Operation]) -> None:
        """Carry what is not on the node over into a new era, whose document is another one."""
        unsent = self.copy.unsent
        self.copy.give_up_unsent()
        if not unsent:
            return
        hidden = {*(item.id for item in unsent), *(one.id for one in news)}
        text = rebased(self.copy.text_without(hidden), mine, self._text)
        self._pending = difference(self._text, text)
        self._text = text
        self.back()  # it is to be published

    def _check_standing(self, news: Sequence[Entry | Operation]) -> None:
        """Take no more edits if they would not show."""
        try:
            if any(isinstance(one, Entry) for one in news):
                self.copy.check_may_edit(self._key.public)
            if self.copy.register.deleted:
                raise RecordGone("the record was deleted; edits of it would not show")
        except UserFault as fault:
            self._ended = fault
            if isinstance(fault, NoAuthority):
                self._pending.clear()
                self.copy.give_up_unsent()
                self._text = self.copy.card().text

    def _sign_or_tell(self) -> None:
        """Sign what was typed; if the card does not take it, take it out of the text again."""
        before = self._text
        try:
            self._sign()
        except UserFault as fault:
            self._watch.notice(f"an edit was taken back: {fault}")
        self._tell(before)

    def _sign(self) -> None:
        """Make operations of what was typed; what the card does not take is gone from the text.

        Raises:
            UserFault: it does not take all of it.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            self._sign_all(pending)
        finally:
            self._text = self.copy.card().text

    def _sign_all(self, splices: Sequence[Splice]) -> None:
        def change(draft: CardDraft) -> None:
            for one in splices:
                draft.splice(one.index, one.delete, one.insert)

        try:
            self.copy.edit(change, self._key, now_s=self._now_s())
        except EditTooLarge:
            halves = _halved(splices)
            if halves is None:
                raise
            size = sum(len(one.insert.encode()) for one in splices)
            if size > self.copy.room_bytes():
                # Before the first half: the second one would not fit, and half a paste is none.
                raise CardFull(f"the card of this era has no room for {size} bytes more") from None
            for half in halves:
                self._sign_all(half)

    def _tell(self, before: str) -> None:
        if self._text != before:
            for callback in list(self._callbacks):
                callback()

    def _note_sent(self, items: Sequence[Item]) -> None:
        unsent = {item.id for item in self.copy.unsent}
        sent = [item for item in items if item.id in unsent]
        self.copy.sent(sent)
        if sent:
            self._watch.published(sent)

    async def _sent(self, items: Sequence[Item]) -> None:
        client = self._sending
        sending = asyncio.ensure_future(self._in_thread(lambda: publish_items(client, items)))
        try:
            done, _ = await asyncio.wait([sending], timeout=SEND_S_MAX)
            if not done:
                client.cut()  # which ends it, one way or the other
                self._sending = self._connect()
            await sending
        except ItemRejected:
            raise
        except BadAnswer as fault:
            raise NotTaken(str(fault)) from fault  # a proxy's page, while the node is away
        finally:
            if client is not self._sending:
                client.close()

    async def _in_thread(self, action: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)


def _join(pending: list[Splice], new: Splice) -> None:
    """Append a splice, as one with the last if it goes on where that ended, or takes from it."""
    last = pending[-1] if pending else None
    if last is None:
        pending.append(new)
        return
    end = last.index + len(last.insert)
    if new.index == end:  # typed on, or deleted forwards
        pending[-1] = Splice(last.index, last.delete + new.delete, last.insert + new.insert)
    elif last.index <= new.index and new.index + new.delete == end:  # backspace
        kept = last.insert[: new.index - last.index]
        pending[-1] = Splice(last.index, last.delete, kept + new.insert)
    elif not last.insert and new.index + new.delete == last.index:  # backspaces over old text
        pending[-1] = Splice(new.index, new.delete + last.delete, new.insert)
    else:
        pending.append(new)


def _halved(splices: Sequence[Splice]) -> tuple[Sequence[Splice], Sequence[Splice]] | None:
    """Return the same change in two, one after the other; None if it is as small as can be."""
    if len(splices) > 1:
        middle = len(splices) // 2
        return splices[:middle], splices[middle:]
    (one,) = splices
    if one.delete and one.insert:
        first, second = Splice(one.index, one.delete, ""), Splice(one.index, 0, one.insert)
    elif one.delete > 1:
        half = one.delete // 2
        first, second = Splice(one.index, half, ""), Splice(one.index, one.delete - half, "")
    elif len(one.insert) > 1:
        half = len(one.insert) // 2
        first = Splice(one.index, 0, one.insert[:half])
        second = Splice(one.index + half, 0, one.insert[half:])
    else:
        return None
    return [first], [second]


def _nothing() -> None:
    """Nobody waits to be told."""
