"""``transom replay``: publish records of a topic, or its dead letters, again.

Rule 1: at least once. Whatever was published is handled like any redelivery: every handler is idempotent. So a run may
        be interrupted, killed and repeated, and two may run at once.
Rule 2: of dead letters the position is kept as the offsets of a consumer group, by topic, reason and number. An offset
        is committed after Kafka has acknowledged the records. The position of a wider selection counts for a narrower
        one. A letter that fails again is a new letter. A selection by time, key or partition keeps no position, and
        neither does one of live records.
Rule 3: a run ends where the topic ended when the run began (``reading``).
Rule 4: nothing is published before the readers are known, and a batch only after the one before was handled
        (``readers``). A dry run publishes nothing and moves no position.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from aiokafka import TopicPartition

from deploy.cli.replay.effects import Effects, watching
from deploy.cli.replay.progress import shown, written
from deploy.cli.replay.readers import outside_of
from deploy.cli.replay.reading import Reading, reading
from deploy.cli.replay.selection import Feed, Found, Selection, origin_of
from libs.common.clock import utc_now
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.topics import administered
from libs.common.printable import printable
from libs.common.settings import KafkaSettings, PostgresSettings
from libs.common.settings import load as load_settings

_MOST_NAMED = 20


@dataclass(slots=True)
class Summary:
    """What a run did. ``others`` counts the records that were not selected, by reason."""

    letters: int = 0
    replayed: int = 0
    lost: int = 0
    """Selected, but the value is missing, or it was compressed and is larger than a record may be."""
    numbers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the replayed records: by reason and event type."""
    others: Counter[str] = field(default_factory=Counter)
    places: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Of the replayed records: by partition how many, the first and the last offset."""
    began_ms: int | None = None
    upto_ms: int | None = None
    """The time of the oldest and of the newest record that was replayed."""
    lost_at: list[str] = field(default_factory=list)

    def take(self, chosen: Sequence[tuple[Found, Feed]]) -> None:
        """Count the records that went, or would go."""
        for found, feed in chosen:
            self.replayed += 1
            self.kinds[feed.reason, feed.kind or ""] += 1
            if feed.number is not None:
                self.numbers[feed.number] += 1
            count, first, _ = self.places.get(found.partition, (0, found.offset, 0))
            self.places[found.partition] = count + 1, first, found.offset
            self.began_ms = found.timestamp if self.began_ms is None else min(self.began_ms, found.timestamp)
            self.upto_ms = found.timestamp if self.upto_ms is None else max(self.upto_ms, found.timestamp)

    def lose(self, found: Found) -> None:
        """Count a record that was selected and cannot go."""
        self.lost += 1
        if len(self.lost_at) < _MOST_NAMED:
            self.lost_at.append(f"{found.partition}/{found.offset}")

    def lines(self, selection: Selection, *, dry: bool) -> list[str]:
        did = "would be fed through again" if dry else "fed through again"
        what = "letters" if selection.dlq else "records"
        lines = [f"{selection.source.name}: {self.letters} {what} read, {self.replayed} {did}"]
        lines += [f"  {count} {_named(*kind)}" for kind, count in self.kinds.most_common(_MOST_NAMED)]
        named = self.numbers.most_common(_MOST_NAMED)
        lines += [f"  {count} of number {number}" for number, count in named]
        if len(self.numbers) > len(named):
            lines.append(f"  and of {len(self.numbers) - len(named)} numbers more")
        if self.began_ms is not None and self.upto_ms is not None:
            lines.append(f"  of the time from {written(self.began_ms)} to {written(self.upto_ms)}")
        if not selection.dlq:
            lines += [
                f"  partition {partition}: {count}, offsets {first} to {last}"
                for partition, (count, first, last) in sorted(self.places.items())
            ]
        lines += [f"  {count} left where they are: {reason}" for reason, count in self.others.most_common()]
        if self.lost:
            lines.append(
                f"  {self.lost} cannot be fed through again: their value is too large, or was too large to be kept"
            )
            if not selection.dlq:
                lines.append(f"  they stand at (partition/offset) {', '.join(self.lost_at)}")
        if selection.reason is not None and not self.replayed and self.others:
            lines.append(f"  none has the reason {selection.reason}: is it one of those above?")
        return lines


@dataclass(slots=True)
class Run:
    """One run of the command. ``limit``: of records to publish. Without ``postgres`` effects are not counted."""

    connection: KafkaConnection
    selection: Selection
    dry: bool = False
    limit: int | None = None
    postgres: PostgresSettings | None = None
    name: str = field(default_factory=lambda: str(uuid4()))
    summary: Summary = field(default_factory=Summary)
    began: bool = False
    """Whether records were looked at."""
    _stopped: bool = False
    _in_vain: bool = False
    _under_way: int = 0
    """Records that may have been published, but are not known to be handled."""
    _ended: bool = False
    _more: list[str] = field(default_factory=list)
    _fed: set[tuple[object, ...] | None] = field(default_factory=set)
    """Of a topic that several services read: the origins of the letters that were fed through."""

    async def go(self) -> list[str]:
        """Do it. Returns what was done, in lines for the operator.

        Raises ConfigurationError where servers cannot be used or nobody reads, Transient where something stalls.
        """
        self.selection.check()
        now = utc_now()
        async with AsyncExitStack() as opened:
            admin = await opened.enter_async_context(administered(self.connection))
            source = await opened.enter_async_context(reading(self.connection, admin, self.selection))
            tell = opened.enter_context(shown(source.size))
            producer: Producer | None = None
            effects: Effects | None = None
            read = 0
            self.began = True
            async for batch in source.batches():
                chosen, done = self._chosen(batch, now)
                self._stopped = done < len(batch)
                if self.dry:
                    self.summary.take(chosen)
                else:
                    if chosen and producer is None:
                        if self.postgres is not None:
                            watch = watching(self.connection, self.postgres, admin, self.selection)
                            effects = await opened.enter_async_context(watch)
                        producer = await opened.enter_async_context(Producer(self.connection))
                    if chosen and producer is not None:
                        await self._publish(producer, effects, chosen)
                    await self._remember(source, batch[:done])
                read += done
                tell(read, self.summary.replayed, batch[done - 1].timestamp if done else 0)
                if self._stopped or self._in_vain:
                    break
            if effects is not None:
                self._more += self._told(effects)
        self._ended = True
        return self.lines()

    def lines(self) -> list[str]:
        """What was done so far, also where the run was interrupted. What records say in it is made printable."""
        lines = self.summary.lines(self.selection, dry=self.dry)
        if self._stopped or self._in_vain or not self._ended:
            lines.append(self._rest())
        if self.summary.replayed and (outside := outside_of(self.selection.topic)):
            will = "would get" if self.dry else "get"
            lines.append(f"  outside Transom these {will} the records once more: {', '.join(outside)}")
        return [printable(line) for line in (*lines, *self._more)]

    def _rest(self) -> str:
        """How to go on after a run that did not come to its end."""
        what = "the limit was reached" if self._stopped else "interrupted"
        if self._in_vain:
            return "  ended early, for too many died again: mend the cause first, or their partition stops"
        if self.selection.remembers:
            return f"  {what}; the next run goes on from here"
        if self._stopped and self.summary.upto_ms is not None:
            return f"  {what}; go on with --from {written(self.summary.upto_ms)}"
        more = f"; up to {self._under_way} more may have been published" if self._under_way else ""
        return f"  {what}: repeat the command, which is safe{more}"

    async def _publish(self, producer: Producer, effects: Effects | None, chosen: Sequence[tuple[Found, Feed]]) -> None:
        feeds = [feed for _, feed in chosen]
        self._under_way = len(feeds)
        if effects is None:
            await producer.publish([one.record for one in feeds])
        else:
            await effects.feed(producer, feeds)
        self._under_way = 0
        self.summary.take(chosen)
        if effects is not None:
            await effects.count_dead(self.name)
            self._in_vain = effects.in_vain()

    async def _remember(self, source: Reading, done: Sequence[Found]) -> None:
        """Keep the position behind these letters."""
        if done and self.selection.remembers:
            await source.consumer.commit({TopicPartition(one.topic, one.partition): one.offset + 1 for one in done})

    def _told(self, effects: Effects) -> list[str]:
        readers = effects.readers
        if not readers.groups:
            return ["  no service reads this topic, so nothing of Transom's changed"]
        lines = [f"  handled by {', '.join(sorted(set(readers.groups.values())))}"]
        lines += effects.changes.lines(died=bool(effects.died))
        lines += [f"  {service} does not run: it reads them when it starts" for service in readers.absent]
        return lines + [f"  {count} died again: {reason}" for reason, count in effects.died.most_common()]

    def _chosen(self, batch: Sequence[Found], now: datetime) -> tuple[list[tuple[Found, Feed]], int]:
        """What to publish of a batch, and how many of its records are done with it."""
        feeds: list[tuple[Found, Feed]] = []
        summary, room = self.summary, None if self.limit is None else self.limit - self.summary.replayed
        may_repeat = self.selection.dlq and self.selection.has_several_readers
        for done, found in enumerate(batch):
            if not self.selection.in_time(found):
                continue
            judged = self.selection.judge(found, self.connection, self.name, now)
            origin = origin_of(found, judged) if may_repeat and isinstance(judged, Feed) else None
            if isinstance(judged, Feed) and origin in self._fed:
                summary.others["another letter of the same record"] += 1
            elif isinstance(judged, Feed):
                if room is not None and len(feeds) >= room:
                    return feeds, done
                feeds.append((found, judged))
                if origin is not None:
                    self._fed.add(origin)
            elif judged.lost:
                summary.lose(found)
            else:
                summary.others[judged.why] += 1
            summary.letters += 1
        return feeds, len(batch)


def run_of_environment(selection: Selection, *, dry: bool, limit: int | None) -> Run:
    """A run on the servers of the environment."""
    connection = load_settings(KafkaSettings).kafka_connection("transom-replay")
    return Run(connection, selection, dry, limit, load_settings(PostgresSettings))


def _named(reason: str, kind: str) -> str:
    if not reason:
        return f"of type {kind}" if kind else "without a type"
    return reason if not kind else f"{reason}, of type {kind}"
