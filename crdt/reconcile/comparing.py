"""One comparison with one peer, and how a peer's are answered. Pure but for the set it is given.

Asking takes two exchanges, as a rule: are the digests equal, and if not, a sketch that names what
only one side has. What only the peer has is picked by short id. At the end the digest of what we
had, without what only we have and with what came, must be the peer's: then its store has been read
up to the cursor that it gave. A sketch that keeps something back does not get so far, and none is
long enough for everything: then the peer is asked for ranges (`narrowing`), which end with the same
digest. Where that fails too, the store is read by cursor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from crdt.errors import MalformedBytes
from crdt.frames import RequestFrame
from crdt.framing import FETCH_COUNT_MAX
from crdt.ids import ItemId, NetworkId, PeerId
from crdt.items import Item
from crdt.ports import Cursor
from crdt.reconcile.frames import (
    AskRanges,
    AskSketch,
    Compare,
    Compared,
    Held,
    Part,
    Pick,
    Picked,
    Ranged,
    Sketched,
    Take,
    decode_compared,
    decode_picked,
    decode_ranged,
    decode_sketched,
)
from crdt.reconcile.idset import IdSet, Words, digest_of, id_at, merged, without
from crdt.reconcile.keys import (
    CELL_COUNT_MAX,
    NONCE_BYTES,
    ComparisonKey,
    TooDifferent,
    comparison_key,
)
from crdt.reconcile.moments import Moment
from crdt.reconcile.narrowing import FOUND_COUNT_MAX, Narrowing
from crdt.reconcile.ranges import Ranges, mark_of, parts_of, taken
from crdt.reconcile.sketches import (
    Cells,
    apart,
    cells_for,
    estimated,
    joined,
    short_of,
    shorts_of,
    signs_of,
    sketch,
    unpack_cells,
)

ROUND_COUNT_MAX = 3
"""Sketches asked for in one comparison: the first has enough cells nine times in ten."""
REFUSAL_COUNT_MAX = 10
"""Times in a row that ranges are asked for again, a second later each: a peer has a budget."""
DEPTH_FEW, DEPTH_MANY = 0, 2
"""Where ranges begin: thousands of differences are in each of the first 256 anyway."""


@dataclass(slots=True)
class Comparison:
    """What is remembered while one peer is compared with.

    Attributes:
        held: What the peer held when its last sketch was made, or at first.
        rows: What we held when that sketch was taken apart.
        wanted: Short ids that only the peer has, and that have not come yet.
        ours: Ids that only we have.
        got: Ids of items that have come.
        narrowing: What is known of its ranges, once the sketch has failed.
        moment_n: The newest arrival of the set that it tells the ranges of.
        asked: The last request.
        refusals: How often in a row it was not answered.
    """

    nonce: bytes
    network: NetworkId
    answerer_nonce: bytes = b""
    held: Held | None = None
    rows: Words | None = None
    cells: Cells | None = None
    rounds: int = 0
    wanted: set[int] = field(default_factory=set[int])
    ours: list[ItemId] = field(default_factory=list[ItemId])
    got: list[ItemId] = field(default_factory=list[ItemId])
    narrowing: Narrowing | None = None
    moment_n: int = 0
    asked: RequestFrame | None = None
    refusals: int = 0

    def ask(self) -> Compare:
        """Return the first request."""
        return Compare(self.nonce)

    def ask_again(self) -> RequestFrame | None:
        """Return the request that was refused; None: there is no point in it.

        Who has told of ranges before knows such requests, and has done enough for now.
        """
        self.refusals += 1
        is_worth_it = self.moment_n and self.refusals <= REFUSAL_COUNT_MAX
        return self.asked if is_worth_it else None

    def answered(self, raw: bytes, ids: IdSet) -> tuple[RequestFrame | None, tuple[Item, ...]]:
        """Return the next request, or None at the end, and the items that have come.

        Raises:
            RemoteFault: the answer makes no sense.
            TooDifferent: the comparison has failed.
        """
        self.refusals = 0
        self.asked, items = self._answered(raw, ids)
        return self.asked, items

    def _answered(self, raw: bytes, ids: IdSet) -> tuple[RequestFrame | None, tuple[Item, ...]]:
        if self.narrowing is not None:
            return self.narrowed(raw)
        try:
            request, items = self._told(raw, ids)
        except TooDifferent:
            if self.held is None or not self._is_like(ids):
                raise
            return self.narrow(ids, DEPTH_MANY), ()
        if request is None and not self.is_whole() and self._is_like(ids):
            return self.narrow(ids, DEPTH_FEW), items
        return request, items

    def _told(self, raw: bytes, ids: IdSet) -> tuple[RequestFrame | None, tuple[Item, ...]]:
        if self.held is None:
            return self.compared(decode_compared(raw, self.network), ids), ()
        if self.rows is None:
            return self.sketched(decode_sketched(raw, self.network), ids), ()
        answer = decode_picked(raw, self.network)
        self.picked(answer)
        return self.pick(), answer.items

    def _is_like(self, ids: IdSet) -> bool:
        """Whether both hold so much of the same that ranges may tell more than pages would."""
        assert self.held is not None
        count, theirs = len(ids.rows()), self.held.count
        return 2 * count >= theirs > 0 and abs(count - theirs) <= FOUND_COUNT_MAX

    @property
    def cursor(self) -> Cursor:
        """Where the peer's store has been read to when this ends well."""
        assert self.held is not None
        return Cursor(self.held.epoch, self.held.last_n)

    def compared(self, answer: Compared, ids: IdSet) -> AskSketch | None:
        """Return the wish for a sketch, or None: both hold the same.

        Raises:
            TooDifferent: by the counts alone it takes more than the longest sketch.
        """
        self.answerer_nonce, self.held = answer.nonce, answer.held
        rows = ids.rows()
        if answer.held.count == len(rows) and digest_of(rows, self._key) == answer.held.digest:
            return None
        if abs(answer.held.count - len(rows)) > CELL_COUNT_MAX // 2:
            raise TooDifferent
        signs = signs_of(shorts_of(rows, self._key), self._key)
        return AskSketch(self.nonce, signs)

    def sketched(self, answer: Sketched, ids: IdSet) -> AskSketch | Pick | None:
        """Return the next request: more cells, or items; None: the peer has nothing that we lack.

        Raises:
            MalformedBytes: the cells are not a sketch.
            TooDifferent: there is no sketch, or it does not come apart.
        """
        self.rounds += 1
        if not answer.cells:
            raise TooDifferent
        if self.cells is not None and answer.held != self.held:
            raise TooDifferent  # its set has changed: the cells do not fit together
        self.held = answer.held
        cells = unpack_cells(answer.cells)
        self.cells = cells if self.cells is None else joined(self.cells, cells)
        if len(self.cells) > CELL_COUNT_MAX:
            raise MalformedBytes("more cells than were asked for")
        rows = ids.rows()
        shorts = shorts_of(rows, self._key)
        found = apart(sketch(shorts, self._key, len(self.cells)), self.cells, self._key)
        if found is None:
            count = min(CELL_COUNT_MAX, len(self.cells) * 3 // 2 + 8)
            if self.rounds == ROUND_COUNT_MAX or count == len(self.cells):
                raise TooDifferent
            return AskSketch(self.nonce, b"", len(self.cells), count)
        ours, self.wanted = found
        self.rows, self.cells = rows, None
        places = np.flatnonzero(np.isin(shorts, np.fromiter(ours, np.uint64, len(ours))))
        if len(places) != len(ours):
            raise MalformedBytes("a sketch that gives away ids that are not there")
        self.ours = [id_at(rows, at) for at in places.tolist()]
        return self.pick()

    def pick(self) -> Pick | None:
        """Return the request for more items; None when all have come."""
        if not self.wanted:
            return None
        return Pick(self.nonce, tuple(sorted(self.wanted)[:FETCH_COUNT_MAX]))

    def picked(self, answer: Picked) -> None:
        """Take note of what has come.

        Raises:
            MalformedBytes: something that was not asked for, or nothing at all.
            TooDifferent: the peer lacks what it gave away: it has dropped it.
        """
        ids = [item.id for item in answer.items]
        shorts = {short_of(id_, self._key) for id_ in ids}
        if len(shorts) != len(ids) or not self.wanted.issuperset((*shorts, *answer.absent)):
            raise MalformedBytes("picked items that were not asked for")
        if answer.absent:
            raise TooDifferent
        if not ids:
            raise MalformedBytes("an answer to a pick that says nothing")
        self.wanted -= shorts
        self.got += ids

    def narrow(self, ids: IdSet, depth: int) -> RequestFrame | None:
        """Begin with ranges, whatever the sketch has said; what has come of it is ours now."""
        rows = ids.rows()
        self.rows = merged(rows, self.got) if self.got else rows
        self.cells, self.wanted = None, set()
        self.ours, self.got = [], []
        self.narrowing = Narrowing(Ranges.of(self.rows), self._key, depth=depth)
        return self.narrowing.ask(self.nonce, 0)

    def narrowed(self, raw: bytes) -> tuple[RequestFrame | None, tuple[Item, ...]]:
        """Take note of ranges or of what was taken from them; return as `answered` does."""
        narrowing = self.narrowing
        assert narrowing is not None
        items: tuple[Item, ...] = ()
        if narrowing.is_taking:
            answer = decode_picked(raw, self.network)
            narrowing.came([item.id for item in answer.items], answer.absent)
            items = answer.items
            self.got += [item.id for item in items]
        else:
            ranged = decode_ranged(raw, self.network)
            self._check_moment(ranged)
            narrowing.told(ranged.parts)
        self.ours = narrowing.ours
        return narrowing.ask(self.nonce, self.moment_n), items

    def _check_moment(self, ranged: Ranged) -> None:
        """Check that what a peer tells is of one set."""
        if not ranged.parts:
            raise TooDifferent  # it keeps that set no more
        if self.moment_n and ranged.held != self.held:
            raise TooDifferent
        self.held, self.moment_n = ranged.held, ranged.held.last_n

    def is_whole(self) -> bool:
        """Whether what came makes our set the peer's, but for what only we have."""
        assert self.held is not None
        if self.rows is None:
            return True  # equal from the start
        rows = without(self.rows, self.ours) if self.ours else self.rows
        if self.got:
            rows = merged(rows, self.got)
        return len(rows) == self.held.count and digest_of(rows, self._key) == self.held.digest

    @property
    def _key(self) -> ComparisonKey:
        return comparison_key(self.network, self.nonce, self.answerer_nonce)


class Answers:
    """Answers comparisons without remembering any: its nonces follow from who asks with what."""

    def __init__(self, network: NetworkId, secret: bytes) -> None:
        """Take 32 bytes that nobody else knows."""
        assert len(secret) == 32
        self._network = network
        self._secret = secret

    def nonce(self, peer: PeerId, nonce: bytes) -> bytes:
        """Return our half of a comparison's key: nobody can choose it or know it before."""
        return blake3(peer.encode() + nonce, key=self._secret).digest(NONCE_BYTES)

    def compare(self, peer: PeerId, request: Compare, held: Held, rows: Words) -> Compared:
        """Return what is held, with its digest; `held` comes without one."""
        mine = self.nonce(peer, request.nonce)
        return Compared(mine, self._digested(held, rows, self._key(peer, request.nonce)))

    def sketch(self, peer: PeerId, request: AskSketch, held: Held, rows: Words) -> Sketched:
        """Return the cells that were asked for, or none when the difference is too great."""
        key = self._key(peer, request.nonce)
        held = self._digested(held, rows, key)
        shorts = shorts_of(rows, key)
        count = request.count
        if not count:
            difference = estimated(signs_of(shorts, key), request.signs)
            if difference > CELL_COUNT_MAX // 2:
                return Sketched(held, b"")
            count = cells_for(difference)
        return Sketched(held, sketch(shorts, key, count).pack(request.first))

    def picked(self, peer: PeerId, request: Pick, rows: Words) -> tuple[list[ItemId], list[int]]:
        """Return the ids behind short ids, and the short ids behind which there is none."""
        key = self._key(peer, request.nonce)
        shorts = shorts_of(rows, key)
        wanted = np.fromiter(request.shorts, np.uint64, len(request.shorts))
        places = np.flatnonzero(np.isin(shorts, wanted)).tolist()
        return [id_at(rows, at) for at in places], _absent(
            request.shorts, (int(shorts[at]) for at in places)
        )

    def ranged(
        self, peer: PeerId, request: AskRanges, moment: Moment
    ) -> tuple[Held, list[Part], int]:
        """Return what is held, what its ranges hold, and how many ids were hashed for that."""
        key = self._key(peer, request.nonce)
        held, hashed = moment.held(key)
        parts, more = parts_of(moment.ranges, key, request.depth, request.starts)
        return held, parts, hashed + more

    def taken(self, peer: PeerId, request: Take, held: Ranges) -> tuple[list[ItemId], list[int]]:
        """Return the ids behind marks in ranges, and the marks behind which there is none."""
        return taken(held, self._key(peer, request.nonce), request.depth, request.places)

    def named(self, peer: PeerId, request: Pick | Take, ids: Iterable[ItemId]) -> list[int]:
        """Return how a request named some ids: by short ids, or by marks."""
        key = self._key(peer, request.nonce)
        name = short_of if isinstance(request, Pick) else mark_of
        return [name(id_, key) for id_ in ids]

    def _key(self, peer: PeerId, nonce: bytes) -> ComparisonKey:
        return comparison_key(self._network, nonce, self.nonce(peer, nonce))

    def _digested(self, held: Held, rows: Words, key: ComparisonKey) -> Held:
        return Held(held.epoch, held.last_n, len(rows), digest_of(rows, key))


def _absent(asked: Collection[int], found: Iterable[int]) -> list[int]:
    return sorted(set(asked).difference(found))
