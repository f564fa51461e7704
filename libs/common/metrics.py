"""Every metric: its kind, name, meaning and labels.

Labels are static words (an outcome, a route, a topic without its prefix), never an id, a number or a tenant, so that
their product stays small. Durations are in seconds.

A gauge that would read as healthy while nobody measures it is a Unix time: up to when something is well. It is set to
the present while nothing waits, so it grows old by itself when the measuring ends. Alerts compare it with ``time()``.
What alerts count begins at 0: a series that appears with its first event shows no increase.
"""

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)

# -- what services do

SERVING = Gauge("transom_serving", "1 of a process that takes these requests: webhooks, portal", ["requests"])
WEBHOOKS = Counter("transom_webhooks_total", "Webhooks answered", ["source", "status"])
WEBHOOKS_IGNORED = Counter("transom_webhooks_ignored_total", "Webhook items that are known and not for us", ["kind"])
HTTP_REFUSED = Counter(
    "transom_http_refused_total", "Requests and connections closed before anything of them was known", ["reason"]
)
SIGNATURES_FAILED = Counter(
    "transom_webhook_signatures_failed_total",
    "Webhooks whose signature has the form of the provider's, and is not by a secret of ours",
    ["source"],
)
EDGE_REFUSED = Counter(
    "transom_edge_refused_total",
    "What made Meta try a webhook again, by why: a request, a stall, a check that found the edge not ready",
    ["kind", "reason"],
)
DECISIONS = Counter("transom_decisions_total", "Decisions taken", ["route", "reason"])
RECONCILED = Counter(
    "transom_reconciled_total", "Decisions that were followed up because nothing followed from them", ["outcome"]
)
SENDS = Counter("transom_sends_total", "Sends settled", ["channel", "provider", "outcome"])
SEND_SECONDS = Histogram("transom_send_seconds", "One provider call", ["channel", "provider"], buckets=_SECONDS)
SENDS_OLDEST_SECONDS = Gauge(
    "transom_sends_oldest_seconds", "How long the oldest send has waited that is stored and not settled", ["channel"]
)
SENDS_WAITING = Gauge(
    "transom_sends_waiting", "Sends stored and not settled; of each state at most 10,000 are counted", ["channel"]
)
SENDS_DUE = Gauge(
    "transom_sends_due_timestamp_seconds",
    "Unix time before which no unsettled send was due, but on accounts that rest for a fault",
    ["channel"],
)
SENDS_UNKNOWN = Gauge(
    "transom_sends_unknown", "Sends whose outcome is not known; at most 10,000 are counted", ["channel"]
)
SENDS_UNKNOWN_SINCE = Gauge(
    "transom_sends_unknown_timestamp_seconds",
    "Unix time before which no outcome became unknown that still is",
    ["channel"],
)
SENDS_AFTER_WINDOW = Counter(
    "transom_sends_after_window_closed_total",
    "Free-form messages that Meta refused because the window was closed (131047), though it was open by our rule",
)
ACCOUNTS_RESTING = Gauge(
    "transom_accounts_resting",
    "Accounts whose messages wait: throttled, silent (they answer nothing), at fault (people must mend them)",
    ["channel", "kind"],
)
BRIDGES_OF_ONE = Gauge(
    "transom_bridges_of_one_organisation", "Bridges of today (UTC) of the organisation that has most"
)
BRIDGES_SHARE = Gauge(
    "transom_bridges_share_of_cap",
    "The largest share of the SMS segments of its day that an organisation's bridges took",
)
STATUSES = Counter("transom_statuses_total", "Provider statuses applied", ["channel", "status"])
STATUSES_OF_OTHERS = Counter(
    "transom_statuses_of_others_total", "Provider statuses that name no send of ours", ["provider"]
)
SMS_MISSED = Counter(
    "transom_sms_missed_total",
    "Customers' SMS found in the provider's list because no edge took their callback: published, masked",
    ["provider", "outcome"],
)
BREAKER_OPEN = Gauge("transom_breaker_open", "1 while a circuit breaker is open", ["dependency"])

PORTAL_LINKS = Counter("transom_portal_links_total", "Magic links asked for: opened, missed, refused", ["outcome"])
PORTAL_STREAMS = Gauge("transom_portal_streams", "Open streams of conversations in the portal")

INBOX_STREAMS = Gauge("transom_inbox_streams", "Open streams of the inbox")
INBOX_STREAMS_DROPPED = Counter(
    "transom_inbox_streams_dropped_total", "Streams ended because their client did not read"
)

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
RECORDS_LOST = Counter(
    "transom_kafka_records_lost", "Records that Kafka deleted unread. A topic made anew counts as one.", ["topic"]
)
LAG = Gauge("transom_kafka_lag_records", "Records behind the end of the partition.", ["topic", "partition"])
CAUGHT_UP = Gauge(
    "transom_kafka_caught_up_timestamp_seconds",
    "Unix time before which every record of this process's partitions is handled.",
    ["topic"],
)
PROGRESS = Gauge(
    "transom_kafka_progress_timestamp_seconds",
    "Unix time at which no record waited, or each of this process's partitions moved on.",
    ["topic"],
)
PARTITIONS_STOPPED = Gauge(
    "transom_kafka_partitions_stopped", "Partitions stopped by too many dead letters in a row.", ["topic"]
)

# -- writing to Kafka

RECORDS_PUBLISHED = Counter("transom_kafka_records_published", "Records acknowledged by the brokers.", ["topic"])
PUBLISH_SECONDS = Histogram(
    "transom_kafka_publish_seconds", "From publish to the whole batch's acknowledgement.", buckets=_SECONDS
)
PUBLISH_FAILURES = Counter("transom_kafka_publish_failures", "Batches not wholly acknowledged.", ["cause"])


# -- what alerts count begins at 0

for _source in ("meta", "twilio", "vonage"):
    SIGNATURES_FAILED.labels(_source)
    for _status in ("200", "400", "403", "413", "415", "503"):
        WEBHOOKS.labels(_source, _status)
for _reason in (
    "kafka_away",
    "kafka_refused",
    "failed",
    "cut_short",
    "slow",
    "stood_still",
    "not_ready",
    "bytes_in_flight",
):
    EDGE_REFUSED.labels("refused", _reason)
for _reason in ("bad_signature", "too_large", "not_json", "ended_early"):
    EDGE_REFUSED.labels("doubtful", _reason)
for _outcome in ("published", "ended", "decided"):
    RECONCILED.labels(_outcome)
for _outcome in ("published", "masked"):
    SMS_MISSED.labels("twilio", _outcome)


def render() -> bytes:
    """All metrics in the text format that Prometheus reads."""
    return generate_latest(REGISTRY)
