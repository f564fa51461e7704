"""What an ingest worker does beside its batches, and how often."""

from collections.abc import Mapping

from libs.common.directory import merge_slices
from libs.common.kafka.consumer import BatchConsumer
from libs.common.periodic import Task
from services.ingest import consent, number_gate, purge, watermark
from services.ingest.worker import Deps


def tasks_of(deps: Deps, consumer: BatchConsumer) -> Mapping[str, Task]:
    """The periodic tasks, by the name that the log shows."""
    pool = deps.pool
    return {
        "progress": (watermark.PERIOD, lambda: watermark.renew(pool, consumer, pool.now)),
        "strangers": (number_gate.LOG_EVERY, deps.gate.log),
        "consents": (consent.PUBLISH_EVERY, lambda: consent.publish(pool, deps.producer)),
        "merges": (merge_slices.PERIOD, merge_slices.SliceMover(pool).move),
        "forget": (purge.PERIOD, lambda: purge.purge(pool, pool.now)),
    }
