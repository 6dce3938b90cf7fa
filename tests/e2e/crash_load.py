"""Creators who write to a node over HTTP all at once, and who note what it answered to each write.

What is sent is made by the product's own client; a spoiled write is one of those, changed in one
field and signed again, so that nothing but the rule under test stands between it and the store.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crdt import Item, Signed, SigningKey, decode, encode, pack_item, record_id, seal
from node.client import (
    KINDS,
    AccountCard,
    ApiProblem,
    BadAnswer,
    Client,
    ConnectionCut,
    CreatorAccount,
    Head,
    NodeUnreachable,
    open_log,
    prepare,
)
from node.client import Writer as RecordWriter
from tests.writers import NOW_S, Writer

SLUG_COUNT = 10
"""Records that a creator comes back to; one write in eight founds another."""
PAUSE_S_MAX = 0.01
"""Between two writes of one creator, so that the nodes get some of the machine too."""
HEAD_COUNT_MAX = 16
KEY_PLACE, PREDECESSORS_PLACE, DEPTH_PLACE = 8, 11, 12
_ticks = itertools.count(1)
"""No two writes have the same content, not even one that is spoiled and the one it was made of."""

Spoil = Callable[[Item, SigningKey, random.Random], Item]


@dataclass(frozen=True, slots=True)
class Sent:
    """A write that left for a node: the node's URL, and in which round of load that was."""

    item: Item
    genesis: Item
    url: str
    round: int


class Notes:
    """What all writers sent and what became of it, as far as they were told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.round = 0
        self.sent: dict[bytes, Sent] = {}
        self.acknowledged: dict[bytes, Sent] = {}
        self.refused: dict[bytes, ApiProblem] = {}
        self.spoiled: dict[bytes, bytes] = {}
        self.open: set[bytes] = set()
        self.complaints: list[str] = []

    def sending(self, item: Item, genesis: Item, url: str) -> None:
        """Note a write before its first byte leaves."""
        with self._lock:
            self.sent[item.id] = Sent(item, genesis, url, self.round)
            self.open.add(item.id)

    def answered(self, item: Item, problem: ApiProblem | None) -> None:
        """Note what the node said; a 5xx leaves open what became of the write."""
        with self._lock:
            self.open.discard(item.id)
            if problem is None:
                self.acknowledged[item.id] = self.sent[item.id]
            elif problem.status < 500:
                self.refused[item.id] = problem
            else:
                self.complaints.append(f"HTTP {problem.status} {problem.code}: {problem}")

    def spoiling(self, item: Item) -> None:
        """Note an invalid write before it leaves."""
        with self._lock:
            self.spoiled[item.id] = item.raw

    def story(self, id_: bytes) -> str:
        """Return what is known of an item, for a message."""
        if id_ in self.spoiled:
            return f"{id_.hex()} (spoiled on purpose)"
        if id_ in self.refused:
            problem = self.refused[id_]
            return f"{id_.hex()} (refused: {problem.status} {problem.code}: {problem})"
        return f"{id_.hex()} ({'sent with other bytes' if id_ in self.sent else 'never sent'})"

    def complain(self, what: str) -> None:
        """Note something that may not happen."""
        with self._lock:
            self.complaints.append(what)

    def in_flight(self) -> frozenset[bytes]:
        """Return the writes that wait for their answer now."""
        with self._lock:
            return frozenset(self.open)

    def frozen(self) -> Notes:
        """Return these notes as they stand at one moment, while creators go on writing."""
        copy = Notes()
        with self._lock:
            copy.round, copy.open = self.round, set(self.open)
            copy.sent, copy.acknowledged = dict(self.sent), dict(self.acknowledged)
            copy.refused, copy.spoiled = dict(self.refused), dict(self.spoiled)
            copy.complaints = list(self.complaints)
        return copy

    def close_round(self) -> frozenset[bytes]:
        """Begin the next round and return the writes that nobody will answer any more."""
        with self._lock:
            self.round += 1
            unanswered = frozenset(self.open)
            self.open.clear()
            return unanswered


class NotingClient(Client):
    """The product's client, with its writes noted, and spoiled when told to."""

    def __init__(self, url: str, creator: CreatorAccount, notes: Notes) -> None:
        super().__init__(url, creator=creator)
        self._genesis = creator.card.genesis
        self._notes = notes
        self.spoil: Callable[[Item], Item] | None = None

    def write(
        self, method: str, path: str, value: Mapping[str, Any] | None, operation: Item | None,
        *, if_match: str | None = None,
    ) -> Any:  # fmt: skip
        """Send a write and note what came of it."""
        assert operation is not None
        if self.spoil is not None:
            return self._write_spoiled(method, path, value, self.spoil(operation))
        self._notes.sending(operation, self._genesis, self.url)
        try:
            answer = super().write(method, path, value, operation, if_match=if_match)
        except ApiProblem as problem:
            self._notes.answered(operation, problem)
            raise
        self._notes.answered(operation, None)
        return answer

    def _write_spoiled(
        self, method: str, path: str, value: Mapping[str, Any] | None, operation: Item
    ) -> None:
        self._notes.spoiling(operation)
        try:
            super().write(method, path, value, operation)
        except ApiProblem as problem:
            if problem.status >= 500:
                self._notes.complain(f"HTTP {problem.status} to an invalid write: {problem}")
            raise
        self._notes.complain(f"invalid write {operation.id.hex()} was acknowledged")


