"""The register against a second, slow reading of its rule, in many orders of delivery."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from crdt import Item, Operation, OperationType, Register
from tests.crdt.replicas import accept, new_replica, registers
from tests.writers import Writer

ANN = Writer("ann")


def slow_register(operations: list[Operation]) -> Register:
    """The page's words: heads are what no other operation has in its past, transitively."""
    by_id = {operation.id: operation for operation in operations}

    def past(operation: Operation) -> set[bytes]:
        found: set[bytes] = set()
        for id_ in operation.predecessors:
            found |= {id_} | past(by_id[id_])
        return found

    covered: set[bytes] = set().union(*(past(operation) for operation in operations))
    heads = [operation for operation in operations if operation.id not in covered]
    winner = max(heads, key=lambda o: (0, True, o.type is OperationType.DELETE, o.depth, o.id))
    conflicts = tuple(sorted(head.id for head in heads if head is not winner))
    tips = tuple(sorted(head.id for head in heads))
    return Register(winner.id, conflicts, winner.type is OperationType.DELETE, tips)


@dataclass(frozen=True)
class History:
    """Writes to one record, each citing some of those before it, and an order of delivery."""

    items: list[Item]
    order: list[int]


@st.composite
def histories(draw: st.DrawFn) -> History:
    items: list[Item] = []
    for number in range(draw(st.integers(1, 8))):
        cited = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        cites = tuple(items[index] for index in sorted(cited))
        if cites and draw(st.booleans()):
            items.append(ANN.delete(cites=cites, timestamp_s=number))
        else:
            items.append(ANN.put(b"v%d" % number, cites=cites, timestamp_s=number))
    order = draw(st.permutations(range(len(items))))
    return History(items, order)


@given(histories(), st.integers(1, 4), st.booleans())
def test_every_order_gives_what_the_slow_rule_gives(
    history: History, batch: int, late_genesis: bool
) -> None:
    replica = new_replica()
    delivered = [history.items[index] for index in history.order]
    delivered.insert(len(delivered) if late_genesis else 0, ANN.genesis)
    delivered += delivered[:2]  # some arrive twice
    for start in range(0, len(delivered), batch):
        accept(replica, *delivered[start : start + batch])
    expected = slow_register([ANN.opened(item) for item in history.items])
    assert registers(replica) == {ANN.record(): expected}
    assert not len(replica.pending)


def test_a_fold_of_winners_would_be_wrong() -> None:
    """The planted bug the rule warns of: winner(old, new) depends on the order of arrival."""
    first = ANN.put(timestamp_s=1)
    deep = ANN.put(b"deep", cites=(ANN.put(b"mid", cites=(first,)),))
    gone = ANN.delete(cites=(first,))
    operations = [ANN.opened(item) for item in (first, gone)]

    def fold(order: list[Operation]) -> bytes:
        shown = order[0]
        for one in order[1:]:
            if (one.depth, one.id) > (shown.depth, shown.id):
                shown = one
        return shown.id

    with_deep = [*operations, ANN.opened(ANN.put(b"mid", cites=(first,))), ANN.opened(deep)]
    assert fold(with_deep) == deep.id
    assert slow_register(with_deep).winner == gone.id
