"""Cards without a node: each replica is a pycrdt document, and what it publishes is an update."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pycrdt import Doc, Text

from crdt import UserFault, WorldFault
from node.live import Splice


class Unreachable(WorldFault):
    code = "unreachable"


class TooLong(UserFault):
    code = "too-long"


class Replicas:
    """All replicas of one card. What one publishes reaches the others at once, or on `release`.

    Attributes:
        operations: Everything that was published, the first text too.
        is_down: Publishing fails.
    """

    def __init__(self, text: str = "", *, held: bool = False) -> None:
        first = Doc(client_id=1)
        first.get("text", type=Text).insert(0, text)
        self.operations = [first.get_update()]
        self.is_down = False
        self.publish_gate = asyncio.Event()
        self.publish_gate.set()
        self._held = held
        self._changed = asyncio.Event()
        self._cards: list[MemoryCard] = []
        self._waiting: list[tuple[MemoryCard, bytes]] = []

    def card(self, *, character_max: int = 100_000) -> MemoryCard:
        """Return another replica, which has everything that was published."""
        card = MemoryCard(self, 100 + len(self._cards), self.operations, character_max)
        self._cards.append(card)
        return card

    def published(self, sender: MemoryCard, update: bytes) -> None:
        self.operations.append(update)
        self._waiting.append((sender, update))
        if not self._held:
            self.deliver()
        self._changed.set()

    def release(self) -> None:
        self._held = False
        self.deliver()

    def deliver(self) -> None:
        """Bring what was published to everybody else."""
        waiting, self._waiting = self._waiting, []
        for sender, update in waiting:
            for card in self._cards:
                if card is not sender:
                    card.hear(update)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something is so; looked at after each operation."""
        async with asyncio.timeout(20):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def replayed(self) -> str:
        """Return the text that a newcomer makes of the operations alone."""
        doc = Doc()
        for operation in self.operations:
            doc.apply_update(operation)
        return str(doc.get("text", type=Text))


class MemoryCard:
    """One replica: a `CardText`."""

    def __init__(
        self, replicas: Replicas, client: int, operations: Sequence[bytes], character_max: int
    ) -> None:
        self._replicas = replicas
        self._character_max = character_max
        self._doc = Doc(client_id=client)
        self._text = self._doc.get("text", type=Text)
        for operation in operations:
            self._doc.apply_update(operation)
        self._published_state = self._doc.get_state()
        self._has_edits = False
        self._claim: str | None = None
        self._callbacks: list[Callable[[], None]] = []
        self.splice_count = 0
        self.publish_count = 0

    def text(self) -> str:
        return str(self._text) if self._claim is None else self._claim

    def splice(self, splices: Sequence[Splice]) -> None:
        text = self.text()
        grown = len(text) + sum(len(splice.insert) - splice.delete for splice in splices)
        if grown > self._character_max:
            raise TooLong(f"the text would have {grown} characters; {self._character_max} fit")
        with self._doc.transaction():
            for splice in splices:
                self._apply(splice)
        self._has_edits = True
        self.splice_count += 1

    def _apply(self, splice: Splice) -> None:
        text = self.text()
        end = splice.index + splice.delete
        assert 0 <= splice.index <= end <= len(text)
        start = len(text[: splice.index].encode())
        del self._text[start : start + len(text[splice.index : end].encode())]
        self._text.insert(start, splice.insert)

    async def publish(self) -> int:
        await self._replicas.publish_gate.wait()
        if self._replicas.is_down:
            raise Unreachable("the node does not answer")
        if not self._has_edits:
            return 0
        self._has_edits = False
        update = self._doc.get_update(self._published_state)
        self._published_state = self._doc.get_state()
        self.publish_count += 1
        self._replicas.published(self, update)
        return 1

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def hear(self, update: bytes) -> None:
        before = self.text()
        self._doc.apply_update(update)
        if self.text() != before:
            for callback in list(self._callbacks):
                callback()

    def say(self, text: str) -> None:
        """Claim another text from now on, as only a broken card would."""
        self._claim = text
        for callback in list(self._callbacks):
            callback()

    def write(self, splice: Splice) -> None:
        """Be somebody else who writes: as if it had come from the node."""
        self._apply(splice)
        for callback in list(self._callbacks):
            callback()
