"""What a service reads and writes: subscribers and publishers, declared with their events on a FastStream broker.

A service declares one ``Topology``, of which ``BatchConsumer`` runs the subscribers.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import BatchSubscriber

from libs.common.events.base import Event
from libs.common.events.topics import Topic
from libs.common.kafka.records import Decode, Handle, RawRecord, Received, Reject

T = TypeVar("T")
DepsT = TypeVar("DepsT")


@dataclass(frozen=True, slots=True)
class Subscription(Generic[T]):
    """A topic, how its records are understood, and who handles them.

    ``decode`` raises Undecodable (or any Permanent) for a record that is not what the topic promises; anything else it
    raises counts as ``undecodable`` too. ``handle`` gets what was understood, in order, and either handles all of it,
    or returns the few it must refuse (``Reject``), or raises: Transient and the like → the same again later; anything
    else → the batch is halved to find the guilty record. ``handle`` must bear being given a record again.

    ``side_by_side`` is how many batches of different partitions may be in flight at once in this process, as they are
    in several replicas anyway. ``hurried``: see ``BatchConsumer.FETCH_SECONDS``.
    """

    topic: Topic
    decode: Decode[T]
    handle: Handle[T]
    max_records: int = 500
    side_by_side: int = 1
    hurried: bool = True
    event: Any = None
    """What a record holds, for the document that the broker makes."""


@dataclass(frozen=True, slots=True)
class Subscriber(Generic[T, DepsT]):
    """A topic that a service reads, the events in it, and the handler of a batch.

    ``decode`` turns a record into what the handler gets; without it that is ``event.decode``. ``handle`` and ``decode``
    keep the promises of ``Subscription``. ``side_by_side``, ``hurried``: see there.
    """

    topic: Topic
    event: Any
    handle: Callable[[Sequence[Received[T]], DepsT], Awaitable[Sequence[Reject] | None]]
    decode: Callable[[RawRecord, DepsT], T] | None = None
    side_by_side: int = 1
    hurried: bool = True

    def subscription(self, deps: DepsT, max_records: int) -> Subscription[T]:
        decode, handle = self.decode, self.handle
        return Subscription(
            self.topic,
            (lambda record: self.event.decode(record.value)) if decode is None else lambda record: decode(record, deps),
            lambda batch: handle(batch, deps),
            max_records,
            self.side_by_side,
            self.hurried,
            self.event,
        )


@dataclass(frozen=True, slots=True)
class Publisher:
    """A topic that a service writes, and the events that it puts there."""

    topic: Topic
    events: tuple[type[Event], ...]


@dataclass(frozen=True, slots=True)
class Topology(Generic[DepsT]):
    """Everything that one service reads and writes. ``service`` is its name, and that of its consumer groups."""

    service: str
    summary: str
    subscribers: tuple[Subscriber[Any, DepsT], ...]
    publishers: tuple[Publisher, ...]
    follows: tuple[Topic, ...] = ()
    """Topics whose newest records every process reads, outside of any group (``TopicTail``)."""

    def subscriptions(self, deps: DepsT, max_records: int) -> list[Subscription[Any]]:
        """What a consumer runs; ``max_records`` is the largest batch."""
        return [subscriber.subscription(deps, max_records) for subscriber in self.subscribers]


def declare_subscriber(
    broker: KafkaBroker, topic: str, handle: Callable[[Any], Awaitable[None]], event: Any, **options: Any
) -> BatchSubscriber:
    """Put a batch subscriber on the broker. Its document shows ``event``: the content of each record of a batch."""

    async def on_batch(batch: Any) -> None:
        await handle(batch)

    on_batch.__annotations__ = {"batch": event}
    subscriber: BatchSubscriber = broker.subscriber(topic, batch=True, **options)
    subscriber(on_batch)
    return subscriber


def declare_publishers(broker: KafkaBroker, publishers: Sequence[Publisher], name: Callable[[str], str]) -> None:
    """Put publishers on the broker; ``name`` gives a topic its prefix."""
    for publisher in publishers:
        for event in publisher.events:
            broker.publisher(name(publisher.topic.name), schema=event, title=f"{publisher.topic.name}:{event.TYPE}")
