"""What is to be done about a decision of which nothing followed, and that it comes to an end."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.router.loose_ends import (
    HEARD_WITHIN,
    LIFETIME,
    OVERDUE,
    Again,
    End,
    LooseEnd,
    Over,
    Refuse,
    Wait,
    course,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_loose_end(**changes: Any) -> LooseEnd:
    fields: dict[str, Any] = {
        "org_id": "acme",
        "message_id": UUID(int=1),
        "attempt": 1,
        "deadline": NOW + LIFETIME,
        "tries": 1,
        "conversation_id": UUID(int=2),
        "route": "session",
        "channel": "whatsapp",
        "command": b"{}",
        "sequence": 1,
        "account": "1",
        "status": "pending",
        "holds": False,
        "state": None,
        "resends": None,
        "settled_at": None,
        "expires_at": None,
        "outcome": None,
    }
    return LooseEnd(**fields | changes)


hours = st.integers(-100, 100).map(lambda n: NOW + n * HOUR)
ends = st.builds(
    a_loose_end,
    deadline=hours,
    status=st.sampled_from([None, "pending", "sent", "delivered", "failed", "of_tomorrow"]),
    holds=st.booleans(),
    state=st.sampled_from([None, "pending", "claimed", "unknown", "accepted", "refused", "failed", "of_tomorrow"]),
    resends=st.integers(0, 1),
    settled_at=hours,
    expires_at=hours,
    outcome=st.sampled_from([None, {}, {"reason": "window_closed", "code": "131047"}, {"reason": None}]),
)


@given(ends)
def test_a_command_goes_out_again_before_its_deadline_and_only_where_no_send_exists(end: LooseEnd) -> None:
    if isinstance(course(end, NOW), Again):
        assert end.state is None
        assert end.deadline > NOW


@given(ends)
def test_a_wait_ends_and_nothing_but_a_call_under_way_is_waited_for_beyond_a_day_and_an_hour(end: LooseEnd) -> None:
    match course(end, NOW):
        case Wait(until):
            assert until > NOW
            if end.state == "pending":
                assert until <= max(end.expires_at or NOW, NOW) + OVERDUE
            if end.state in {"accepted", "refused", "failed"}:
                assert until <= (end.settled_at or NOW) + HEARD_WITHIN
        case Again():
            later = max(end.deadline, NOW) + timedelta(microseconds=1)
            assert isinstance(course(end, later), End)
        case End() | Refuse() | Over():
            pass


@given(ends)
def test_no_pending_message_is_called_over_and_no_slot_is_forgotten(end: LooseEnd) -> None:
    if isinstance(course(end, NOW), Over):
        assert end.status != "pending"
        assert end.state is not None or not end.holds or end.status is None


@given(ends, st.sampled_from(["claimed", "unknown", "of_tomorrow"]))
def test_what_may_have_been_called_is_left_to_its_sender_and_is_never_called_expired(end: LooseEnd, state: str) -> None:
    match course(end._replace(state=state), NOW):
        case End(reason, _, send):
            assert (reason, send) == ("unknown_outcome", "unsettled")
            assert end.expires_at is not None
            assert end.expires_at + HEARD_WITHIN <= NOW
            assert state != "of_tomorrow"
        case what:
            assert isinstance(what, Wait | Over)
