"""Creators with accounts of their own, who write at whatever node they reach, or at two at once."""

from __future__ import annotations

from crdt import Item, PeerId
from tests.sim.swarm import Swarm
from tests.writers import Writer, make_receipt


class Creators:
    """Ann, Bob and Cem: puts of all sizes, deletes and receipts."""

    def __init__(self, swarm: Swarm) -> None:
        self._swarm = swarm
        self.writers = [Writer(name) for name in ("ann", "bob", "cem")]
        self._sequence = 0

    def write(self, name: PeerId) -> tuple[Item, Item, bytes]:
        """Write something new; return the genesis, the item and the account."""
        rng = self._swarm.rng
        writer = rng.choice(self.writers)
        self._sequence += 1
        if rng.random() < 0.2:
            lane = b"lane%d" % rng.randrange(3)
            receipt = make_receipt(writer.account, lane, self._sequence, key=writer.key)
            return writer.genesis, receipt, writer.account
        slug = f"s{rng.randrange(4)}"
        disk = self._swarm.nodes[name].disk
        change = disk.records.get(writer.record(slug))
        heads = change.register.heads if change is not None else ()
        cites = tuple(disk.items[disk.numbers[id_]] for id_ in heads[:16])  # type: ignore[index]
        if cites and rng.random() < 0.2:
            item = writer.delete(slug=slug, cites=cites, timestamp_s=self._sequence)
        else:
            body = b"v%d" % self._sequence * rng.choice((1, 1, 1, 100, 20_000))
            item = writer.put(body[:60_000], slug=slug, cites=cites, timestamp_s=self._sequence)
        return writer.genesis, item, writer.account
