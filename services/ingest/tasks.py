"""What an ingest worker does beside its batches, and how often."""

from collections.abc import Mapping

from libs.common.kafka.consumer import BatchConsumer
from libs.common.periodic import Task
from services.ingest import consent, forget, merges, numbers, progress
from services.ingest.worker import Deps


def tasks_of(deps: Deps, consumer: BatchConsumer) -> Mapping[str, Task]:
    """The periodic tasks, by the name that the log shows."""
    pool = deps.pool
    return {
        "progress": (progress.PERIOD, lambda: progress.renew(pool, consumer, pool.now)),
        "strangers": (numbers.TELL_EVERY, deps.gate.tell),
        "consents": (consent.TELL_EVERY, lambda: consent.tell(pool, deps.producer)),
        "merges": (merges.PERIOD, merges.Mover(pool).move),
        "forget": (forget.PERIOD, lambda: forget.forget(pool, pool.now)),
    }
