"""Checkpoints: a record's whole state in one operation, so that what came before it may go.

The body is `[0, number, facts, text, [tag ...], [[key in hex, name, value] ...]]`. `facts` are a
put's body, or nothing for a record that is deleted; a value is spelt as it is inside a card.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from crdt.cards.layouts import check_name, is_key_hex, layout_of_seed
from crdt.cards.seeds import Seed
from crdt.cards.values import Budget, Json, read_value, write_value
from crdt.cards.varints import Reader
from crdt.errors import MalformedBytes
from crdt.items import BODY_BYTES_MAX
from crdt.wire import Value, array, decode, encode, field, has_head, natural

VERSION = 0
NUMBER_MAX = 2**32 - 1
VALUE_COUNT_MAX = 4096
"""Values in one evaluation, as in one card operation."""
_FIELD_COUNT = 6


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint's body says.

    Attributes:
        number: Its owner's counting: the greatest effective one is the record's era.
        facts: A put's body; empty when the record is deleted.
        seed: What the card holds when the era begins.
    """

    number: int
    facts: bytes
    seed: Seed


def encode_checkpoint(number: int, facts: bytes, seed: Seed) -> bytes:
    """Return a checkpoint's body; the inverse of `open_checkpoint`."""
    assert 1 <= number <= NUMBER_MAX
    evals: list[Value] = [[key, name, write_value(value)] for key, name, value in seed.evals]
    return encode([VERSION, number, facts, seed.text, list(seed.tags), evals])


def open_checkpoint(body: bytes) -> Checkpoint:
    """Return the checkpoint in a body; its facts are for the registry to judge.

    Raises:
        MalformedBytes: not one, or its tags or evaluations are not sorted and unique.
    """
    parts = decode(body, bytes_max=BODY_BYTES_MAX)
    if not has_head(parts, _FIELD_COUNT, VERSION):
        raise MalformedBytes(f"a checkpoint is {_FIELD_COUNT} fields of version {VERSION}")
    number = natural(parts[1], "checkpoint number", maximum=NUMBER_MAX)
    if not number:
        raise MalformedBytes("checkpoints are numbered from 1")
    tags = tuple(check_name(field(tag, str, "tag"), "tag") for tag in array(parts[4], "tags"))
    evals = tuple(_evaluation(one) for one in array(parts[5], "evaluations"))
    if any(a >= b for a, b in itertools.pairwise(tags)):
        raise MalformedBytes("a checkpoint's tags are not sorted and unique")
    if any(a[:2] >= b[:2] for a, b in itertools.pairwise(evals)):
        raise MalformedBytes("a checkpoint's evaluations are not sorted and unique")
    seed = Seed(field(parts[3], str, "card text"), tags, evals)
    layout_of_seed(seed)
    return Checkpoint(number, field(parts[2], bytes, "facts"), seed)


def _evaluation(value: object) -> tuple[str, str, Json]:
    parts = array(value, "an evaluation")
    if len(parts) != 3:
        raise MalformedBytes("an evaluation is [key, name, value]")
    key = field(parts[0], str, "key")
    if not is_key_hex(key):
        raise MalformedBytes(f"the key {key[:80]!r} of an evaluation is not 64 lower-case digits")
    name = check_name(field(parts[1], str, "evaluation name"), "evaluation name")
    reader = Reader(field(parts[2], bytes, "evaluation value"))
    found = read_value(reader, Budget(VALUE_COUNT_MAX))
    reader.end()
    return key, name, found
