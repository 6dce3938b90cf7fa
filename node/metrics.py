"""Metrics for Prometheus: what is counted as it happens, and what is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60)
Sample = tuple[Mapping[str, str], float]


class Metrics:
    """One node's metrics. Each node has its own registry, so tests run several in a process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "hansa_http_requests_total",
            "HTTP requests answered, by route as declared and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self.latency = Histogram(
            "hansa_http_request_seconds",
            "Time to answer an HTTP request, streams to their end.",
            ("route",),
            buckets=LATENCY_BUCKETS_S,
            registry=self._registry,
        )
        self.open_requests = Gauge(
            "hansa_http_requests_open", "HTTP requests under way.", registry=self._registry
        )

    def gauge(self, name: str, about: str, read: Callable[[], Iterable[Sample]]) -> None:
        """Add a gauge whose samples are read whenever somebody scrapes."""
        self._registry.register(_Read(lambda: _gauge(name, about, read)))

    def counter(self, name: str, about: str, read: Callable[[], Iterable[Sample]]) -> None:
        """Add a counter that is kept elsewhere and read whenever somebody scrapes."""
        self._registry.register(_Read(lambda: _counter(name, about, read)))

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Read:
    """A collector that asks a function."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return what there is now."""
        yield self._read()

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not ask before the node runs."""
        return ()


def _gauge(name: str, about: str, read: Callable[[], Iterable[Sample]]) -> Metric:
    samples = list(read())
    names = sorted(samples[0][0]) if samples else []
    family = GaugeMetricFamily(name, about, labels=names)
    for labels, value in samples:
        family.add_metric([labels[one] for one in names], value)
    return family


def _counter(name: str, about: str, read: Callable[[], Iterable[Sample]]) -> Metric:
    samples = list(read())
    names = sorted(samples[0][0]) if samples else []
    family = CounterMetricFamily(name, about, labels=names)
    for labels, value in samples:
        family.add_metric([labels[one] for one in names], value)
    return family
