"""What is remembered is bounded by its weight, and a long past is read from the store once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdt import OperationId, OperationType, Replica
from crdt.caches import WeighedCache
from crdt.cards import encode_card
from crdt.cards.updates import STRING, Struct, Update, string_content
from node.storage.memory import MemoryDisk, MemoryStorage
from tests.crdt.replicas import accept, statuses
from tests.writers import NETWORK, AnyBody, LaneReceipts, Writer

ANN = Writer("ann")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=60))
def test_the_weight_is_bounded_and_the_newest_stay(puts: list[tuple[int, int]]) -> None:
    cache: WeighedCache[int, int] = WeighedCache(20)
    model: dict[int, int] = {}
    for key, weight in puts:
        cache.put(key, weight, weight)
        model.pop(key, None)
        model[key] = weight
        while sum(model.values()) > 20:
            del model[next(iter(model))]
        assert cache.weight == sum(model.values()) <= 20
        assert len(cache) == len(model)
    assert {key: cache.get(key) for key in range(10)} == {key: model.get(key) for key in range(10)}


def test_what_is_used_stays() -> None:
    cache: WeighedCache[str, int] = WeighedCache(2)
    cache.put("a", 1, 1)
    cache.put("b", 2, 1)
    assert cache.get("a") == 1
    cache.put("c", 3, 1)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    cache.put("huge", 4, 3)
    assert (cache.get("huge"), len(cache)) == (None, 2)


class CountingStorage(MemoryStorage):
    """The memory store, and how many operations it was asked for."""

    asked = 0

    def operations(self, ids):
        self.asked += len(ids)
        return super().operations(ids)


def card(*table: OperationId, text: str) -> bytes:
    raw, length, _ = string_content(text)
    left = (1, 0) if table else None
    parent = None if table else "text"
    struct = Struct(0, length, STRING, left, None, parent, False, None, raw)
    return encode_card(table, Update((struct,), ()))


def test_a_walk_down_a_long_past_asks_the_store_once() -> None:
    """A card that refers to the seed under 400 others: each walked 400 reads of the store."""
    storage = CountingStorage(MemoryDisk(b"e" * 16))
    replica = Replica(NETWORK, storage, AnyBody(), LaneReceipts())
    put = ANN.put(b"seed")
    last, chain = put, [put]
    for number in range(400):
        last = ANN.write(OperationType.CARD, card(text=f"x{number}"), cites=(last,))
        chain.append(last)
    accept(replica, ANN.genesis, *chain)
    storage.asked = 0
    for number in range(10):
        body = card(OperationId(put.id), text=f"y{number}")
        one = ANN.write(OperationType.CARD, body, cites=(last,))
        assert statuses(accept(replica, one)) == ["new"]
    assert storage.asked < 500
    stranger = ANN.put(b"stranger")
    accept(replica, stranger)
    foreign = card(OperationId(stranger.id), text="z")
    refused = accept(replica, ANN.write(OperationType.CARD, foreign, cites=(last,)))
    assert "not in its past" in str(refused.outcomes[0].fault)
