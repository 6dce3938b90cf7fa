"""What queries mean: one suite for the SQL and for the fake's plain reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdt import Item, OperationId, RecordKind
from node.storage import SqliteStorage
from node.storage.memory_search import words_of
from node.storage.queries import decode_cursor
from registry import BadQuery, Page, Query, encode_record, validate
from tests.contract.test_storage import Store, store  # noqa: F401 - the fixture
from tests.writers import Writer

ANN = Writer("ann")
BOB = Writer("bob")


def model(slug: str, writer: Writer = ANN, *, cites: tuple[Item, ...] = (), **fields: Any) -> Item:
    values = {"name": slug, "license": "MIT", **fields}
    body = encode_record(validate(RecordKind.MODEL, values))
    return writer.put(body, slug=slug, cites=cites)


def agent(slug: str, **fields: Any) -> Item:
    body = encode_record(validate(RecordKind.AGENT, {"name": slug, **fields}))
    return ANN.put(body, slug=slug, kind=RecordKind.AGENT)


PRICE = {"input": 100, "output": 300}
ITEMS = {
    "tiny": model(
        "tiny", parameters=100, context_length=2048, tags=["small", "chat"],
        capabilities=["chat", "tools"], description="A tiny Llama for tests", price=PRICE,
        updated_at=30,
    ),
    "large": model(
        "large", parameters=7000, context_length=8192, tags=["big"], capabilities=["chat"],
        description="Écrit en français", license="Apache-2.0", framework="JAX", quantization="INT4",
        regions=["eu"], segments=["medical"], updated_at=20,
        resource_requirements={
            "requires_gpu": True, "min_vram_gb": 24, "min_memory_mb": 9000,
            "recommended_memory_mb": 9000,
        },
    ),
    "embed": model(
        "embed", BOB, model_type="Embedding", description="vectors", status="withdrawn",
        updated_at=10,
    ),
    "other": model("other", BOB, model_type={"Other": "Chess"}, updated_at=40),
    "helper": agent("helper", tags=["chat"], description="llama farm", updated_at=50),
}  # fmt: skip


@pytest.fixture
def filled(store: Store) -> Store:  # noqa: F811
    store.accept(ANN.genesis, BOB.genesis, *ITEMS.values())
    project(store)
    return store


def project(store: Store) -> None:  # noqa: F811
    while store.storage.project(2):  # type: ignore[attr-defined]
        pass


def found(page: Page) -> list[str]:
    return [hit.slug for hit in page.hits]


@pytest.mark.parametrize(
    ("fields", "slugs"),
    [
        ({}, {"tiny", "large", "other", "helper"}),
        ({"kinds": (RecordKind.MODEL,)}, {"tiny", "large", "other"}),
        ({"kinds": (RecordKind.AGENT,)}, {"helper"}),
        ({"text": "llama"}, {"tiny", "helper"}),
        ({"text": "LLAMA test"}, {"tiny"}),
        ({"text": "francais"}, {"large"}),
        ({"text": "chat"}, {"tiny", "helper"}),
        ({"text": "lla"}, {"tiny", "helper"}),
        ({"text": "ama"}, set()),
        ({"text": '" OR *) -- NEAR('}, set()),
        ({"text": "!!!"}, set()),
        ({"types": ("LLM",)}, {"tiny", "large"}),
        ({"types": ("Chess", "Assistant")}, {"other", "helper"}),
        ({"frameworks": ("JAX",)}, {"large"}),
        ({"licenses": ("Apache-2.0",)}, {"large"}),
        ({"quantizations": ("INT4", "FP8")}, {"large"}),
        ({"capabilities": ("chat",)}, {"tiny", "large"}),
        ({"capabilities": ("chat", "tools")}, {"tiny"}),
        ({"tags": ("chat", "big")}, {"tiny", "large", "helper"}),
        ({"regions": ("eu",)}, {"large"}),
        ({"segments": ("medical",)}, {"large"}),
        ({"statuses": ("withdrawn",)}, {"embed"}),
        ({"statuses": ()}, {"tiny", "large", "embed", "other", "helper"}),
        ({"owner": BOB.account.hex()}, {"other"}),
        ({"owner": ANN.account.hex()[:8]}, {"tiny", "large", "helper"}),
        ({"parameters_min": 101}, {"large"}),
        ({"parameters_min": 1, "parameters_max": 100}, {"tiny"}),
        ({"context_min": 2048}, {"tiny", "large"}),
        ({"context_max": 2048, "context_min": 1}, {"tiny"}),
        ({"price_max": 299}, {"large", "other", "helper"}),
        ({"price_max": 300}, {"tiny", "large", "other", "helper"}),
        ({"vram_gb_max": 23}, {"tiny", "other", "helper"}),
        ({"vram_gb_max": 24}, {"tiny", "large", "other", "helper"}),
        ({"memory_mb_max": 8000}, {"tiny", "other", "helper"}),
        ({"requires_gpu": True}, {"large"}),
        ({"requires_gpu": False}, {"tiny", "other", "helper"}),
        ({"updated_since": 30}, {"tiny", "other", "helper"}),
        ({"text": "llama", "types": ("LLM",), "tags": ("chat",)}, {"tiny"}),
    ],
)
def test_filters(filled: Store, fields: Mapping[str, Any], slugs: set[str]) -> None:
    page = filled.reader.search(Query(**fields))
    assert set(found(page)) == slugs
    assert page.total == len(slugs)
    assert page.cursor is None


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("name", ["helper", "large", "other", "tiny"]),
        ("updated", ["helper", "other", "tiny", "large"]),
        ("parameters", ["large", "tiny", "helper", "other"]),
        ("context", ["large", "tiny", "helper", "other"]),
        ("price", ["large", "other", "helper", "tiny"]),
        ("relevance", ["helper", "other", "large", "tiny"]),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 50])
def test_every_sort_is_the_same_in_pages_of_any_size(
    filled: Store, sort: str, expected: list[str], limit: int
) -> None:
    slugs: list[str] = []
    cursor = None
    for _ in range(9):
        page = filled.reader.search(Query(sort=sort, limit=limit, cursor=cursor))  # type: ignore[arg-type]
        slugs += found(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert slugs == expected


def test_the_other_way_round(filled: Store) -> None:
    page = filled.reader.search(Query(sort="name", descending=True))
    assert found(page) == ["tiny", "other", "large", "helper"]


def test_pages_of_words_found_cover_everything_once(filled: Store) -> None:
    first = filled.reader.search(Query(text="llama", limit=1))
    assert first.cursor is not None
    second = filled.reader.search(Query(text="llama", limit=1, cursor=first.cursor))
    assert {*found(first), *found(second)} == {"tiny", "helper"}
    assert second.cursor is None


def test_pages_are_stable_while_writes_land(filled: Store) -> None:
    first = filled.reader.search(Query(sort="name", limit=2))
    assert found(first) == ["helper", "large"]
    filled.accept(model("aardvark"), model("last"))
    project(filled)
    second = filled.reader.search(Query(sort="name", limit=2, cursor=first.cursor))
    assert found(second) == ["last", "other"]


def test_a_hit_says_what_stands(filled: Store) -> None:
    hit = filled.reader.search(Query(text="tiny")).hits[0]
    assert (hit.record, hit.account, hit.kind) == (
        ANN.record("tiny"), ANN.account, RecordKind.MODEL,
    )  # fmt: skip
    assert hit.operation == OperationId(ITEMS["tiny"].id)
    assert hit.value.name == "tiny"


def test_facets_count_all_that_was_found(filled: Store) -> None:
    facets = filled.reader.search(Query(limit=1)).facets
    assert facets is not None
    assert facets.counts["type"] == {"LLM": 2, "Chess": 1, "Assistant": 1}
    assert facets.counts["quantization"] == {"INT4": 1}


def test_an_update_and_a_delete_are_followed(filled: Store) -> None:
    renamed = model("tiny", cites=(ITEMS["tiny"],), description="now about whales")
    filled.accept(renamed, ANN.delete(slug="large", cites=(ITEMS["large"],)))
    project(filled)
    assert found(filled.reader.search(Query(text="whales"))) == ["tiny"]
    assert found(filled.reader.search(Query(text="llama"))) == ["helper"]
    assert "large" not in found(filled.reader.search(Query()))
    revived = model(
        "large", cites=(ANN.delete(slug="large", cites=(ITEMS["large"],)),), tags=["back"]
    )
    filled.accept(revived)
    project(filled)
    assert found(filled.reader.search(Query(tags=("back",)))) == ["large"]


def test_the_views_can_be_rebuilt(filled: Store) -> None:
    if not isinstance(filled.storage, SqliteStorage):
        pytest.skip("the fake has no views")
    before = found(filled.reader.search(Query(text="llama", sort="name")))
    filled.storage.rebuild_views()
    assert filled.reader.search(Query()).total == 0
    project(filled)
    assert found(filled.reader.search(Query(text="llama", sort="name"))) == before
    assert filled.reader.search(Query()).total == 4


def test_views_go_on_after_reopening(filled: Store) -> None:
    filled.accept(model("late"))
    filled.reopen()
    project(filled)
    assert filled.reader.search(Query()).total == 5


def test_a_cursor_of_another_query_is_refused(filled: Store) -> None:
    cursor = filled.reader.search(Query(limit=1)).cursor
    for query in (Query(cursor=cursor, text="x"), Query(cursor=cursor, sort="name")):
        with pytest.raises(BadQuery, match="cursor"):
            filled.reader.search(query)
    # The size of the page may change.
    assert len(found(filled.reader.search(Query(limit=3, cursor=cursor)))) == 3


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: raw.hex()))
def test_garbage_for_a_cursor_is_a_bad_query(text: str) -> None:
    with pytest.raises(BadQuery):
        decode_cursor(Query(cursor=text))


@given(st.text(max_size=60))
def test_no_text_breaks_the_words_index(text: str) -> None:
    """Whatever is typed becomes quoted words, so FTS5's own syntax cannot be reached."""
    assert all(word.isalnum() for word in words_of(text))
