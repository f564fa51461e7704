"""Every metric: its kind, name, meaning and labels.

Labels are static words (an outcome, a route, a topic without its prefix), never an id, a number or a tenant, so that
their product stays small. Durations are in seconds.
"""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)

# -- what services do

WEBHOOKS = Counter("transom_webhooks_total", "Webhooks answered", ["source", "status"])
WEBHOOKS_IGNORED = Counter("transom_webhooks_ignored_total", "Webhook items that are known and not for us", ["kind"])
HTTP_REFUSED = Counter(
    "transom_http_refused_total", "Requests and connections closed before anything of them was known", ["reason"]
)
DECISIONS = Counter("transom_decisions_total", "Decisions taken", ["route", "reason"])
RECONCILED = Counter(
    "transom_reconciled_total", "Decisions that were followed up because nothing followed from them", ["outcome"]
)
SENDS = Counter("transom_sends_total", "Sends settled", ["channel", "provider", "outcome"])
SEND_SECONDS = Histogram("transom_send_seconds", "One provider call", ["channel", "provider"], buckets=_SECONDS)
SENDS_WAITING = Gauge(
    "transom_sends_waiting", "Sends stored and not settled; of each state at most 10,000 are counted", ["channel"]
)
STATUSES = Counter("transom_statuses_total", "Provider statuses applied", ["channel", "status"])
STATUSES_OF_OTHERS = Counter(
    "transom_statuses_of_others_total", "Provider statuses that name no send of ours", ["provider"]
)
BREAKER_OPEN = Gauge("transom_breaker_open", "1 while a circuit breaker is open", ["dependency"])

PORTAL_LINKS = Counter("transom_portal_links_total", "Magic links asked for: opened, missed, refused", ["outcome"])
PORTAL_STREAMS = Gauge("transom_portal_streams", "Open streams of conversations in the portal")

# -- reading from Kafka

RECORDS_HANDLED = Counter("transom_kafka_records_handled", "Records whose handling is finished.", ["topic"])
DEAD_LETTERED = Counter(
    "transom_kafka_records_dead_lettered", "Records written to a dead-letter topic.", ["topic", "reason"]
)
BATCH_RETRIES = Counter(
    "transom_kafka_batch_retries", "Batches read again after a retryable error.", ["topic", "cause"]
)
BATCH_ISOLATIONS = Counter("transom_kafka_batch_isolations", "Batches split to find the record at fault.", ["topic"])
BATCH_RECORDS = Histogram("transom_kafka_batch_records", "Records per batch.", ["topic"], buckets=_RECORDS)
BATCH_SECONDS = Histogram(
    "transom_kafka_batch_seconds", "From a batch's arrival to its commit.", ["topic"], buckets=_SECONDS
)
COMMIT_FAILURES = Counter(
    "transom_kafka_commit_failures", "Offset commits that failed; the records come again.", ["topic"]
)
LAG = Gauge("transom_kafka_lag_records", "Records behind the end of the partition.", ["topic", "partition"])
PARTITIONS_STOPPED = Gauge(
    "transom_kafka_partitions_stopped", "Partitions stopped by too many dead letters in a row.", ["topic"]
)

# -- writing to Kafka

RECORDS_PUBLISHED = Counter("transom_kafka_records_published", "Records acknowledged by the brokers.", ["topic"])
PUBLISH_SECONDS = Histogram(
    "transom_kafka_publish_seconds", "From publish to the whole batch's acknowledgement.", buckets=_SECONDS
)
PUBLISH_FAILURES = Counter("transom_kafka_publish_failures", "Batches not wholly acknowledged.", ["cause"])


def render() -> bytes:
    """All metrics in the text format that Prometheus reads."""
    return generate_latest(REGISTRY)
