"""What a service declares about a topic that it reads."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from libs.common.events.topics import Topic
from libs.common.kafka.batch_processor import DeadLetter
from libs.common.kafka.records import Decode, Handle

T = TypeVar("T")

Remember = Callable[[Sequence[DeadLetter], datetime], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Subscription(Generic[T]):
    """A topic, how its records are understood, and who handles them.

    ``decode`` raises Undecodable (or any Permanent) for a record that is not what the topic promises; anything else it
    raises counts as ``undecodable`` too. ``handle`` gets what was understood, in order, and either handles all of it,
    or returns the few it must refuse (``Reject``), or raises: Transient and the like → the same again later; anything
    else → the batch is halved to find the guilty record. ``handle`` must bear being given a record again.

    ``side_by_side`` is how many batches of different partitions may be in hand at once, in this process as otherwise in
    so many replicas.
    """

    topic: Topic
    decode: Decode[T]
    handle: Handle[T]
    max_records: int = 500
    side_by_side: int = 1
    event: Any = None
    """What a record holds, for the document that the broker makes."""
