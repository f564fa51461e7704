"""A conversation as the customer sees it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from libs.common.events.portal import MAX_READ
from services.portal.rows import StoredMessage, Thread
from services.portal.threads import garage_of, is_on_its_way, phone_end, shown_message, unread
from services.portal.views import Garage

T0 = datetime(2026, 11, 26, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)
THREAD = Thread(
    session_hash=b"h",
    session_name=UUID(int=1),
    org_id="acme",
    conversation_id=UUID(int=2),
    host="tflow.link",
    phone="+447700900987",
    seen_at=T0,
    posted_at=None,
    org_name="AcmeMotors",
    display_number="+447700900123",
)


def a_message(number: int = 1, **changes: Any) -> StoredMessage:
    """A text of the garage, delivered."""
    found = StoredMessage(UUID(int=number), "out", "whatsapp", {"text": "x"}, "staff", number, "delivered", None, T0)
    return replace(found, **changes)


def test_the_garage_is_named_and_of_the_phone_the_end_alone() -> None:
    assert garage_of(THREAD) == Garage("AcmeMotors", "+447700900123")
    assert phone_end(THREAD) == "87"


@pytest.mark.parametrize(
    ("changes", "author", "state"),
    [
        ({"direction": "in", "actor": None}, "you", "sent"),
        ({"direction": "in", "actor": None, "read_at": T0}, "you", "seen"),
        ({}, "garage", None),
        ({"read_at": T0}, "garage", None),
        ({"actor": "ai"}, "automatic", None),
        ({"actor": "system"}, "garage", None),
    ],
)
def test_a_message_has_its_author_and_ones_own_has_its_state(
    changes: dict[str, Any], author: str, state: str | None
) -> None:
    shown = shown_message(a_message(**changes))
    assert (shown.author, shown.state) == (author, state)


def test_what_is_read_by_being_shown_is_not_read_yet_and_the_newest_of_much() -> None:
    messages = [
        a_message(1, status="read"),
        a_message(2, direction="in", status="received"),
        *(a_message(number) for number in range(3, 4 + MAX_READ)),
    ]
    assert unread(messages[:3]) == [UUID(int=3)]
    assert unread(messages) == [UUID(int=number) for number in range(4, 4 + MAX_READ)]
    assert unread([]) == []


@pytest.mark.parametrize(
    ("posted_at", "messages", "is_coming"),
    [
        (None, [], False),
        (T0, [], True),
        (T0, [a_message(direction="in", channel="portal")], False),
        (T0, [a_message(direction="in", channel="portal", occurred_at=T0 + SECOND)], False),
        (T0, [a_message(direction="in", channel="portal", occurred_at=T0 - SECOND)], True),
        (T0, [a_message(direction="in", channel="whatsapp")], True),
        (T0, [a_message(direction="out", channel="portal")], True),
    ],
)
def test_what_was_posted_is_on_its_way_until_it_is_stored(
    posted_at: datetime | None,
    messages: list[StoredMessage],
    is_coming: bool,  # noqa: FBT001 -- a case
) -> None:
    assert is_on_its_way(replace(THREAD, posted_at=posted_at), messages) is is_coming
