"""Which records the `model` of a call means."""

from __future__ import annotations

from typing import Any

import pytest

from crdt import (
    AccountId,
    OperationType,
    RecordId,
    RecordKind,
    Register,
    SigningKey,
    make_operation,
    network_id,
    parse_operation,
)
from node.gateway import CatalogueModels, NoModel
from node.storage import RecordState
from registry import encode_record, validate

NETWORK = network_id("test")
OWNER = AccountId(b"\x0a" * 32)
KEY = SigningKey(b"\x01" * 32)


def state(slug: str, kind: RecordKind = RecordKind.MODEL, **fields: Any) -> RecordState:
    record = validate(kind, {"name": slug, **fields})
    body = encode_record(record)
    item = make_operation(
        network=NETWORK, kind=kind, slug=slug, type=OperationType.PUT, account=OWNER, key=KEY,
        account_heads=(OWNER,), predecessors=(), depth=1, body=body, timestamp_s=1,
    )  # fmt: skip
    operation = parse_operation(item, NETWORK)
    return RecordState(
        id=operation.record, kind=kind, account=OWNER, slug=slug, operation=operation, body=body,
        register=Register(operation.id, (), False, (operation.id,)), n=1,
    )  # fmt: skip


class Shelf:
    """A catalogue of a few records, all of them served."""

    def __init__(self, *states: RecordState) -> None:
        self.states = {one.id: one for one in states}

    def record(self, record: RecordId) -> RecordState | None:
        return self.states.get(record)

    def find_slug(self, owner: str, slug: str) -> RecordState | None:
        return next((s for s in self.states.values() if s.slug == slug), None)

    def records(self) -> set[RecordId]:
        return set(self.states)


TINY = state("tiny", version="1.4.0", capabilities=["chat"], context_length=512)
LARGE = state(
    "large", capabilities=["chat", "tools"], context_length=8192, price={"input": 5, "output": 9}
)
CLERK = state("clerk", RecordKind.AGENT)
MODELS = CatalogueModels(*[Shelf(TINY, LARGE, CLERK)] * 2)


@pytest.mark.parametrize(
    ("reference", "wanted"),
    [
        (TINY.id.hex(), [TINY]),
        (f"{OWNER.hex()[:16]}/tiny", [TINY]),
        (f"{OWNER.hex()[:16]}/tiny@^1.2", [TINY]),
        ("any:llm?caps=tools", [LARGE]),
        ("any:llm?caps=chat&ctx>=8192", [LARGE]),
        ("any:llm?caps=chat&max_price=4", [TINY]),
    ],
)
def test_a_reference_means_the_records_it_names(reference: str, wanted: list[RecordState]) -> None:
    assert [*MODELS.resolve(reference)] == [one.id for one in wanted]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("gpt-4", "names no record"),
        ("ab" * 32, "is known here"),
        (f"{OWNER.hex()[:16]}/tiny@^2", "1.4.0"),
        (CLERK.id.hex(), "agent"),
        ("any:llm?caps=fly", "served now"),
        ("any:llm?colour=red", "colour"),
        ("", "names no record"),
        ("a" * 5000, "5000 characters"),
    ],
)
def test_what_names_nothing_says_why(reference: str, said: str) -> None:
    with pytest.raises(NoModel, match=said):
        MODELS.resolve(reference)
