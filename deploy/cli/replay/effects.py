"""What a replay did beyond publishing: the rows that changed, and the records that died again.

Rule 1: a batch is published once its rows were read, and they are read again once every service that reads the topic
        has handled it. What differs is counted by table. A row that live traffic changed in between counts too.
Rule 2: only what the handlers did is counted. A send is called, and its statuses come, after that.
Rule 3: records that died again are counted by their dead letters, which name this run.
Rule 4: a run ends before what dies again stops a partition (``TRANSOM_DLQ_RUN_LIMIT``, 100 in a row). Live records
        would wait there.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cli.replay import reading
from deploy.cli.replay.queries import Rows, rows_of
from deploy.cli.replay.readers import Readers
from deploy.cli.replay.selection import Feed, Selection, run_of
from deploy.cli.replay.subjects import Subjects
from libs.common.db.pool import Pool, open_pool
from libs.common.errors import Transient
from libs.common.events.topics import Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.retryable import is_retryable
from libs.common.settings import PostgresSettings

QUERY_SECONDS = 30.0
MOST_DEAD = 50
"""Dead letters that count towards the stop of a partition."""
_STOPPING = frozenset(
    {"handler_failed", "statement_too_slow", "empty", "not_utf8", "not_json", "not_an_object", "bad_header"}
)


@dataclass(slots=True)
class Changes:
    """Rows that are there since, and rows that hold something else, by table."""

    new: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    looked_at: int = 0
    unnamed: int = 0
    """Records that name no row, of all that were looked at."""

    def add(self, before: Rows, after: Rows) -> None:
        for (table, key), digest in after.items():
            if (table, key) not in before:
                self.new[table] += 1
            elif before[table, key] != digest:
                self.changed[table] += 1

    def lines(self, *, died: bool) -> list[str]:
        """One for each table, and one where nothing changed. ``died``: whether records died again, in vain."""
        found = [f"  {n} new in {table}" for table, n in sorted(self.new.items())]
        found += [f"  {n} changed in {table}" for table, n in sorted(self.changed.items())]
        if not found and self.unnamed < self.looked_at:
            found.append("  nothing changed" if died else "  nothing changed: all of it had its effect before")
        if self.unnamed:
            found.append(f"  {self.unnamed} name no row by its key: what they changed is not counted")
        return found


@dataclass(slots=True)
class Effects:
    """Publishes batches and tells what they did; see ``watching``."""

    topic: Topic
    readers: Readers
    changes: Changes = field(default_factory=Changes)
    died: Counter[str] = field(default_factory=Counter)
    """Records of this run that died again, by reason."""
    _connection: KafkaConnection = field(kw_only=True)
    _pool: Pool = field(kw_only=True)
    _consumer: AIOKafkaConsumer = field(kw_only=True)
    _letters_from: dict[TopicPartition, int] = field(kw_only=True)

    async def feed(self, producer: Producer, batch: Sequence[Feed]) -> None:
        """Publish the batch; return once its readers have handled it."""
        records = [one.record for one in batch]
        if not self.readers.groups:
            await producer.publish(records)
            return
        subjects = Subjects.of(one.value for one in batch)
        self.changes.looked_at += len(batch)
        self.changes.unnamed += sum(Subjects.of([one.value]) == Subjects() for one in batch)
        before = await self._rows(subjects)
        places = await producer.publish(records)
        await self.readers.handled(await self._consumer.end_offsets(list(places)))
        self.changes.add(before, await self._rows(subjects))

    def in_vain(self) -> bool:
        """Whether so many records died again that the run must end."""
        return sum(self.died[reason] for reason in _STOPPING) >= MOST_DEAD

    async def count_dead(self, run: str) -> None:
        """Count the records of this run that died again since the last call."""
        places = list(self._letters_from)
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(places)
        if ends == self._letters_from:
            return
        self._consumer.assign(places)
        for place, at in self._letters_from.items():
            self._consumer.seek(place, at)
        letters = reading.Reading(self._consumer, self._letters_from, ends)
        async for batch in letters.batches():
            for letter in batch:
                headers = tuple(letter.headers)
                if run_of(headers) == run:
                    self.died[(dict(headers).get("reason") or b"").decode(errors="replace")] += 1
        self._letters_from = ends

    async def _rows(self, subjects: Subjects) -> Rows:
        try:
            async with self._pool.acquire() as db:
                return await rows_of(db, subjects)
        except Exception as error:
            if not is_retryable(error):
                raise
            raise Transient(
                "PostgreSQL does not answer, so what changes cannot be told: repeat the command, which is safe"
            ) from error


@asynccontextmanager
async def watching(
    connection: KafkaConnection, postgres: PostgresSettings, admin: AIOKafkaAdminClient, selection: Selection
) -> AsyncIterator[Effects]:
    """Effects of a run on the selection's topic.

    Raises ConfigurationError where nobody reads it, or a server does not answer.
    """
    topic = selection.topic
    readers = await Readers.of(connection, admin, topic)
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(
            open_pool(
                postgres.postgres_dsn.get_secret_value(),
                application_name="transom-replay",
                size=1,
                command_seconds=QUERY_SECONDS,
            )
        )
        consumer = AIOKafkaConsumer(**connection.client_options(), enable_auto_commit=False)
        await consumer.start()
        opened.push_async_callback(consumer.stop)
        (described,) = await admin.describe_topics([connection.name(topic.dlq.name)])
        letters = [TopicPartition(described["topic"], each["partition"]) for each in described["partitions"]]
        yield Effects(
            topic,
            readers,
            _connection=connection,
            _pool=pool,
            _consumer=consumer,
            _letters_from=await consumer.end_offsets(letters),
        )
