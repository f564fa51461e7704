"""Server-sent events as bytes. Pure.

Source: HTML Living Standard, "Server-sent events". An id without data sets what the browser sends as Last-Event-ID when
it connects again, and dispatches nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

import orjson

from services.inbox.feed import Mark, StoredChange

EventName = Literal["conversation", "message", "update", "reset"]
_OF_UPDATE = ("conversation_id", "message_id", "status", "reason", "reason_text", "provider_code", "times")
BEAT = b": \n\n"
"""Nothing, so that neither side takes the connection for dead."""
RETRY_MS = 2_000
"""After this time a browser connects again."""


class States(NamedTuple):
    """What somebody may see of messages and conversations, by id, as the API has it."""

    messages: Mapping[UUID, Mapping[str, Any]]
    conversations: Mapping[UUID, Mapping[str, Any]]


def opening(mark: Mark) -> bytes:
    """The first bytes of a stream: where it begins, and when to come back."""
    return f"retry: {RETRY_MS}\nid: {mark}\n\n".encode()


def event(name: EventName, mark: Mark, data: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(mark).encode(), name.encode(), _json(data))


def told(after: Mark, changes: Sequence[StoredChange], turned: Sequence[UUID], states: States) -> bytes:
    """The events of these changes in their order, and of conversations that time turned. ``after`` is the last mark.

    A conversation is told once, at the last of its changes; ``merged`` are those that are part of it now, where a merge
    is told. What stands before the last event of a change has the id
    of the change before it: whoever comes back with an id has everything up to it.
    """
    return b"".join(_blocks(after, changes, turned, states))


def _blocks(after: Mark, changes: Sequence[StoredChange], turned: Sequence[UUID], states: States) -> Iterator[bytes]:
    last = {change.conversation_id: change.change for change in changes}
    merged = defaultdict[UUID, set[UUID]](set)
    for change in changes:
        if change.message_id is None and change.told_of != change.conversation_id:
            merged[change.conversation_id].add(change.told_of)
    for change in changes:
        blocks = list(_of_change(change, states))
        if last[change.conversation_id] == change.change:
            blocks += _of_conversation(change.conversation_id, states, merged[change.conversation_id])
        for place, (name, data) in enumerate(blocks, 1):
            yield event(name, Mark(after.feed, change.change - (place < len(blocks))), data)
    for conversation_id in turned:
        if conversation_id not in last:
            for name, data in _of_conversation(conversation_id, states):
                yield event(name, after, data)


def _of_conversation(
    conversation_id: UUID, states: States, merged: Collection[UUID] = ()
) -> Iterator[tuple[EventName, Mapping[str, Any]]]:
    if (conversation := states.conversations.get(conversation_id)) is not None:
        yield "conversation", {**conversation, "merged": sorted(merged)} if merged else conversation


def _of_change(change: StoredChange, states: States) -> Iterator[tuple[EventName, Mapping[str, Any]]]:
    if change.message_id is None or (message := states.messages.get(change.message_id)) is None:
        return
    if change.kind == "update":
        yield "update", {name: message[name] for name in _OF_UPDATE}
    else:
        yield "message", message


def _json(data: Mapping[str, Any]) -> bytes:
    return orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z)
