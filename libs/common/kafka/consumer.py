"""The batch consumer: FastStream's batch subscribers, with our own decoding, failure policy and offsets.

FastStream reads (``batch=True``), hands over and drains. Acknowledgement is manual and never asked of it, and its
decoder does nothing. ``batch_processor`` decides what becomes of a batch, ``batch_runner`` carries it out. Each
subscription has a consumer and a group of its own, so that errors and rebalances of one topic do not touch another.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Self

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import FAKE_CONSUMER, KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.drain import BATCHES, LEAVING, Drain
from libs.common.errors import ConfigurationError, KafkaUnusable
from libs.common.kafka import aiokafka_patches
from libs.common.kafka.aiokafka_patches import FencedError, hang_up
from libs.common.kafka.batch_processor import Remember
from libs.common.kafka.batch_runner import REPORT_INTERVAL, BatchRunner
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.faststream_patches import use_consumer
from libs.common.kafka.partitions import STOP_BASE, Partitions
from libs.common.kafka.producer import Producer
from libs.common.kafka.rewinding_consumer import RewindingConsumer
from libs.common.kafka.stalls import STALLED_AFTER, GroupWatch, Stalls
from libs.common.kafka.topology import Publisher, Subscription, declare_publishers, declare_subscriber
from libs.common.log_throttle import throttle_aiokafka_logs
from libs.common.logging import get_logger
from libs.common.periodic import run_periodically

log = get_logger()

POLL_MS = 5  # FastStream waits twice as long when a topic is idle
REBALANCE_PATIENCE = 4.0  # for the batch in flight, before its partitions go; less than the session timeout
HANG_UP_SECONDS = 0.5
DRAIN_SECONDS = 15.0  # of a consumer that no service drains
COMMIT_RETRY_INTERVAL = timedelta(seconds=2)
LAG_INTERVAL = timedelta(seconds=5)
RETRY_INTERVAL = timedelta(seconds=0.5)
_CONSUMER_OPTIONS: dict[str, Any] = {
    "auto_offset_reset": "none",  # RewindingConsumer begins at the oldest record, and says what was lost
    "isolation_level": "read_committed",
    "max_partition_fetch_bytes": 5 * 1024 * 1024,
    "fetch_max_bytes": 8 * 1024 * 1024,
    "heartbeat_interval_ms": 3_000,
    "max_poll_interval_ms": 300_000,
}

_log = logging.getLogger("faststream.transom")
_log.setLevel(logging.ERROR)  # below that FastStream logs every batch, and that it creates no topics


class BatchConsumer:
    """Runs subscriptions until stopped. ``async with`` starts it and drains it.

    A killed member keeps its place until its session is over, and the other members wait for that. Several killed
    members make several sessions. The consumer waits however long it takes: ``unready()`` says so, and ``watch()``
    raises when it is in vain.

    Readiness: ``unready()`` names

    - a stopped partition. It stops after ``dlq_run_limit`` stopping dead letters in a row (``errors.Permanent.stops``,
      bugs of ours); the others go on, and a line says so every minute. It is resumed by itself, first after
      ``STOP_BASE``, later at the pace of ``partitions.STOP_CAP``.
    - a partition that has made no progress for ``STALLED_SECONDS`` although records wait.
    """

    SESSION_SECONDS: ClassVar[float] = 10.0
    """The partitions of a killed replica move after so long a silence."""
    START_SECONDS: ClassVar[float] = 10.0
    """``start`` waits so long for the brokers and the topics, and raises without them. Then the service answers HTTP
    while it waits for its places in the groups."""
    STALLED_SECONDS: ClassVar[float] = STALLED_AFTER
    STOP_BASE: ClassVar[timedelta] = STOP_BASE
    FETCH_SECONDS: ClassVar[float] = 0.5
    """A fetch waits so long for records. The first one answers it, so a long wait delays none. It holds up what is not
    in it: a partition that is rewound or resumed, or whose records waited for the batch before longer than 100 ms.
    Where a subscription is not hurried that matters less than a process at rest, so there it waits longer."""
    UNHURRIED: ClassVar[int] = 4
    METADATA_AGE_MS: ClassVar[int] = 30_000
    """Partitions that are added, and those of a topic that was made anew, are seen after so long."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        group: str,
        service: str,
        subscriptions: Sequence[Subscription[Any]],
        producer: Producer,
        now: Clock,
        remember: Remember | None = None,
        publishers: Sequence[Publisher] = (),
        dlq_run_limit: int = 100,
        instance_id: str | None = None,
        drain: Drain | None = None,
    ) -> None:
        """Nothing is connected before ``start``.

        ``group``: each subscription's consumer group is ``<prefix><group>.<topic>``.
        ``instance_id``: static membership, unique per replica and stable over its restarts.
        ``producer``: writes dead letters; it must be started and outlive this consumer.
        ``remember``: stores a trace of dead letters elsewhere.
        ``drain``: the time that ``stop`` may take, as part of the service's stop.
        """
        self._connection = connection
        self._instance_id = instance_id
        self._drain = drain
        self._joining: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._running = False
        self._broker = KafkaBroker(
            "unused",
            client_id=connection.client_id,
            consumer_only=True,
            allow_auto_create_topics=False,
            graceful_timeout=0.1,  # the batches in flight were waited for before
            logger=_log,
            apply_types=False,
        )
        declare_publishers(self._broker, publishers, connection.name)
        self._runners: list[BatchRunner[Any]] = []
        self._subscribers: list[BatchSubscriber] = []
        for subscription in subscriptions:
            source_topic = connection.name(subscription.topic.name)
            partitions = Partitions(
                subscription.topic.name,
                source_topic,
                now,
                dlq_run_limit,
                stop_base=self.STOP_BASE,
                stalls=Stalls(self.STALLED_SECONDS),
                group_watch=GroupWatch(Stalls(self.STALLED_SECONDS)),
            )
            runner = BatchRunner(subscription, partitions, producer, service, now, remember)
            fetch_ms = int(self.FETCH_SECONDS * 1000) * (1 if subscription.hurried else self.UNHURRIED)
            subscriber = declare_subscriber(
                self._broker,
                source_topic,
                runner.on_batch,
                subscription.event,
                batch_timeout_ms=POLL_MS,
                max_records=subscription.max_records,
                group_id=connection.name(f"{group}.{subscription.topic.name}"),
                group_instance_id=instance_id,
                ack_policy=AckPolicy.MANUAL,
                listener=_Listener(runner),
                parser=_parse,
                decoder=_decode,
                no_reply=True,
                session_timeout_ms=int(self.SESSION_SECONDS * 1000),
                fetch_max_wait_ms=fetch_ms,
                consumer_timeout_ms=2 * fetch_ms,  # aiokafka's reading task wakes up so often; news wakes it at once
                **_CONSUMER_OPTIONS,
            )
            partitions.find_consumer = partial(getattr, subscriber, "consumer")
            self._runners.append(runner)
            self._subscribers.append(subscriber)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Join the groups, or begin to.

        Raises ConfigurationError when the brokers are not reached in time or do not have the topics.
        """
        aiokafka_patches.install()
        throttle_aiokafka_logs()
        await self._broker.connect()
        self._failed = asyncio.get_running_loop().create_future()
        use_consumer(
            self._broker,
            partial(
                RewindingConsumer,
                fail=self._fail,
                lost=self._lost,
                uncommitted=self._uncommitted,
                metadata_max_age_ms=self.METADATA_AGE_MS,
                **self._connection.client_options(),
            ),
        )
        self._joining = [asyncio.create_task(subscriber.start()) for subscriber in self._subscribers]
        try:
            done, _ = await asyncio.wait(self._joining, timeout=self.START_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            for joined in done:
                joined.result()
            for subscriber in self._subscribers:
                _require_topic(subscriber)
        except (KafkaError, OSError, TimeoutError) as error:
            await self._leave_groups(0.5)
            raise self._failure(error) from error
        except BaseException:
            await self._leave_groups(0.0)
            raise
        for joining in self._joining:
            joining.add_done_callback(self._joined)
        if self._waiting():
            log.warning("consumer.waiting", topic=", ".join(self._waiting()))
        self._running = True
        self._tasks = [
            asyncio.create_task(run_periodically(name, period, task))
            for name, period, task in (
                ("report", timedelta(seconds=REPORT_INTERVAL), self._report),
                ("retry", RETRY_INTERVAL, self._retry),
                ("commit", COMMIT_RETRY_INTERVAL, self._retry_commits),
                ("lag", LAG_INTERVAL, self._measure_lag),
            )
        ]

    async def stop(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- bounds a wait
        """Take no new batch, let those in flight finish and commit, and leave the groups.

        Records of a batch that is not finished after ``timeout`` seconds are read again.
        """
        drain = self._drain or Drain(DRAIN_SECONDS, asyncio.get_running_loop().time)
        drain.begin()
        self._running = False
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        for runner in self._runners:
            runner.leave()
        patience = drain.left(BATCHES) if timeout is None else timeout
        await asyncio.gather(*(runner.until_idle(patience) for runner in self._runners))
        await self._leave_groups(drain.left(LEAVING))
        for runner in self._runners:
            runner.break_off()
        await asyncio.gather(*(runner.until_idle(min(1.0, drain.left())) for runner in self._runners))
        for runner in self._runners:
            runner.end()

    async def watch(self) -> None:
        """Never return. Raise ConfigurationError when a group has no place for us, or when another process took it."""
        if self._failed is not None:
            await asyncio.shield(self._failed)
        await asyncio.Event().wait()

    async def _leave_groups(self, patience: float) -> None:
        """What is not done in time, the brokers do when the session is over."""
        for joining in self._joining:
            joining.cancel()
        leaving = asyncio.create_task(self._broker.stop())
        await asyncio.wait({leaving}, timeout=patience)
        if not leaving.done():
            hanging_up = [hang_up(s.consumer) for s in self._subscribers if s.consumer is not None]
            ends = {leaving, *self._joining, *(asyncio.ensure_future(each) for each in hanging_up)}
            await asyncio.wait(ends, timeout=HANG_UP_SECONDS)  # requests under way fail now
        if not leaving.done():
            leaving.cancel()
            log.warning("consumer.left_behind", reason="timeout")
        elif (error := leaving.exception()) is not None:
            log.warning("consumer.left_behind", reason=type(error).__name__)

    def _joined(self, joining: "asyncio.Task[None]") -> None:
        if not joining.cancelled() and (error := joining.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Let ``watch`` raise it."""
        if isinstance(error, FencedError):
            log.error("consumer.fenced", reason="another process has joined under the same TRANSOM_INSTANCE")
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(self._failure(error))
            self._failed.exception()  # asyncio logs an exception that nothing reads, and ``watch`` may not be called

    def _lost(self, place: TopicPartition, stood: int, first: int) -> None:
        """Say that records from ``stood`` on were deleted unread. Fewer than none: the topic was made anew."""
        how_many = {"records": first - stood} if first > stood else {}
        runner = self._runner(place)
        runner.deleted(place.partition, first)
        topic = runner.subscription.topic.name
        metrics.RECORDS_LOST.labels(topic).inc(how_many.get("records", 1))
        log.error("records.lost", topic=topic, partition=place.partition, offset=stood, **how_many)

    def _uncommitted(self, place: TopicPartition, first: int, records: int) -> None:
        """Say that a partition is read from its oldest record on, because nothing of it is committed."""
        topic = self._runner(place).subscription.topic.name
        log.warning("offsets.missing", topic=topic, partition=place.partition, offset=first, records=records)

    def _runner(self, place: TopicPartition) -> BatchRunner[Any]:
        (runner,) = (one for one in self._runners if one.partitions.source_topic == place.topic)
        return runner

    def _failure(self, error: BaseException) -> BaseException:
        match error:
            case FencedError():
                return ConfigurationError(
                    f"another process has joined the group as {self._instance_id}:"
                    " TRANSOM_INSTANCE must be another one for each process that runs at the same time"
                )
            case KafkaError() | OSError():
                return KafkaUnusable(
                    f"Kafka at {self._connection.bootstrap} cannot be consumed ({type(error).__name__}):"
                    " is it running, are the topics declared, and is TRANSOM_KAFKA_BOOTSTRAP right?"
                )
            case _:
                return error

    def _waiting(self) -> list[str]:
        """The topics in whose groups we have no place yet."""
        return [
            runner.subscription.topic.name
            for runner, joining in zip(self._runners, self._joining, strict=True)
            if not joining.done()
        ]

    def unready(self, *, but_away: bool = False) -> str | None:
        """Why this consumer cannot do its work, or None.

        ``but_away``: a server of its handlers that is away is no reason.
        """
        if not self._running:
            return "kafka: the consumer is not running"
        if waiting := self._waiting():
            return (
                f"{', '.join(waiting)}: waits for its place in the group, until the sessions of killed members are over"
            )
        now = asyncio.get_running_loop().time()
        reasons = [reason for runner in self._runners if (reason := runner.unready(now, but_away=but_away))]
        return "; ".join(reasons) or None

    async def behind(self, topic: str) -> dict[int, float]:
        """For each of our partitions of ``topic`` the age, in seconds, of its latest end that is processed.

        It is infinite where no such end is known. The answer is empty before the start and during a rebalance.
        """
        runners = [runner for runner in self._runners if runner.subscription.topic.name == topic]
        return await runners[0].partitions.behind() if self._running and runners else {}

    async def _report(self) -> None:
        if waiting := self._waiting():
            log.warning("consumer.waiting", topic=", ".join(waiting))
        for runner in self._runners:
            runner.report(asyncio.get_running_loop().time())

    async def _retry(self) -> None:
        for runner in self._runners:
            runner.retry(asyncio.get_running_loop().time())

    async def _retry_commits(self) -> None:
        await asyncio.gather(*(runner.partitions.commits.retry() for runner in self._runners))

    async def _measure_lag(self) -> None:
        await asyncio.gather(*(runner.partitions.measure_lag() for runner in self._runners))
        for runner in self._runners:
            runner.report_lag(asyncio.get_running_loop().time())


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Gives the batches in flight time to finish before their partitions go to another member."""

    def __init__(self, runner: BatchRunner[Any]) -> None:
        self._runner = runner

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if revoked:
            await self._runner.until_idle(REBALANCE_PATIENCE)
        self._runner.partitions.on_revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._runner.partitions.on_assigned(assigned)


def _require_topic(subscriber: BatchSubscriber) -> None:
    """Raises TimeoutError unless it has found the brokers and, on them, its topics."""
    consumer = subscriber.consumer
    if consumer is None or not all(map(consumer.partitions_for_topic, subscriber.topic_names)):
        raise TimeoutError


async def _parse(records: "tuple[ConsumerRecord[bytes, bytes], ...]") -> KafkaMessage:
    """Replaces FastStream's parser, which decodes headers: one that is not UTF-8 would fail the whole batch."""
    return KafkaMessage(body=b"", headers={}, raw_message=records, message_id="", consumer=FAKE_CONSUMER)


async def _decode(message: KafkaMessage) -> Any:
    return message.raw_message
