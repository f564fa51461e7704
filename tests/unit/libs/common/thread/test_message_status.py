from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.common.thread.message_status import Failed, MessageState, ProviderStatus, Reached, advance

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
NUMBER = "106400000000001"
Event = Reached | Failed
HEIGHT = {"pending": 0, "sent": 1, "delivered": 2, "read": 3}

instants = st.integers(0, 10_000).map(lambda s: T0 + timedelta(seconds=s))
reached = st.builds(
    Reached, attempt=st.integers(1, 3), status=st.sampled_from(["sent", "delivered", "read"]), at=instants
)
failed = st.builds(
    Failed,
    attempt=st.integers(1, 3),
    reason=st.sampled_from(["provider_refused", "unknown_outcome", "intent_expired"]),
    code=st.none(),
    at=instants,
)
histories = st.lists(st.one_of(reached, failed), max_size=12)


def walk(events: Iterable[Event]) -> list[MessageState]:
    states = [MessageState("pending", 1)]
    for event in events:
        states.append(advance(states[-1], event))
    return states


def test_a_message_climbs_from_sent_to_delivered_to_read_with_a_time_for_each() -> None:
    states = walk(
        [Reached(1, "sent", T0), Reached(1, "delivered", T0 + timedelta(1)), Reached(1, "read", T0 + timedelta(2))]
    )
    assert [(s.status, s.seq) for s in states] == [("pending", 0), ("sent", 1), ("delivered", 2), ("read", 3)]
    assert states[-1].sent_at == T0
    assert states[-1].at == T0 + timedelta(2)


def test_a_late_sent_after_read_leaves_the_status_and_fills_the_time() -> None:
    last = walk([Reached(1, "read", T0), Reached(1, "sent", T0)])[-1]
    assert (last.status, last.seq, last.sent_at) == ("read", 1, T0)


def test_a_local_failure_is_not_overwritten_by_a_late_webhook() -> None:
    last = walk(
        [
            Failed(1, "intent_expired", None, T0),
            Reached(1, "delivered", T0),
            Failed(1, "provider_refused", "131026", T0),
        ]
    )[-1]
    assert (last.status, last.reason, last.provider_code) == ("failed", "intent_expired", None)


def test_what_nobody_knew_of_is_known_once_it_is_said_to_be_delivered() -> None:
    states = walk([Failed(1, "unknown_outcome", None, T0), Reached(1, "sent", T0), Reached(1, "delivered", T0)])
    assert [(s.status, s.seq) for s in states[1:]] == [("failed", 1), ("failed", 1), ("delivered", 2)]


def test_a_delivered_message_cannot_fail() -> None:
    assert walk([Reached(1, "delivered", T0), Failed(1, "provider_refused", "131026", T0)])[-1].status == "delivered"


def test_another_attempts_status_says_nothing() -> None:
    assert walk([Reached(2, "read", T0), Failed(2, "provider_refused", None, T0)])[-1] == MessageState("pending", 1)
    second = MessageState("pending", 2)
    assert advance(advance(second, Reached(1, "sent", T0)), Failed(1, "provider_refused", "131000", T0)) == second


def test_proof_wins_over_a_failure_that_the_provider_told_and_the_failure_stays_in_the_history() -> None:
    failed, delivered, read = walk(
        [Failed(1, "provider_refused", "131000", T0), Reached(1, "delivered", T0), Reached(1, "read", T0)]
    )[1:]
    assert [(s.status, s.seq) for s in (failed, delivered, read)] == [("failed", 1), ("delivered", 2), ("read", 3)]
    assert (read.reason, read.provider_code, read.failed_at) == ("provider_refused", "131000", T0)


def test_a_sent_message_may_still_fail() -> None:
    last = walk([Reached(1, "sent", T0), Failed(1, "provider_refused", "131026", T0)])[-1]
    assert (last.status, last.seq, last.provider_code) == ("failed", 2, "131026")


def test_a_sent_that_comes_after_a_failure_proves_nothing() -> None:
    assert walk([Failed(1, "provider_refused", "131000", T0), Reached(1, "sent", T0)])[-1].status == "failed"


