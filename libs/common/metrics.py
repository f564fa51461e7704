"""What services count about their own work; what Kafka work counts is declared in ``libs/common/kafka/metrics.py``.

Name, kind, meaning and labels of each metric are declared here once. Labels are static words (an outcome, a route), never an id, a
number or a tenant, so that their product stays small.
"""

from typing import Literal

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

MetricName = Literal[
    "transom_webhooks_total",
    "transom_webhooks_ignored_total",
    "transom_http_refused_total",
    "transom_decisions_total",
    "transom_reconciled_total",
    "transom_sends_total",
    "transom_send_seconds",
    "transom_sends_waiting",
    "transom_statuses_total",
    "transom_statuses_of_others_total",
    "transom_breaker_open",
]

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def _counter(name: MetricName, meaning: str, *labels: str) -> Counter:
    return Counter(name, meaning, labels)


def _gauge(name: MetricName, meaning: str, *labels: str) -> Gauge:
    return Gauge(name, meaning, labels)


def _histogram(name: MetricName, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(name, meaning, labels, buckets=buckets)


_METRICS: dict[MetricName, Counter | Gauge | Histogram] = {
    "transom_webhooks_total": _counter("transom_webhooks_total", "Webhooks answered", "source", "status"),
    "transom_webhooks_ignored_total": _counter(
        "transom_webhooks_ignored_total", "Webhook items that are known and not for us", "kind"
    ),
    "transom_http_refused_total": _counter(
        "transom_http_refused_total", "Requests and connections closed before anything of them was known", "reason"
    ),
    "transom_decisions_total": _counter("transom_decisions_total", "Decisions taken", "route", "reason"),
    "transom_reconciled_total": _counter(
        "transom_reconciled_total", "Decisions that were followed up because nothing followed from them", "outcome"
    ),
    "transom_sends_total": _counter("transom_sends_total", "Sends settled", "channel", "outcome"),
    "transom_send_seconds": _histogram("transom_send_seconds", "One provider call", _SECONDS, "channel"),
    "transom_sends_waiting": _gauge(
        "transom_sends_waiting", "Sends stored and not settled; of each state at most 10,000 are counted", "channel"
    ),
    "transom_statuses_total": _counter("transom_statuses_total", "Provider statuses applied", "channel", "status"),
    "transom_statuses_of_others_total": _counter(
        "transom_statuses_of_others_total", "Provider statuses that name no send of ours", "provider"
    ),
    "transom_breaker_open": _gauge("transom_breaker_open", "1 while a circuit breaker is open", "dependency"),
}


def count(name: MetricName, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    metric = _METRICS[name]
    if not isinstance(metric, Counter):
        raise TypeError(f"{name} is no counter")
    (metric.labels(**labels) if labels else metric).inc(amount)


def gauge(name: MetricName, value: float, **labels: str) -> None:
    """Set a gauge."""
    metric = _METRICS[name]
    if not isinstance(metric, Gauge):
        raise TypeError(f"{name} is no gauge")
    (metric.labels(**labels) if labels else metric).set(value)


def observe(name: MetricName, value: float, **labels: str) -> None:
    """Add one observation to a histogram; durations are in seconds."""
    metric = _METRICS[name]
    if not isinstance(metric, Histogram):
        raise TypeError(f"{name} is no histogram")
    (metric.labels(**labels) if labels else metric).observe(value)


def render() -> bytes:
    """Everything in the text format that Prometheus reads."""
    return generate_latest(REGISTRY)
