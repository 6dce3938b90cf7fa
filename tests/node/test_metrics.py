"""Metrics: what was counted, what is read when asked for, and text that Prometheus takes."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from node.metrics import Metrics


def samples(metrics):
    """Return every sample as Prometheus reads it: (name, labels) -> value."""
    text = metrics.text().decode()
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_requests_are_counted_by_method_route_and_status():
    metrics = Metrics()
    for status in ("200", "200", "404"):
        metrics.requests.labels("GET", "/v1/models/{id}", status).inc()
    metrics.latency.labels("/v1/models/{id}").observe(0.02)
    found = samples(metrics)
    labels = (("method", "GET"), ("route", "/v1/models/{id}"), ("status", "200"))
    assert found["hansa_http_requests_total", labels] == 2
    route = ("route", "/v1/models/{id}")
    assert found["hansa_http_request_seconds_bucket", (("le", "0.01"), route)] == 0
    assert found["hansa_http_request_seconds_bucket", (("le", "0.03"), route)] == 1


def test_a_gauge_is_read_at_every_scrape():
    metrics, stored = Metrics(), {"model": 1}
    metrics.gauge(
        "stored", "What is stored.", lambda: [({"kind": k}, v) for k, v in stored.items()]
    )
    assert samples(metrics)["stored", (("kind", "model"),)] == 1
    stored.update(model=5, agent=2)
    found = samples(metrics)
    assert found["stored", (("kind", "model"),)] == 5
    assert found["stored", (("kind", "agent"),)] == 2


def test_a_gauge_is_not_read_before_somebody_asks():
    """Parts are added before the node runs, when they cannot be asked yet."""
    metrics, asked = Metrics(), []

    def read():
        asked.append(1)
        return [({}, 3)]

    metrics.gauge("peers", "Connected peers.", read)
    assert asked == []
    assert samples(metrics)["peers", ()] == 3
    assert asked == [1]


def test_a_counter_that_is_kept_elsewhere_has_its_ending():
    metrics = Metrics()
    metrics.counter("received", "Items.", lambda: [({"path": "gossip"}, 7)])
    assert samples(metrics)["received_total", (("path", "gossip"),)] == 7


def test_nothing_to_say_is_valid_text():
    metrics = Metrics()
    metrics.gauge("nothing", "Nothing.", list)
    assert not [name for name, _ in samples(metrics) if name == "nothing"]


def test_two_nodes_in_one_process_do_not_share():
    one, other = Metrics(), Metrics()
    one.open_requests.inc()
    assert samples(one)["hansa_http_requests_open", ()] == 1
    assert samples(other)["hansa_http_requests_open", ()] == 0
