"""Gossip that has come and waits to be judged: by account, fairly, bounded.

A frame may carry items of several accounts, and the network passes on what it pleases. So a frame
is taken apart by account here, and each account's part waits in its own flow: who floods keeps
only its own waiting. Too much of one account is dropped, its oldest first; catch-up brings it.

An item may say that it is of any account. It waits in the flow of one only if the key that signed
it was seen to write for that account; all others wait in the flow of the neighbour that passed
them on. So nobody gets more by inventing accounts, and nobody can fill another one's flow.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from crdt.errors import RemoteFault
from crdt.events import GossipReceived
from crdt.fairness import FairLanes
from crdt.frames import Ops, decode_gossip, encode_ops
from crdt.ids import AccountId, NetworkId, PublicKey
from crdt.items import CONTENT_BYTES_MAX, Item, ItemKind
from crdt.wire import decode_loosely

INBOX_BYTES_MAX = 16 * 1024 * 1024
"""In each lane: of one flood, some 15 000 items, three seconds of a store's work."""
ROUND_BYTES = 64 * 1024
"""Bulk that is judged in one go, 6 ms of it, before somebody prompt has a turn again."""
PAIR_COUNT_MAX = 16_384
"""Accounts with a key that are remembered, 4 MB; who wrote longest ago is forgotten first."""
_PAIR_AT = {ItemKind.OPERATION: (7, 8), ItemKind.ACCOUNT: (4, 6)}
"""Where an item's content names its account and the key that signed it."""


class Part(NamedTuple):
    """The items of one account in a frame, as a frame of their own."""

    flow: bytes
    item_count: int
    raw: bytes


class Inbox:
    """Gossip frames wait here for the store."""

    def __init__(self, network: NetworkId) -> None:
        self._network = network
        self._lanes: FairLanes[GossipReceived] = FairLanes(cost_max=INBOX_BYTES_MAX)
        self._pairs: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self.dropped_count = 0
        """Parts of frames that were dropped because their account had too much waiting."""

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def cost(self) -> int:
        """How many bytes wait."""
        return self._lanes.cost

    def learn(self, account: AccountId, key: PublicKey) -> None:
        """Remember that a key writes for an account: something of both has been admitted."""
        self._pairs[account, key] = None
        self._pairs.move_to_end((account, key))
        if len(self._pairs) > PAIR_COUNT_MAX:
            self._pairs.popitem(last=False)

    def put(self, event: GossipReceived, now_ms: int) -> None:
        """Let a frame wait, account by account."""
        for part in self.parts_of(event):
            one = GossipReceived(event.author, event.forwarder, part.raw)
            left = self._lanes.put(part.flow, one, len(part.raw), now_ms, weight=part.item_count)
            self.dropped_count += len(left)

    def take(self) -> list[GossipReceived]:
        """Return what is judged next: `ROUND_BYTES` of it or one part, what is prompt first."""
        found: list[GossipReceived] = []
        size = 0
        while self._lanes:
            cost = self._lanes.next_cost()
            if found and size + cost > ROUND_BYTES:
                break
            one = self._lanes.take()
            assert one is not None
            found.append(one)
            size += cost
        return found

    def parts_of(self, event: GossipReceived) -> list[Part]:
        """Return a gossip frame by account, in the order in which accounts appear in it.

        What cannot be read is one part as it is: whoever judges it says what is wrong.
        """
        neighbour = event.forwarder.encode()
        try:
            frame = decode_gossip(event.raw, self._network)
        except RemoteFault:
            return [Part(neighbour, 1, event.raw)]
        if not isinstance(frame, Ops):
            return [Part(neighbour, len(frame.ids), event.raw)]
        flows: dict[bytes, list[Item]] = {}
        for item in frame.items:
            pair = _pair_of(item)
            flow = pair[0] if pair in self._pairs else neighbour
            flows.setdefault(flow, []).append(item)
        if len(flows) == 1:
            return [Part(next(iter(flows)), len(frame.items), event.raw)]
        return [
            Part(flow, len(some), encode_ops(some, self._network)) for flow, some in flows.items()
        ]


def claimed_account(item: Item) -> bytes:
    """Return the account that an item says it is of, not judged; a genesis only has its root key.

    Empty if it names none.
    """
    return _pair_of(item)[0]


def _pair_of(item: Item) -> tuple[bytes, bytes]:
    """Return the account and the key that an item names; two empty ones if it names none."""
    places = _PAIR_AT.get(item.kind)
    if places is None:
        return b"", b""
    try:
        parts = decode_loosely(item.signed.content, bytes_max=CONTENT_BYTES_MAX)
    except RemoteFault:
        return b"", b""
    if len(parts) <= max(places):
        return b"", b""
    account, key = (parts[place] for place in places)
    if not isinstance(account, bytes) or not isinstance(key, bytes):
        return b"", b""
    return account, key
