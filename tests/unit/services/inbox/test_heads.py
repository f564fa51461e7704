"""A head says what its thread says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.inbox.head_queries import NEWEST, Head, Thread
from services.inbox.heads import head_of
from services.inbox.windows import WindowRule

T0 = datetime(2026, 11, 26, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULE = WindowRule(length=24 * HOUR, doubt=timedelta(minutes=5), closing_soon=2 * HOUR)


def a_thread(**fields: Any) -> Thread:
    """A thread in which nothing was said yet."""
    empty = Thread(
        org_id="acme",
        conversation_id=uuid4(),
        phone_number_id="106400000000001",
        created_at=T0,
        last_customer_at=None,
        identity_changed_at=None,
        first_refused_at=None,
        last_refused_at=None,
        last_inbound_channel=None,
        inbound_before=None,
        inbound_at_before=None,
        escalated_at=None,
        read=0,
        last_sequence=None,
        last_message_id=None,
        last_at=None,
        last_channel=None,
        inbound_sequence=None,
        inbound_at=None,
        unanswered_since=None,
        unread_since=None,
        failed_sequence=None,
    )
    return empty._replace(**fields)


def _head(**fields: Any) -> Head:
    return head_of(a_thread(**fields), RULE)


def test_a_customer_who_only_called_has_a_head_without_a_message() -> None:
    head = _head(last_customer_at=T0 + HOUR)
    assert (head.last_sequence, head.last_message_id, head.last_at) == (0, None, T0 + HOUR)
    assert _head().last_at == T0


@pytest.mark.parametrize(
    ("inbound", "newest", "channel"),
    [(None, None, "whatsapp"), (None, "sms", "sms"), ("portal", "whatsapp", "portal")],
)
def test_the_channel_is_where_the_customer_wrote_last(inbound: str | None, newest: str | None, channel: str) -> None:
    assert _head(last_inbound_channel=inbound, last_channel=newest).channel == channel


def test_only_what_was_not_read_again_stays_as_it_was() -> None:
    before = {"inbound_before": 7, "inbound_at_before": T0}
    assert _head(**before, read=NEWEST).inbound_sequence == 7
    assert _head(**before, read=NEWEST - 1).inbound_sequence is None
    assert _head(**before, read=NEWEST, inbound_sequence=9, inbound_at=T0 + HOUR).inbound_at == T0 + HOUR


def test_what_closed_the_window_before_its_time_is_kept() -> None:
    refused = {"first_refused_at": T0 + HOUR, "last_refused_at": T0 + HOUR}
    assert _head(last_customer_at=T0, **refused).closed_early
    assert not _head(last_customer_at=T0 + 2 * HOUR, **refused).closed_early
    assert _head(last_customer_at=T0, identity_changed_at=T0 + HOUR).closed_early
    assert not _head(last_customer_at=T0).closed_early


def test_an_escalation_ends_with_its_unread_episode() -> None:
    assert _head(escalated_at=T0, unread_since=T0).escalated_at == T0
    assert _head(escalated_at=T0).escalated_at is None


def test_an_episode_that_began_after_the_last_one_was_told_is_yet_to_be_told() -> None:
    assert _head(escalated_at=T0, unread_since=T0 + HOUR).escalated_at is None
