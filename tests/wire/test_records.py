"""The canonical bytes of records: one in commented hex, and golden vectors of hashes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from crdt import RecordKind, encode
from registry import content_hash, decode_record, encode_record, validate
from templates import builtin_template, template_digest

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("records.json").read_text())
AGENT = bytes.fromhex(
    "".join(
        line.partition("#")[0]
        for line in """
    dc 00 1d                   # array of 29
    00 02                      # schema version 0, kind 2: agent
    a5 43 6c 65 72 6b          # name "Clerk"
    a5 30 2e 31 2e 30          # version "0.1.0"
    a0                         # description
    a3 4d 49 54                # license "MIT"
    91 a1 61                   # tags ["a"]
    90                         # capabilities
    05 06                      # created_at, updated_at
    a0                         # formfile_template
    95 01 02 c0 c0 c0          # price: input, output, cached_input, per_request, per_minute
    cd 01 f4                   # royalty_bps 500
    90 90                      # splits, base_models
    c0                         # pricing_tier
    90                         # regions
    91 a7 67 65 6e 65 72 61 6c # segments ["general"]
    90 90                      # builds, dependencies
    a6 61 63 74 69 76 65       # status "active"
    c0 c0                      # homepage, support_url
    91 a6 53 70 65 65 63 68    # agent_type {"Other": "Speech"}
    a9 4c 61 6e 67 43 68 61 69 6e # framework "LangChain"
    91 a3 4c 4c 4d             # compatible_model_types ["LLM"]
    90                         # preferred_models
    96 01 01 cd 02 00 cd 04 00 05 0a # resources: min and recommended vcpus, MB, GB
    90                         # tools
""".splitlines()
    )
)


def test_an_agent_in_hex() -> None:
    data = {
        "name": "Clerk", "tags": ["a"], "created_at": 5, "updated_at": 6, "royalty_bps": 500,
        "price": {"input": 1, "output": 2}, "agent_type": {"Other": "Speech"},
    }  # fmt: skip

    assert encode_record(validate(RecordKind.AGENT, data)).hex(" ") == AGENT.hex(" ")
    assert decode_record(RecordKind.AGENT, AGENT).name == "Clerk"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["what"])
def test_golden_vectors(vector: dict[str, Any]) -> None:
    kind = RecordKind[vector["kind"]]
    record = validate(kind, vector["record"])

    assert encode_record(record).hex() == vector["bytes"]
    assert content_hash(record).hex() == vector["sha3_256"]
    assert decode_record(kind, bytes.fromhex(vector["bytes"])) == record


def test_the_page_spells_the_smallest_records_as_they_are() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
    examples = re.findall(
        r'^\[0, [12], "x",.*?\]\]?$(?=\n(?:\[|`))', page, re.MULTILINE | re.DOTALL
    )
    spelt = [encode(json.loads(one.replace("nil", "null"))) for one in examples]

    assert [raw.hex() for raw in spelt] == [vector["bytes"] for vector in VECTORS[:2]]


def test_the_built_in_template_keeps_its_digest() -> None:
    """Records pin it: a change of the template is a new VERSION, and the old one stays readable."""
    assert template_digest(builtin_template("vllm")).hex() == DIGEST


DIGEST = "c5031a5851211201cefd10e1e5f1cf749e483d6fbe6ecfc63b4b2baeba537238"
