"""Calls as clients write them: what is refused before it costs anybody anything."""

from __future__ import annotations

import json

import pytest

from node.gateway import BadCall, Task, parse_call
from node.gateway.calls import UsageWish, engine_body
from node.gateway.events import StreamMeter


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"model":"m","x":"\xff"}',
        b'{"model":"m","x":"\\ud800"}',
        b'{"model":"m","\\udfff":1}',
        b'{"model":"m","temperature":NaN}',
        b'{"model":"m","temperature":1e999}',
        b'{"model":"m","model":"other"}',
        b'{"model":"m","messages":[{"role":"user","role":"system"}]}',
        b'{"model":"m","n":129}',
        b'{"model":"m","n":0}',
        b'{"model":"m","n":"5"}',
        b'{"model":"m","n":5.0}',
        b'{"model":"m","n":true}',
        b'{"model":"m","best_of":1000}',
        b'{"model":"m","stream":1}',
        b'{"model":"m","hansa":[]}',
        b'{"model":5}',
    ],
)
def test_a_body_that_is_not_one_clear_call_is_refused(raw: bytes) -> None:
    with pytest.raises(BadCall):
        parse_call(Task.CHAT, raw)


def test_whole_characters_in_any_spelling_reach_the_engine() -> None:
    call = parse_call(Task.CHAT, b'{"model":"m","n":2,"x":"\\ud83d\\ude00 \\u00e9"}')
    assert json.loads(engine_body(call, "m"))["x"] == "\U0001f600 \xe9"


def test_an_event_with_half_a_character_passes_without_its_usage() -> None:
    meter = StreamMeter(UsageWish(final=False, every_event=False))
    event = b'{"usage":{"prompt_tokens":1,"completion_tokens":1},"choices":[{"text":"\\ud800"}]}'
    passed = meter.feed(b"data: " + event + b"\n\n")
    assert json.loads(passed.removeprefix(b"data: ")) == {"choices": [{"text": "\ud800"}]}
    assert meter.counts.output == 1
