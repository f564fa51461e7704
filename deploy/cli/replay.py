"""``transom replay --dlq``: feed dead letters through again, once what they died of is mended.

Rule 1: a letter's own key, value and headers go to the topic that it came from; headers beside them say that it is a replay. What stands in the
        value stays, so a webhook is judged by its provider's time and by its first receipt, as if it had been understood then.
Rule 2: at least once. Letters are acknowledged by Kafka before they are remembered as done; an interrupted run may repeat the last of them,
        which changes nothing, because every handler recognises what it has seen.
Rule 3: a selection (topic, reason, number) remembers how far it came, as the offsets of a consumer group. A wider selection's word counts for a
        narrower one. A letter that dies again is a new letter.
Rule 4: the end of the dead-letter topic is the one at the start of the run; letters of one key stay in their order.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from libs.common.errors import ConfigurationError, Transient
from libs.common.events.base import named_type
from libs.common.events.topics import TOPICS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.dead_letter import REPLAYED, Original, original_of
from libs.common.kafka.producer import Producer, Record
from libs.common.settings import KafkaSettings
from libs.common.settings import load as load_settings

_BATCH = 500
_POLL_MS = 500
_MOST_NAMED = 20

_PATIENCE = 60  # polls without an answer

Letter: TypeAlias = "ConsumerRecord[bytes, bytes]"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters: of ``topic``, with this reason, of this business number; None takes all."""

    topic: Topic
    reason: str | None = None
    number: str | None = None

    def groups(self, connection: KafkaConnection) -> list[str]:
        """The consumer groups whose offsets count: this selection's own first, then those of wider ones."""
        wider = [(self.reason, self.number), (self.reason, None), (None, None)]
        names = dict.fromkeys(".".join(part for part in (self.topic.name, *pair) if part) for pair in wider)
        return [connection.name(f"replay.{name}") for name in names]


@dataclass(slots=True)
class Outcome:
    """What a run did. ``others``: letters that were not selected, by reason."""

    letters: int = 0
    replayed: int = 0
    lost: int = 0
    """Selected, but without the record's value, or with one that came compressed and is larger than a record may be."""
    numbers: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of what is fed through: by reason, and the event's type."""
    others: Counter[str] = field(default_factory=Counter)

    def lines(self, selection: Selection, *, dry: bool, stopped: bool) -> list[str]:
        """For a person."""
        did = "would be fed through again" if dry else "fed through again"
        told = [f"{selection.topic.dlq.name}: {self.letters} letters read, {self.replayed} {did}"]
        told += [f"  {count} {reason}{name}" for (reason, name), count in self.kinds.most_common(_MOST_NAMED)]
        named = self.numbers.most_common(_MOST_NAMED)
        told += [f"  {count} of number {number}" for number, count in named]
        if len(self.numbers) > len(named):
            told.append(f"  and of {len(self.numbers) - len(named)} numbers more")
        told += [f"  {count} left where they are: {reason}" for reason, count in self.others.most_common()]
        if self.lost:
            told.append(
                f"  {self.lost} cannot be fed through again: their value is too large, or was too large to be kept"
            )
        if stopped:
            told.append("  the limit was reached; the next run goes on from here")
        return told


async def replay_letters(selection: Selection, *, dry: bool, limit: int | None) -> list[str]:
    """Feed through what is selected, by the settings of the environment; what was done, in lines for a person."""
    return await replay(
        load_settings(KafkaSettings).kafka_connection("transom-replay"), selection, dry=dry, limit=limit
    )


async def replay(connection: KafkaConnection, selection: Selection, *, dry: bool, limit: int | None) -> list[str]:
    """As ``replay_letters``, on these brokers. Raises ConfigurationError where they cannot be used."""
    outcome = Outcome()
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
                room = None if limit is None else limit - outcome.replayed
                records, done = _chosen(letters, selection, connection, outcome, room)
                stopped = done < len(letters)
                if done and not dry:
                    await producer.publish(records)
                    await consumer.commit({place: letters[done - 1].offset + 1})
    return outcome.lines(selection, dry=dry, stopped=stopped)


def _chosen(
    letters: Sequence[Letter], selection: Selection, connection: KafkaConnection, outcome: Outcome, room: int | None
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
            outcome.others[reason] += 1
        elif original is None or not (record := _replayed(letter, original, selection, connection)).fits():
            outcome.lost += 1
        elif room is not None and len(records) >= room:
            return records, done
        else:
            records.append(record)
            outcome.replayed += 1
            outcome.kinds[reason, "" if (name := named_type(value)) is None else f", of type {name}"] += 1
            if number is not None:
                outcome.numbers[number] += 1
        outcome.letters += 1
    return records, len(letters)


def _replayed(letter: Letter, original: Original, selection: Selection, connection: KafkaConnection) -> Record:
    place = f"{connection.name(selection.topic.dlq.name)} {letter.partition} {letter.offset}"
    told = ((f"{REPLAYED}from", place.encode()), (f"{REPLAYED}reason", original.reason.encode()))
    return Record(selection.topic, original.key, original.value, (*original.headers, *told))


def _reason(letter: Letter) -> str:
    told = dict(letter.headers).get("reason")  # the last of its name is ours
    return "no letter of ours" if told is None else told.decode(errors="replace")


def _read(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None


def _number(found: Any) -> str | None:
    number = found.get("phone_number_id") if isinstance(found, dict) else None
    return number if isinstance(number, str) else None


@asynccontextmanager
async def _reading(connection: KafkaConnection, selection: Selection) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of the dead-letter topic that stands where the selection's last run ended."""
    name = connection.name(selection.topic.dlq.name)
    groups = selection.groups(connection)
    consumer = AIOKafkaConsumer(
        **connection.client_options(), group_id=groups[0], enable_auto_commit=False, auto_offset_reset="earliest"
    )
    admin = AIOKafkaAdminClient(**connection.client_options())
    try:
        await consumer.start()
        await admin.start()
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
    except (KafkaError, OSError) as error:
        raise ConfigurationError(
            f"Kafka at {connection.bootstrap} cannot be used ({type(error).__name__}):"
            " is it running, and is TRANSOM_KAFKA_BOOTSTRAP right?"
        ) from error
    finally:
        await consumer.stop()
        await admin.close()


def topic_named(name: str) -> Topic:
    """A declared topic by its name, or by that of its dead letters. Raises ConfigurationError."""
    wanted = name.removesuffix(".dlq")
    found = next((topic for topic in TOPICS if topic.name == wanted), None)
    if found is None:
        raise ConfigurationError(f"no topic is called {wanted}: one of {', '.join(topic.name for topic in TOPICS)}")
    return found
