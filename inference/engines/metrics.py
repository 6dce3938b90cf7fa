"""An engine's load, read from the text of its `/metrics` page (Prometheus exposition)."""

from __future__ import annotations

import math
from dataclasses import dataclass

PREFIX = "vllm:"
LINE_COUNT_MAX = 20_000


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """What an engine says of itself now; what it does not say is 0.

    Attributes:
        running, waiting: Requests being worked on, and queued.
        kv_cache_permille: How full its cache of keys and values is.
        rejected: Requests refused because the queue was full, since it started.
        generated: Tokens generated since it started.
        first_token_ms: Mean time to first token since it started.
        prefix_hits, prefix_queries: Prompt tokens found in the prefix cache, and looked for.
    """

    running: int = 0
    waiting: int = 0
    kv_cache_permille: int = 0
    rejected: int = 0
    generated: int = 0
    first_token_ms: int = 0
    prefix_hits: int = 0
    prefix_queries: int = 0


def parse_metrics(text: str) -> EngineLoad:
    """Return the load in a metrics page; samples of one name are added up over their labels."""
    sums: dict[str, float] = {}
    for line in text.splitlines()[:LINE_COUNT_MAX]:
        if not line.startswith(PREFIX):
            continue
        name, value = _sample(line)
        if name in _NAMES and math.isfinite(value):
            sums[name] = sums.get(name, 0.0) + value
    first_count = sums.get("time_to_first_token_seconds_count", 0.0)
    first_sum_s = sums.get("time_to_first_token_seconds_sum", 0.0)
    return EngineLoad(
        running=_whole(sums, "num_requests_running"),
        waiting=_whole(sums, "num_requests_waiting"),
        kv_cache_permille=min(1000, round(1000 * max(0.0, sums.get("kv_cache_usage_perc", 0.0)))),
        rejected=_whole(sums, "admission_rejections_total"),
        generated=_whole(sums, "generation_tokens_total"),
        first_token_ms=round(1000 * first_sum_s / first_count) if first_count else 0,
        prefix_hits=_whole(sums, "prefix_cache_hits_total"),
        prefix_queries=_whole(sums, "prefix_cache_queries_total"),
    )


_NAMES = frozenset(
    {
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "admission_rejections_total",
        "generation_tokens_total",
        "time_to_first_token_seconds_count",
        "time_to_first_token_seconds_sum",
        "prefix_cache_hits_total",
        "prefix_cache_queries_total",
    }
)


def _sample(line: str) -> tuple[str, float]:
    name, brace, rest = line[len(PREFIX) :].partition("{")
    value = rest.rpartition("}")[2] if brace else ""
    if not brace:
        name, _, value = name.partition(" ")
    try:
        return name, float(value.split()[0])
    except (ValueError, IndexError):
        return "", 0.0


def _whole(sums: dict[str, float], name: str) -> int:
    return max(0, int(sums.get(name, 0.0)))
