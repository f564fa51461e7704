"""What Kafka work is counted; labels are topics without their prefix and static reasons."""

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)

HANDLED = Counter("transom_kafka_records_handled", "Records whose handling is finished.", ["topic"])
DEAD_LETTERED = Counter(
    "transom_kafka_records_dead_lettered", "Records written to a dead-letter topic.", ["topic", "reason"]
)
RETRIES = Counter("transom_kafka_batch_retries", "Batches read again after expected trouble.", ["topic", "cause"])
ISOLATIONS = Counter("transom_kafka_batch_isolations", "Batches halved to find a guilty record.", ["topic"])
BATCH_RECORDS = Histogram("transom_kafka_batch_records", "Records per batch.", ["topic"], buckets=_RECORDS)
BATCH_SECONDS = Histogram(
    "transom_kafka_batch_seconds", "From a batch's arrival to its commit.", ["topic"], buckets=_SECONDS
)
COMMIT_FAILURES = Counter(
    "transom_kafka_commit_failures", "Offset commits that failed; the records come again.", ["topic"]
)
LAG = Gauge("transom_kafka_lag_records", "Records behind the end of the partition.", ["topic", "partition"])
STOPPED = Gauge("transom_kafka_partitions_stopped", "Partitions stopped by too many dead letters in a row.", ["topic"])

PUBLISHED = Counter("transom_kafka_records_published", "Records acknowledged by the brokers.", ["topic"])
PUBLISH_SECONDS = Histogram(
    "transom_kafka_publish_seconds", "From publish to the whole batch's acknowledgement.", buckets=_SECONDS
)
PUBLISH_FAILURES = Counter("transom_kafka_publish_failures", "Batches not wholly acknowledged.", ["cause"])
