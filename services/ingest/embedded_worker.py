"""The worker beside the edge, in one process: the edge serves while PostgreSQL is away, also at the start."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Literal, Self

from libs.common.db.errors import distrusted_db, transient_db
from libs.common.drain import BESIDE
from libs.common.errors import ConfigurationError, KafkaUnusable, Transient, TransomError
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.producer import Producer
from libs.common.logging import get_logger
from libs.common.service import Service

log = get_logger()

CONNECT_AGAIN_SECONDS = 2.0
LOG_EVERY_TRIES = 30

Role = Literal["edge", "worker", "all"]
"""The edge needs Kafka alone. It stores its refusals when PostgreSQL is there."""
OpenWorker = Callable[[], AbstractAsyncContextManager[tuple[object, BatchConsumer]]]


class EmbeddedWorker:
    """``async with EmbeddedWorker(…)``: the worker starts when PostgreSQL is there.

    It drains after the block, when HTTP ended. ``open_worker`` runs it inside its own block; None: the edge is alone.
    ``producer`` is the edge's.
    """

    def __init__(self, open_worker: OpenWorker | None, producer: Producer, service: Service) -> None:
        self._open_worker = open_worker
        self._producer = producer
        self._service = service
        self._consumer: BatchConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self._ends = asyncio.Event()

    async def __aenter__(self) -> Self:
        if self._open_worker is not None:
            self._task = asyncio.create_task(self._run(self._open_worker))
            self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is None:
            return
        self._ends.set()
        if self._consumer is None:
            self._task.cancel()  # still connecting
        await asyncio.wait({self._task}, timeout=self._service.drain.left(BESIDE))

    async def ready(self) -> None:
        """Raise Transient where the edge, or the worker beside it, cannot work.

        That PostgreSQL is away is no reason.
        """
        if (reason := self._worker_unready() or await self._producer.unready()) is not None:
            raise Transient(reason)

    def _worker_unready(self) -> str | None:
        if self._consumer is not None:
            return self._consumer.unready(but_away=True)
        return None if self._task is None or self._away else "the worker starts"

    def _ended(self, done: "asyncio.Task[None]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._service.stop(error)

    async def _run(self, open_worker: OpenWorker) -> None:
        async with AsyncExitStack() as opened:
            tries = 0
            while self._consumer is None:
                try:
                    _, self._consumer = await opened.enter_async_context(open_worker())
                except Exception as error:
                    if not is_away(error):
                        raise
                    if tries % LOG_EVERY_TRIES == 0:
                        why = {"detail": str(error)} if isinstance(error, TransomError) else {}
                        log.warning("dependency.away", dependency="postgres", **why)
                    tries, self._away = tries + 1, True
                    await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            if self._away:
                log.info("dependency.back", dependency="postgres")
            await self._ends.wait()


def is_away(error: BaseException) -> bool:
    """Whether PostgreSQL could not be opened because it is away or slow.

    A schema that is too old is another error, and so are a certificate that is refused and Kafka without our topics.
    """
    if isinstance(error, KafkaUnusable):
        return False
    cause = error.__cause__ if isinstance(error, ConfigurationError) else error
    if isinstance(cause, Transient):
        cause = cause.__cause__
    return cause is not None and transient_db(cause) and not distrusted_db(cause)
