"""``transom replay --dlq``: publish dead letters again, once their cause is fixed.

Rule 1: a letter's own key, value and headers go to the topic that it came from. Further headers mark it as a replay.
        The value is unchanged, so a webhook keeps its provider's time and the time of its first receipt.
Rule 2: at least once. An offset is committed after Kafka has acknowledged the records. An interrupted run may publish
        its last records again, which has no effect: every handler is idempotent.
Rule 3: a selection (topic, reason, number) keeps its position as the offsets of a consumer group. The position of a
        wider selection counts for a narrower one. A letter that fails again is a new letter.
Rule 4: a run ends where the dead-letter topic ended when the run began. Letters of one key stay in their order.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.common.errors import ConfigurationError, Transient
from libs.common.events.base import named_type
from libs.common.events.topics import TOPICS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.dead_letter import REPLAYED, Original, original_of
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.topics import administered
from libs.common.settings import KafkaSettings
from libs.common.settings import load as load_settings

_BATCH = 500
_POLL_MS = 500
_MOST_NAMED = 20

_PATIENCE = 60  # polls without an answer

Letter: TypeAlias = "ConsumerRecord[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters to replay: of ``topic``, with this reason, of this business number. None selects all."""

    topic: Topic
    reason: str | None = None
    number: str | None = None

    def groups(self, connection: KafkaConnection) -> list[str]:
        """The consumer groups whose offsets count: that of this selection first, then those of wider ones."""
        wider = [(self.reason, self.number), (self.reason, None), (None, None)]
        names = dict.fromkeys(".".join(part for part in (self.topic.name, *pair) if part) for pair in wider)
        return [connection.name(f"replay.{name}") for name in names]


