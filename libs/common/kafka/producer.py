"""``publish`` returns when every record of the batch is acknowledged by all in-sync replicas.

Rule 1: it never hangs: after ``delivery_timeout`` it raises Transient. Records that were not acknowledged by then may
        still arrive. The caller publishes the same records again, and readers recognise them by their ids.
Rule 2: a record that is too large for its topic is refused (Permanent, ``record_too_large``) before anything of its
        batch is sent.
Rule 3: nothing lingers: records that come while a request is on its way gather by themselves. A publish is handed over
        in one go. Only records of a partition beyond ``BATCH_BYTES`` wait until the sender has taken what is there, and
        the first publish to a topic waits for its metadata; records that were handed over before may leave meanwhile.
Rule 4: a refusal by the brokers leaves a gap in the idempotent producer's sequence. That producer is then useless, and
        the next ``publish`` begins a new one. What fails with the useless one is published again with it.
Rule 5: the brokers' limit is for a batch. Where they refuse one of several records, all is published again, in batches
        of half its size for this topic (``batch_limits``). Only a record that is refused alone is too large.
Rule 6: whose service works without Kafka may start without it (``may_be_away``): a ``publish`` connects then.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError
from aiokafka.protocol.metadata import MetadataRequest

from libs.common import metrics
from libs.common.clock import steady
from libs.common.drain import DISCONNECTING, FLUSHING, Drain
from libs.common.errors import ConfigurationError, KafkaAway, Permanent, Transient
from libs.common.events.topics import TOPICS, Topic
from libs.common.kafka.aiokafka_patches import Sendable, enqueue, fail_batches
from libs.common.kafka.batch_limits import BatchLimits
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import Headers
from libs.common.log_throttle import throttle_aiokafka_logs
from libs.common.logging import get_logger

log = get_logger()

FLUSH_SECONDS = 5.0  # of a producer that no service drains
HANG_UP_SECONDS = 0.5
START_SECONDS = 10.0
METADATA_SECONDS = 2.0
CONNECT_AGAIN_SECONDS = 2.0
_LOG_EVERY_TRIES = 30
BATCH_BYTES = 256 * 1024
# What a batch of one record adds to key, value and header bytes: the batch header (61) and the record's own lengths.
OVERHEAD_BYTES = 128
HEADER_OVERHEAD_BYTES = 10
_REQUEST_BYTES = max(topic.dlq.max_record_bytes for topic in TOPICS) + BATCH_BYTES


class Record(NamedTuple):
    """A record to publish.

    Without a key it goes to any partition; with neither key nor value its value becomes empty.
    """

    topic: Topic
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def fits(self) -> bool:
        """Whether the topic takes a record of this size."""
        topic, key, value, headers = self
        size = len(key or b"") + len(value or b"") + OVERHEAD_BYTES
        for name, said in headers:
            size += len(name) * 3 + len(said or b"") + HEADER_OVERHEAD_BYTES
        return size <= topic.max_record_bytes


class Producer:
    """``async with Producer(connection) as producer``, or ``start`` and ``stop``. Many tasks may publish at once."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        delivery_timeout: float = 10.0,
        drain: Drain | None = None,
        may_be_away: bool = False,
        seconds: Callable[[], float] = steady,
    ) -> None:
        """``delivery_timeout`` bounds each ``publish``, in seconds: a few for the edge, more for a worker.

        ``drain``: the stop that ``stop`` is part of. ``may_be_away``: ``start`` returns where no broker answers.
        ``seconds``: of a monotonic clock, by which the sizes of batches recover.
        """
        self._connection = connection
        self._delivery_timeout = delivery_timeout
        self._drain = drain
        self._may_be_away = may_be_away
        self._inner: AIOKafkaProducer | None = None
        self._limits = BatchLimits(BATCH_BYTES)
        self._seconds = seconds
        self._spoilt = False
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        drain = self._drain
        if drain is None:
            await self.stop()
        else:
            await self.stop(drain.left(FLUSHING), lambda: drain.left(DISCONNECTING))

    async def start(self) -> None:
        """Connect. Raises ConfigurationError when the brokers cannot be reached in time."""
        throttle_aiokafka_logs()
        if (failure := await self._connect()) is None:
            return
        if not (self._may_be_away and isinstance(failure, KafkaAway)):
            raise failure
        log.warning("dependency.away", dependency="kafka", detail=str(failure))
        self._spoilt = True

    @property
    def is_away(self) -> bool:
        """Whether no broker has answered since the start."""
        return self._inner is None and self._spoilt

    async def until_there(self) -> None:
        """Connect, where no broker has answered since the start.

        Raises ConfigurationError where one answers at last and refuses.
        """
        tries = 0
        while self.is_away:
            await asyncio.sleep(CONNECT_AGAIN_SECONDS)
            tries += 1
            async with self._renewing:
                failure = await self._connect() if self.is_away else None
            if failure is not None and not isinstance(failure, KafkaAway):
                raise failure
            if failure is not None and tries % _LOG_EVERY_TRIES == 0:
                log.warning("dependency.away", dependency="kafka", detail=str(failure))
        if tries:
            log.info("dependency.back", dependency="kafka")

    async def _connect(self) -> ConfigurationError | None:
        """Begin the first inner producer. Returns why that failed."""
        try:
            self._inner = await self._begin(START_SECONDS)
        except (KafkaError, OSError, TimeoutError) as error:
            failure = await self._connection.error("reached", error)
            failure.__cause__ = error
            return failure
        self._spoilt = False
        return None

    async def stop(
        self,
        timeout: float = FLUSH_SECONDS,  # noqa: ASYNC109 -- a bound on a flush, not a cancellation
        then: Callable[[], float] = lambda: HANG_UP_SECONDS,
    ) -> None:
        """Flush what is under way, at most ``timeout`` seconds, and disconnect.

        ``then`` is asked how long that may take.
        """
        inner, self._inner, self._spoilt = self._inner, None, False
        if inner is not None:
            await _end(inner, timeout, then)

    async def publish(self, records: Sequence[Record]) -> frozenset[TopicPartition]:
        """Return when all are acknowledged, and where they stand; in one partition they keep the order given.

        Raises Transient (not acknowledged in time, brokers away) or Permanent (``record_too_large``).
        """
        if not records:
            return frozenset()
        for record in records:
            if not record.fits():
                raise Permanent("record_too_large", f"{record.topic.name} takes {record.topic.max_record_bytes} bytes")
        loop = asyncio.get_running_loop()
        began = loop.time()
        counts = Counter([record.topic.name for record in records])
        names = {bare: self._connection.name(bare) for bare in counts}
        sent = [
            (names[r.topic.name], r.key, b"" if r.value is None and r.key is None else r.value, r.headers)
            for r in records
        ]
        try:
            async with asyncio.timeout(self._delivery_timeout):
                while (places := await self._acknowledged(sent)) is None:
                    pass
        except (KafkaError, OSError, TimeoutError) as error:
            metrics.PUBLISH_FAILURES.labels(type(error).__name__).inc()
            raise self._failure(error) from error
        metrics.PUBLISH_SECONDS.observe(loop.time() - began)
        for topic, count in counts.items():
            metrics.RECORDS_PUBLISHED.labels(topic).inc(count)
        return places

    async def _acknowledged(self, sent: Sequence[Sendable]) -> frozenset[TopicPartition] | None:
        """Where they stand; None where they are to be published again with the next producer."""
        batches: dict[asyncio.Future[Any], Any] = {}
        inner = await self._usable()
        try:
            await enqueue(inner, sent, batches, partial(self._look, inner), self._size_of)
            await asyncio.wait(batches)
            return frozenset([acknowledgement.result().topic_partition for acknowledgement in batches])
        except KafkaError as error:
            if any(
                _is_refused(acknowledgement) and batch.record_count == 1 for acknowledgement, batch in batches.items()
            ):
                raise MessageSizeTooLargeError from error
            if inner is not self._inner or self._spoilt:
                return None  # a batch was refused, or another publish: this failure says nothing of what it wrote
            self._judge(error)
            raise

    def _look(self, inner: AIOKafkaProducer, batch: Any, acknowledgement: "asyncio.Future[Any]") -> None:
        """Look at the answer for a batch as soon as it is there, before the sender takes the next one.

        The brokers may take what comes behind a refused batch, and the order would be lost. So nothing more is sent.
        """
        if _is_refused(acknowledgement) and inner is self._inner and not self._spoilt:
            self._spoilt = True
            if batch.record_count > 1:
                self._limits.refuse(batch.tp.topic, len(batch.get_data_buffer()), self._seconds())
            fail_batches(inner, "a batch before these was refused")

    def _size_of(self, topic: str) -> int | None:
        return self._limits.of(topic, self._seconds())

    async def partitions(self, topic: Topic) -> int:
        """How many partitions a topic has now, by the brokers' metadata; 0 where it does not exist.

        Takes at most ``METADATA_SECONDS``.

        Raises Transient when they cannot be asked.
        """
        client = (await self._usable()).client
        name = self._connection.name(topic.name)
        try:
            async with asyncio.timeout(METADATA_SECONDS):
                await client.add_topic(name)
                if not await client.force_metadata_update():
                    raise Transient("kafka did not return its metadata")
        except (KafkaError, OSError, TimeoutError) as error:
            raise Transient(f"kafka did not return its metadata: {type(error).__name__}") from error
        return len(client.cluster.partitions_for_topic(name) or ())

    async def unready(self) -> str | None:
        """Why nothing can be published now, or None; asks the brokers, at most two and a half seconds."""
        inner = self._inner
        if inner is None:
            return "kafka: the producer is not started"
        try:
            async with asyncio.timeout(2):
                await _ask(inner.client)
        except (KafkaError, OSError, TimeoutError) as error:
            cause = await self._connection.cause()
            return f"kafka: {type(error).__name__}" + ("" if cause is None else f" ({cause})")
        return None

    def _judge(self, error: Exception) -> None:
        """A refusal spoils the producer; mere lateness and lost connections do not: it goes on trying by itself."""
        if isinstance(error, KafkaError) and not error.retriable:
            self._spoilt = True

    @staticmethod
    def _failure(error: Exception) -> Transient | Permanent:
        if isinstance(error, MessageSizeTooLargeError):
            return Permanent("record_too_large", "the broker's limit is below the declared one")
        return Transient(f"not acknowledged by Kafka: {type(error).__name__}")

    async def _usable(self) -> AIOKafkaProducer:
        if self._spoilt:
            async with self._renewing:
                if self._spoilt:
                    spoilt, self._inner = self._inner, await self._begin(self._delivery_timeout)
                    self._spoilt = False
                    if spoilt is not None:
                        await _end(spoilt, 0.5)
        if self._inner is None:
            raise Transient("the producer is not started")
        return self._inner

    async def _begin(self, timeout: float) -> AIOKafkaProducer:  # noqa: ASYNC109 -- bounds a connection attempt
        inner = AIOKafkaProducer(
            **self._connection.client_options(),
            acks="all",
            enable_idempotence=True,
            max_batch_size=BATCH_BYTES,
            max_request_size=_REQUEST_BYTES,
            request_timeout_ms=max(1000, int(self._delivery_timeout * 1000)),
            retry_backoff_ms=50,
        )
        try:
            async with asyncio.timeout(timeout):
                await inner.start()
        except BaseException:
            await _end(inner, 0.1)
            raise
        return inner


