"""A conversation as the page shows it. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from libs.common.events.portal import MAX_READ
from services.portal.rows import StoredMessage, Thread
from services.portal.views import Author, Garage, ShownMessage


def garage_of(thread: Thread) -> Garage:
    return Garage(thread.org_name, thread.display_number)


def phone_end(thread: Thread) -> str:
    """The last two digits of the phone that the link went to."""
    return thread.phone[-2:]


def shown_message(message: StoredMessage) -> ShownMessage:
    """The message without anything that is not the customer's to see."""
    mine = message.direction == "in"
    return ShownMessage(
        message_id=str(message.message_id),
        author=_author(message),
        channel=message.channel,
        content=message.content,
        at=message.occurred_at,
        place=str(message.message_id),
        state=("seen" if message.read_at is not None else "sent") if mine else None,
    )


def unread(messages: Sequence[StoredMessage]) -> list[UUID]:
    """What is read by being shown: the newest messages to the customer that are not read yet."""
    found = [m.message_id for m in messages if m.direction == "out" and m.status != "read"]
    return found[-MAX_READ:]


def is_on_its_way(thread: Thread, messages: Sequence[StoredMessage]) -> bool:
    """Whether the message that was posted last is not stored yet."""
    return thread.posted_at is not None and not any(at >= thread.posted_at for at in _written_here(messages))


def _written_here(messages: Sequence[StoredMessage]) -> Iterator[datetime]:
    return (m.occurred_at for m in messages if m.direction == "in" and m.channel == "portal")


def _author(message: StoredMessage) -> Author:
    if message.direction == "in":
        return "you"
    return "automatic" if message.actor == "ai" else "garage"
