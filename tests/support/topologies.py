"""Which events stand in which topic, as the services declare it: what others name comes before what names it."""

from collections import defaultdict
from typing import Any, get_args

from libs.common.events.base import Event
from libs.common.events.topics import TOPICS, Topic
from tests.support.asyncapi import TOPOLOGIES


def _declared() -> dict[Topic, tuple[type[Event], ...]]:
    found: dict[Topic, dict[type[Event], None]] = defaultdict(dict)
    for topology in TOPOLOGIES:
        for subscriber in topology.subscribers:
            found[subscriber.topic] |= dict.fromkeys(events_in(subscriber.event))
        for publisher in topology.publishers:
            found[publisher.topic] |= dict.fromkeys(publisher.events)
    return {topic: tuple(found[topic]) for topic in TOPICS}


def events_in(declared: Any) -> tuple[type[Event], ...]:
    """The events of a union, or the one event."""
    return get_args(declared) or (declared,)


EVENTS_OF = _declared()
