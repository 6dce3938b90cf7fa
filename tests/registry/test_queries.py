"""Queries, references and versions: what people type to find a record."""

from __future__ import annotations

from typing import Any

import pytest

from crdt import RecordKind
from registry import (
    AnyModel,
    BadQuery,
    BadReference,
    ById,
    BySlug,
    best_version,
    from_json,
    from_parameters,
    in_range,
    parse_reference,
    version_key,
)

ID = "ab" * 32
KINDS = (RecordKind.MODEL,)


def test_parameters_make_a_query() -> None:
    query = from_parameters(
        {"q": "chat", "capability": ["tools,vision", "chat"], "max_price": "5",
         "requires_gpu": "false",
         "limit": "10"},
        kinds=KINDS,
    )  # fmt: skip

    assert query.capabilities == ("chat", "tools", "vision")
    assert (query.text, query.price_max, query.requires_gpu, query.limit) == ("chat", 5, False, 10)
    assert query.kinds == KINDS
    assert from_json(
        {"text": "chat", "capability": ["tools", "vision", "chat"], "price_max": 5,
         "requires_gpu": False, "limit": 10},
        kinds=KINDS,
    ) == query  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"nope": "1"}, "unknown"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "200"),
        ({"limit": "-1"}, "integer"),
        ({"limit": "9" * 30}, "integer"),
        ({"limit": ["1", "2"]}, "more than once"),
        ({"sort": "luck"}, "sort"),
        ({"owner": "xyz"}, "owner"),
        ({"requires_gpu": "maybe"}, "true or false"),
        ({"text": "x" * 257}, "256"),
        ({"kinds": "1"}, "unknown"),
    ],
)
def test_a_bad_parameter_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadQuery, match=says):
        from_parameters(given, kinds=KINDS)


@pytest.mark.parametrize("given", [{"limit": "5"}, {"limit": True}, {"tags": 5}, {"kinds": []}])
def test_a_bad_search_body_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        from_json(given, kinds=KINDS)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (ID, ById(bytes.fromhex(ID))),  # type: ignore[arg-type]
        (f"{ID}@^1.2", ById(bytes.fromhex(ID), "^1.2")),  # type: ignore[arg-type]
        ("deadbeef/tiny", BySlug("deadbeef", "tiny")),
        ("deadbeef/tiny@>=1 <2", BySlug("deadbeef", "tiny", ">=1 <2")),
        ("deadbeef/tiny^1.2", BySlug("deadbeef", "tiny", "^1.2")),
        (
            "any:llm?caps=tools,chat&ctx>=8192&max_price=500",
            AnyModel("LLM", frozenset({"tools", "chat"}), 8192, 500),
        ),
        ("any:model", AnyModel(None)),
    ],
)
def test_references(text: str, reference: object) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        "", "tiny", "dead/tiny", "deadbeef/", "deadbeef/Tiny", "deadbeef/a/b", "0" * 64,
        "DEADBEEF/tiny", "deadbeef/tiny@latest", "deadbeef/tiny@", "any:cat", "any:llm?x=1",
        "any:llm?ctx=5", "any:llm?ctx>=x", "any:llm?caps=a&caps=b", "x" * 600,
    ],
)  # fmt: skip
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse_reference(text)


def test_ranges_choose_the_greatest_version_in_them() -> None:
    versions = ["1.1.9", "1.2.0", "1.10.0", "2.0.0", "1.11.0-rc.1", "nonsense"]

    assert best_version(versions, "^1.2") == "1.10.0"
    assert best_version(versions, "*") == "2.0.0"
    assert best_version(versions, "~1.1") == "1.1.9"
    assert best_version(versions, "^3") is None
    assert in_range("1.2.3", ">=1 <2")
    assert version_key("1.0.0-rc.1") < version_key("1.0.0")