def test_a_local_failure_is_overwritten_by_read_alone() -> None:
    bridged = Failed(1, "window_expired_bridge_sent", None, T0)
    assert walk([bridged, Reached(1, "delivered", T0)])[-1].status == "failed"
    assert walk([bridged, Reached(1, "read", T0)])[-1].status == "read"


def test_what_an_earlier_attempt_left_in_the_times_stops_no_later_one() -> None:
    second = MessageState("pending", 2, delivered_at=T0)
    later = advance(second, Reached(2, "delivered", T0 + timedelta(1)))
    assert (later.status, later.at) == ("delivered", T0 + timedelta(1))


def test_an_earlier_attempt_that_reached_the_customer_is_proof_for_the_message() -> None:
    second = MessageState("pending", 2)
    assert advance(second, Reached(1, "delivered", T0)).status == "delivered"
    bridged = advance(second, Failed(2, "window_expired_bridge_sent", None, T0))
    assert advance(bridged, Reached(1, "delivered", T0)).status == "failed"
    assert advance(bridged, Reached(1, "read", T0)).status == "read"


@given(histories)
def test_no_history_goes_down_and_only_proof_leaves_failed(events: Sequence[Event]) -> None:
    for before, after in pairwise(walk(events)):
        if before.status == "failed":
            local = before.reason == "intent_expired"
            assert after.status in ({"failed", "read"} if local else {"failed", "delivered", "read"})
            assert (after.reason, after.failed_at) == (before.reason, before.failed_at)
        elif after.status != "failed":
            assert HEIGHT[after.status] >= HEIGHT[before.status]


@given(histories)
def test_seq_grows_by_one_exactly_when_the_status_moves(events: Sequence[Event]) -> None:
    for before, after in pairwise(walk(events)):
        assert after.seq - before.seq == (before.status != after.status)


@given(histories)
def test_a_status_has_the_time_of_the_event_that_moved_the_message_to_it(events: Sequence[Event]) -> None:
    states = walk(events)
    assert states[0].at is None
    for event, (before, after) in zip(events, pairwise(states), strict=True):
        assert after.at == (before.at if after.status == before.status else event.at)


@given(histories, st.one_of(reached, failed))
def test_a_repeated_event_leaves_the_very_state(events: Sequence[Event], event: Event) -> None:
    once = advance(walk(events)[-1], event)
    assert advance(once, event) is once


@given(st.permutations([Reached(1, "sent", T0), Reached(1, "delivered", T0), Reached(1, "read", T0)]))
def test_every_order_of_the_same_statuses_ends_the_same(events: Sequence[Event]) -> None:
    last = walk(events)[-1]
    assert (last.status, last.sent_at, last.delivered_at, last.read_at) == ("read", T0, T0, T0)


@given(histories, st.lists(failed, max_size=4))
def test_what_was_read_stays_read_whatever_fails_later_and_was_refused_before(
    before: list[Event], after: list[Failed]
) -> None:
    """The portal's proof names the attempt that the message is at."""
    state = walk(before)[-1]
    read = advance(state, Reached(state.attempt, "read", T0))
    assert (read.status, read.seq) == ("read", state.seq + (state.status != "read"))
    for event in after:
        assert advance(read, event) == read


def a_provider_status(status: str, at: datetime = T0) -> ProviderStatus:
    return ProviderStatus("whatsapp", "meta", NUMBER, "wamid.1", status, at)


@given(st.permutations(["sent", "delivered", "read", "failed"]))
def test_statuses_of_one_second_are_taken_in_the_order_in_which_a_message_moves(words: Sequence[str]) -> None:
    taken = sorted(map(a_provider_status, words), key=lambda one: one.order)
    assert [one.status for one in taken] == ["sent", "delivered", "read", "failed"]
    assert a_provider_status("failed").order < a_provider_status("sent", T0 + timedelta(seconds=1)).order


def test_a_status_is_of_the_message_that_its_provider_knows_by_this_account_and_id() -> None:
    assert a_provider_status("sent").id == a_provider_status("read").id == ("meta", NUMBER, "wamid.1")