async def _ask(client: AIOKafkaClient) -> None:
    """Ask the brokers, in any order, until one answers. Raises KafkaError where none does.

    The question is for the metadata of no topic: that of all costs a process more than a batch of messages.
    """
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(nodes)
    failure = KafkaError("no broker is known")
    for node in nodes:
        try:
            if await client.ready(node):
                await client.send(node, MetadataRequest([]))
                return
            failure = KafkaConnectionError(f"broker {node} cannot be reached")
        except KafkaError as error:
            failure = error
    raise failure


async def _end(inner: AIOKafkaProducer, patience: float, then: Callable[[], float] = lambda: HANG_UP_SECONDS) -> None:
    """Stop an aiokafka producer. By itself it would wait for ever for batches that cannot be delivered."""
    stopping = asyncio.ensure_future(inner.stop())
    done, _ = await asyncio.wait([stopping], timeout=patience)
    if not done:
        fail_batches(inner, "the producer is being stopped")
        await asyncio.wait([stopping], timeout=min(HANG_UP_SECONDS, then()))
    if stopping.done():
        stopping.exception()
    else:
        stopping.cancel()


def _is_refused(acknowledgement: "asyncio.Future[Any]") -> bool:
    """Whether the batch is larger than the brokers take.

    Asked of every answer, so that the event loop reports no late failure as never retrieved.
    """
    done = acknowledgement.done() and not acknowledgement.cancelled()
    return done and isinstance(acknowledgement.exception(), MessageSizeTooLargeError)