@dataclass(slots=True)
class Summary:
    """What a run did. ``others`` counts the letters that were not selected, by reason."""

    letters: int = 0
    replayed: int = 0
    lost: int = 0
    """Selected, but the value is missing, or it was compressed and is larger than a record may be."""
    numbers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the replayed letters: by reason and event type."""
    others: Counter[str] = field(default_factory=Counter)

    def lines(self, selection: Selection, *, dry: bool, stopped: bool) -> list[str]:
        did = "would be fed through again" if dry else "fed through again"
        lines = [f"{selection.topic.dlq.name}: {self.letters} letters read, {self.replayed} {did}"]
        lines += [f"  {count} {reason}{name}" for (reason, name), count in self.kinds.most_common(_MOST_NAMED)]
        named = self.numbers.most_common(_MOST_NAMED)
        lines += [f"  {count} of number {number}" for number, count in named]
        if len(self.numbers) > len(named):
            lines.append(f"  and of {len(self.numbers) - len(named)} numbers more")
        lines += [f"  {count} left where they are: {reason}" for reason, count in self.others.most_common()]
        if self.lost:
            lines.append(
                f"  {self.lost} cannot be fed through again: their value is too large, or was too large to be kept"
            )
        if stopped:
            lines.append("  the limit was reached; the next run goes on from here")
        return lines


async def replay_letters(selection: Selection, *, dry: bool, limit: int | None) -> list[str]:
    """Replay the selection on the brokers of the environment. Returns what was done, in lines for the operator."""
    return await replay(
        load_settings(KafkaSettings).kafka_connection("transom-replay"), selection, dry=dry, limit=limit
    )


async def replay(connection: KafkaConnection, selection: Selection, *, dry: bool, limit: int | None) -> list[str]:
    """As ``replay_letters``, on these brokers. Raises ConfigurationError where they cannot be used."""
    summary = Summary()
    stopped, silent = False, 0
    async with _reading(connection, selection) as consumer, Producer(connection) as producer:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(list(consumer.assignment()))
        for place, end in sorted(ends.items()):
            while not stopped and await consumer.position(place) < end:
                found: dict[TopicPartition, list[Letter]] = await consumer.getmany(
                    place, timeout_ms=_POLL_MS, max_records=_BATCH
                )
                silent = 0 if found else silent + 1
                if silent > _PATIENCE:
                    raise Transient(
                        f"the brokers give no more of {selection.topic.dlq.name}; the next run goes on from here"
                    )
                letters = [letter for letter in found.get(place, ()) if letter.offset < end]
                room = None if limit is None else limit - summary.replayed
                records, done = _chosen(letters, selection, connection, summary, room)
                stopped = done < len(letters)
                if done and not dry:
                    await producer.publish(records)
                    await consumer.commit({place: letters[done - 1].offset + 1})
    return summary.lines(selection, dry=dry, stopped=stopped)


def _chosen(
    letters: Sequence[Letter], selection: Selection, connection: KafkaConnection, summary: Summary, room: int | None
) -> tuple[list[Record], int]:
    """The records to publish, at most ``room``, and how many letters are done with them."""
    records: list[Record] = []
    for done, letter in enumerate(letters):
        original = original_of(letter.key, letter.value, tuple(letter.headers))
        reason = _reason(letter)
        value = _read(original.value if original else None)
        number = _number(value)
        if (selection.reason is not None and reason != selection.reason) or (
            selection.number is not None and number != selection.number
        ):
            summary.others[reason] += 1
        elif original is None or not (record := _replayed(letter, original, selection, connection)).fits():
            summary.lost += 1
        elif room is not None and len(records) >= room:
            return records, done
        else:
            records.append(record)
            summary.replayed += 1
            summary.kinds[reason, "" if (name := named_type(value)) is None else f", of type {name}"] += 1
            if number is not None:
                summary.numbers[number] += 1
        summary.letters += 1
    return records, len(letters)


def _replayed(letter: Letter, original: Original, selection: Selection, connection: KafkaConnection) -> Record:
    place = f"{connection.name(selection.topic.dlq.name)} {letter.partition} {letter.offset}"
    marks = ((f"{REPLAYED}from", place.encode()), (f"{REPLAYED}reason", original.reason.encode()))
    return Record(selection.topic, original.key, original.value, (*original.headers, *marks))


def _reason(letter: Letter) -> str:
    reason = dict(letter.headers).get("reason")  # the last header of this name is Transom's
    return "no letter of ours" if reason is None else reason.decode(errors="replace")


def _read(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None


def _number(found: Any) -> str | None:
    """The business number that a webhook names: a phone_number_id, or of an SMS the number called, in E.164."""
    match found:
        case {"phone_number_id": str(number)}:
            return number
        case {
            "type": "webhook.twilio_sms.v1" | "webhook.vonage_sms.v1",
            "form": {"To": str(called)} | {"to": str(called)},
        }:
            return f"+{called.removeprefix('+')}"
    return None


@asynccontextmanager
async def _reading(connection: KafkaConnection, selection: Selection) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of the dead-letter topic, positioned where the last run of the selection ended."""
    name = connection.name(selection.topic.dlq.name)
    groups = selection.groups(connection)
    consumer = AIOKafkaConsumer(
        **connection.client_options(), group_id=groups[0], enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with administered(connection) as admin:
        try:
            await consumer.start()
            if name not in await admin.list_topics():
                raise ConfigurationError(f"the topic {name} does not exist: has `transom topics` created it?")
            (topic,) = await admin.describe_topics([name])
            places = [TopicPartition(name, each["partition"]) for each in topic["partitions"]]
            consumer.assign(places)
            done = [await admin.list_consumer_group_offsets(group, partitions=places) for group in groups]
            begins: dict[TopicPartition, int] = await consumer.beginning_offsets(places)
            for place in places:
                committed = [offsets[place].offset for offsets in done if place in offsets]
                consumer.seek(place, max(begins[place], *committed))
            yield consumer
        finally:
            await consumer.stop()


def topic_named(name: str) -> Topic:
    """A declared topic by its name, or by that of its dead letters. Raises ConfigurationError."""
    wanted = name.removesuffix(".dlq")
    found = next((topic for topic in TOPICS if topic.name == wanted), None)
    if found is None:
        raise ConfigurationError(f"no topic is called {wanted}: one of {', '.join(topic.name for topic in TOPICS)}")
    return found