class LoadWriter(threading.Thread):
    """One creator who writes as fast as the node answers, until told to stop or the node is gone.

    Args:
        pause_s_max: Between two writes, drawn; longer for a creator who leaves others room.

    Attributes:
        lost: How the node went away, if it did.
    """

    def __init__(
        self, url: str, who: Writer, seed: int, notes: Notes, *, pause_s_max: float = PAUSE_S_MAX
    ) -> None:
        super().__init__(daemon=True)
        self._pause_s_max = pause_s_max
        self.url = url
        self.stop = threading.Event()
        self.lost: Exception | None = None
        self._who = who
        self._rng = random.Random(seed)
        self._notes = notes
        self._client = NotingClient(url, creator_of(who), notes)
        self._records = RecordWriter(self._client, creator_of(who))
        self._old_heads: dict[str, list[Head]] = {}

    def run(self) -> None:
        """Write."""
        try:
            with self._client:
                while not self.stop.is_set():
                    self._step()
                    self.stop.wait(self._rng.uniform(0, self._pause_s_max))
        except (NodeUnreachable, ConnectionCut, BadAnswer) as error:
            self.lost = error
        except Exception as error:
            self._notes.complain(f"a writer broke: {type(error).__name__}: {error}")

    def _step(self) -> None:
        rng = self._rng
        plural = rng.choice(("models", "models", "agents"))
        number = rng.randrange(10**9) if rng.random() < 0.125 else rng.randrange(SLUG_COUNT)
        slug = f"thing-{number}"
        record = record_id(self._who.network, KINDS[plural], self._who.account, slug)
        shown, heads = self._records.look(plural, record)
        heads, now_s = heads[:HEAD_COUNT_MAX], NOW_S + next(_ticks)
        draft = prepare(plural, self._data(), slug=slug, now_s=now_s)
        choice = rng.random()
        self._client.spoil = self._spoil() if choice < 0.15 else None
        try:
            if shown is None:
                self._records.create(draft, now_s=now_s)
            elif 0.15 <= choice < 0.3:
                self._records.delete(plural, slug, record, heads, now_s=now_s)
            else:
                # One in ten builds on what it saw before, as a creator offline would: a conflict.
                cited = self._old_heads.get(slug + plural, heads) if choice > 0.9 else heads
                self._records.replace(draft, record, cited, now_s=now_s)
        except ApiProblem:
            return  # noted; another creator of the same account was faster, or it was spoiled
        self._old_heads[slug + plural] = heads

    def _data(self) -> dict[str, Any]:
        length = self._rng.choice((10, 200, 4000, 15000))
        return {
            "name": f"Thing {self._rng.randrange(1000)}",
            "description": f"{self._rng.getrandbits(4 * length):x}",
            "tags": [f"tag-{self._rng.randrange(50)}"],
        }

    def _spoil(self) -> Callable[[Item], Item]:
        spoil = self._rng.choice(SPOILS)
        return lambda item: spoil(item, self._who.key, self._rng)


def creator_of(who: Writer) -> CreatorAccount:
    """Return a test creator as the product's client takes it."""
    log = open_log([who.genesis], who.account, who.network)
    card = AccountCard("writer", who.account, "test", who.network, who.key.public, log)
    return CreatorAccount(card, who.key)


def with_bad_signature(item: Item, _key: SigningKey, rng: random.Random) -> Item:
    """Return the item with one bit of its signature changed."""
    signature = bytearray(item.signed.signature)
    signature[rng.randrange(64)] ^= 1 << rng.randrange(8)
    return pack_item(item.kind, Signed(item.signed.content, bytes(signature)), item.body)


def with_wrong_depth(item: Item, key: SigningKey, rng: random.Random) -> Item:
    """Return the item claiming to be deeper than what it cites makes it."""
    depth = _parts(item)[DEPTH_PLACE]
    return _resigned(item, DEPTH_PLACE, depth + rng.choice((1, 7, 2**20)), key)


def with_unknown_cause(item: Item, key: SigningKey, rng: random.Random) -> Item:
    """Return the item citing one more operation, which nobody ever signed."""
    known = _parts(item)[PREDECESSORS_PLACE][: HEAD_COUNT_MAX - 1]
    return _resigned(item, PREDECESSORS_PLACE, sorted([*known, rng.randbytes(32)]), key)


def with_key_of_a_stranger(item: Item, _key: SigningKey, rng: random.Random) -> Item:
    """Return the item signed by a key that its account knows nothing of."""
    stranger = SigningKey(rng.randbytes(32))
    return _resigned(item, KEY_PLACE, stranger.public, stranger)


SPOILS: tuple[Spoil, ...] = (
    with_bad_signature, with_wrong_depth, with_unknown_cause, with_key_of_a_stranger,
)  # fmt: skip


def _parts(item: Item) -> list[Any]:
    return list(decode(item.signed.content, bytes_max=1 << 16))


def _resigned(item: Item, place: int, value: Any, key: SigningKey) -> Item:
    parts = _parts(item)
    assert type(parts[place]) is (tuple if isinstance(value, list) else type(value))
    parts[place] = value
    return pack_item(item.kind, seal(encode(parts), key), item.body)
