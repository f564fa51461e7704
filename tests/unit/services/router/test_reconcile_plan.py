"""What is to be done about a decision of which nothing followed, and that it comes to an stale."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.router.reconcile_plan import (
    HEARD_WITHIN,
    LIFETIME,
    OVERDUE,
    DecideAgain,
    Done,
    Fail,
    Republish,
    StaleAttempt,
    WaitUntil,
    next_step,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def a_stale_attempt(**changes: Any) -> StaleAttempt:
    fields: dict[str, Any] = {
        "org_id": "acme",
        "message_id": UUID(int=1),
        "attempt": 1,
        "deadline": NOW + LIFETIME,
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
    return StaleAttempt(**fields | changes)


hours = st.integers(-100, 100).map(lambda n: NOW + n * HOUR)
ends = st.builds(
    a_stale_attempt,
    deadline=hours,
    status=st.sampled_from([None, "pending", "sent", "delivered", "failed", "of_tomorrow"]),
    holds=st.booleans(),
    state=st.sampled_from([None, "pending", "claimed", "unknown", "accepted", "rerouted", "failed", "of_tomorrow"]),
    resends=st.integers(0, 1),
    settled_at=hours,
    expires_at=hours,
    outcome=st.sampled_from([None, {}, {"reason": "window_closed", "code": "131047"}, {"reason": None}]),
)


@given(ends)
def test_a_command_goes_out_again_before_its_deadline_and_only_where_no_send_exists(stale: StaleAttempt) -> None:
    if isinstance(next_step(stale, NOW), Republish):
        assert stale.state is None
        assert stale.deadline > NOW


@given(ends)
def test_a_wait_ends_and_nothing_but_a_call_under_way_is_waited_for_beyond_a_day_and_an_hour(
    stale: StaleAttempt,
) -> None:
    match next_step(stale, NOW):
        case WaitUntil(until):
            assert until > NOW
            if stale.state == "pending":
                assert until <= max(stale.expires_at or NOW, NOW) + OVERDUE
            if stale.state in {"accepted", "rerouted", "failed"}:
                assert until <= (stale.settled_at or NOW) + HEARD_WITHIN
        case Republish():
            later = max(stale.deadline, NOW) + timedelta(microseconds=1)
            assert isinstance(next_step(stale, later), Fail)
        case Fail() | DecideAgain() | Done():
            pass


@given(ends)
def test_no_pending_message_is_called_over_and_no_slot_is_forgotten(stale: StaleAttempt) -> None:
    if isinstance(next_step(stale, NOW), Done):
        assert stale.status != "pending"
        assert stale.state is not None or not stale.holds or stale.status is None


@given(ends, st.sampled_from(["claimed", "unknown", "of_tomorrow"]))
def test_what_may_have_been_called_is_left_to_its_sender_and_is_never_called_expired(
    stale: StaleAttempt, state: str
) -> None:
    match next_step(stale._replace(state=state), NOW):
        case Fail(reason, _, send):
            assert (reason, send) == ("unknown_outcome", "unsettled")
            assert stale.expires_at is not None
            assert stale.expires_at + HEARD_WITHIN <= NOW
            assert state != "of_tomorrow"
        case what:
            assert isinstance(what, WaitUntil | Done)
