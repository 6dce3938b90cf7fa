"""What a person writes as a record: files and assignments, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli.documents import merged, parse_assignments, parse_document
from node.cli.errors import BadUsage, UnreadableFile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("raw", "name", "says"),
    [
        (b"\xff{}", "a.json", "not UTF-8 text (byte 0)"),
        (b"{", "a.json", "line 1 column 2"),
        (b"[1]", "a.json", "holds a list"),
        (b"name = ", "a.toml", "not TOML"),
        (b'{"a": 1, "a": 2}', "a.json", "'a' is there twice"),
        (b'{"a": NaN}', "a.json", "NaN is not a number"),
        (b"[" * 100_000, "a.json", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a.json", "not JSON"),
    ],
)
def test_a_file_that_is_no_record_is_refused_with_its_place(
    raw: bytes, name: str, says: str
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        parse_document(raw, name)
    assert says in str(caught.value)
    assert name in str(caught.value)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_every_json_object_is_read_back(document: dict[str, Any]) -> None:
    assert parse_document(json.dumps(document).encode(), "a.json") == document


@given(st.binary(max_size=60), st.sampled_from(["a.json", "a.toml"]))
def test_any_bytes_give_an_object_or_an_error_of_ours(raw: bytes, name: str) -> None:
    try:
        found = parse_document(raw, name)
    except UnreadableFile:
        return
    assert isinstance(found, dict)


def test_toml_and_json_say_the_same() -> None:
    toml = b'name = "M"\ntags = ["a"]\n[resource_requirements]\nmin_vcpus = 2\n'
    assert parse_document(toml, "m.toml") == {
        "name": "M",
        "tags": ["a"],
        "resource_requirements": {"min_vcpus": 2},
    }


def test_assignments_take_json_or_text_and_reach_into_objects() -> None:
    texts = ["name=My model", "parameters=8", "price.input=5", "price.output=7", 'tags=["a"]']
    assert parse_assignments(texts) == {
        "name": "My model",
        "parameters": 8,
        "price": {"input": 5, "output": 7},
        "tags": ["a"],
    }


@pytest.mark.parametrize(
    "text", ["name", "=x", ".=x", "a..b=x", "a.=1", "", ".".join("a" * 17) + "=1"]
)
def test_an_assignment_without_a_field_is_refused(text: str) -> None:
    with pytest.raises(BadUsage, match="FIELD=VALUE"):
        parse_assignments([text])


def test_an_assignment_into_a_value_is_refused() -> None:
    with pytest.raises(BadUsage, match="reaches into price"):
        parse_assignments(["price=1", "price.input=5"])


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        # The examples of RFC 7396, appendix A, that start with an object.
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_its_rfc_says(
    document: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    assert merged(document, patch) == result
