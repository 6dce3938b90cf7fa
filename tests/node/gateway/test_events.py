"""Counting streams exactly, and cutting usage out of them byte by byte."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.gateway.calls import Task, UsageWish, engine_body, parse_call
from node.gateway.errors import BadCall, EngineCut
from node.gateway.events import EVENT_BYTES_MAX, StreamMeter, TokenCounts, counts_in, first_event

NOTHING = UsageWish(final=False, every_event=False)
FINAL = UsageWish(final=True, every_event=False)
EVERY = UsageWish(final=True, every_event=True)


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def chunk(text: str, output: int, finish: str | None = None) -> bytes:
    return event({
        "id": "x",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7 + output, "completion_tokens": output},
    })  # fmt: skip


USAGE_ONLY = event(
    {"id": "x", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
)
DONE = b"data: [DONE]\n\n"
STREAM = chunk("to", 1) + chunk("ken", 2, "stop") + USAGE_ONLY + DONE
PLAIN = (
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"to"},"finish_reason":null}]}\n\n'
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"ken"},"finish_reason":"stop"}]}\n\n'
)


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [(NOTHING, PLAIN + DONE), (FINAL, PLAIN + USAGE_ONLY + DONE), (EVERY, STREAM)],
)
def test_a_client_gets_the_usage_it_asked_for_and_no_other_byte_changes(
    wish: UsageWish, wanted: bytes
) -> None:
    meter = StreamMeter(wish)
    assert meter.feed(STREAM) == wanted
    assert meter.complete
    assert meter.counts == TokenCounts(input=7, output=2)


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=8))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]) -> None:
    meter = StreamMeter(NOTHING)
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert b"".join(meter.feed(piece) for piece in pieces) == PLAIN + DONE
    assert meter.complete


def test_a_cut_stream_counts_what_was_delivered() -> None:
    meter = StreamMeter(NOTHING)
    meter.feed(chunk("to", 1) + chunk("ken", 2)[:20])
    assert meter.counts.output == 1
    assert not meter.complete


def test_done_alone_is_not_success() -> None:
    meter = StreamMeter(NOTHING)
    meter.feed(chunk("to", 1) + event({"error": {"message": "dead", "code": 500}}) + DONE)
    assert meter.done
    assert not meter.complete
    assert meter.error == {"message": "dead", "code": 500}


def test_an_endless_event_is_refused() -> None:
    meter = StreamMeter(NOTHING)
    with pytest.raises(EngineCut, match="1048576"):
        meter.feed(b"data: " + b"a" * EVENT_BYTES_MAX)


@given(st.binary(max_size=300))
def test_garbage_passes_without_harm(raw: bytes) -> None:
    meter = StreamMeter(NOTHING)
    meter.feed(raw + b"\n\n")
    assert not meter.complete


def test_usage_before_other_members_is_cut_too() -> None:
    meter = StreamMeter(NOTHING)
    odd = event({"usage": {"prompt_tokens": 1, "completion_tokens": 1}, "choices": [{"index": 0}]})
    assert meter.feed(odd) == b'data: {"choices":[{"index":0}]}\n\n'


@pytest.mark.parametrize(
    "usage",
    [
        None, 3, "many", {"prompt_tokens": -1}, {"prompt_tokens": 1.5}, {"prompt_tokens": True},
        {"prompt_tokens": 2**41}, {},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
    ],
)  # fmt: skip
def test_senseless_usage_counts_nothing(usage: object) -> None:
    assert counts_in({"usage": usage}) is None


def test_cached_tokens_are_a_part_of_the_prompt() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert counts_in({"usage": usage}) == TokenCounts(input=6, cached=4, output=3)


def test_the_first_event_is_seen_before_anything_is_committed() -> None:
    assert first_event(b"data: {") is None
    assert first_event(event({"error": {"code": 503}})) == {"error": {"code": 503}}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "list"),
        (b"{}", "model"),
        (b'{"model":""}', "model"),
        (b'{"model":7}', "model"),
        (b'{"model":"' + b"a" * 600 + b'"}', "model"),
        (b'{"model":"m","stream":"yes"}', "stream"),
        (b'{"model":"m","stream_options":[]}', "stream_options"),
        (b'{"model":"m","stream_options":{"include_usage":1}}', "include_usage"),
        (b'{"model":"m","hansa":[]}', "hansa"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_bad_body_is_named(raw: bytes, said: str) -> None:
    with pytest.raises(BadCall, match=said):
        parse_call(Task.CHAT, raw)


def test_an_engine_is_asked_for_usage_and_never_sees_our_wishes() -> None:
    call = parse_call(
        Task.CHAT, b'{"model":"ada/tiny","stream":true,"seed":1,"hansa":{"region":"eu"}}'
    )
    sent = json.loads(engine_body(call, "tiny"))
    assert sent == {
        "model": "tiny",
        "stream": True,
        "seed": 1,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    assert call.wishes == {"region": "eu"}
