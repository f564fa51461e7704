"""How rows move: the laws, over any row and any answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.admission import admit
from libs.common.sending.outcomes import (
    Accepted,
    Allowed,
    Confirmed,
    Denied,
    Evidence,
    Inconclusive,
    NotSent,
    Refused,
    Rerouted,
    RetryLater,
    SendOutcome,
    Unknown,
)
from libs.common.sending.rows import (
    RUN,
    Candidate,
    State,
)
from libs.common.sending.transitions import (
    abandoned,
    answer,
    claim,
    pause_key,
    resolve,
    wait,
)
from tests.unit.libs.common.sending.builders import (
    BUDGETS,
    CLAIM,
    CURVE,
    NOW,
    SECOND,
    TIMINGS,
    a_row,
    no_jitter,
)

SCOPES = st.sampled_from(["message", "pair", "account", "templates", "provider"])
WAITS = st.none() | st.timedeltas(timedelta(0), timedelta(hours=1))
RETRIES = st.builds(RetryLater, SCOPES, st.just(CURVE), st.just("x"), WAITS, st.none() | st.integers(1, 5))
OUTCOMES: st.SearchStrategy[SendOutcome] = st.one_of(
    st.just(Accepted("106", "wamid.X")),
    RETRIES,
    st.just(Rerouted("window_closed")),
    st.just(Refused("131026")),
    st.just(Unknown("timeout")),
)
LIFETIMES = st.timedeltas(timedelta(milliseconds=1), timedelta(days=2))


@given(OUTCOMES, LIFETIMES, st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_an_answer_settles_a_row_or_leaves_it_to_be_looked_at_again(
    outcome: SendOutcome, lifetime: timedelta, tries: int, chance: float
) -> None:
    row = a_row(state="claimed", expires_in=lifetime)._replace(tries=tries)
    step = answer(row, outcome, NOW, timings=TIMINGS, jitter=lambda: chance)
    assert step.before is row
    assert (step.final is None) == (step.after.state in {"pending", "unknown"})
    assert (step.after.settled_at is None) == (step.final is None)
    if step.after.state == "pending":
        rests = pause_key(row, outcome) is not None  # then the pause says when, and the row keeps its place
        assert step.after.due_at == row.due_at if rests else step.after.due_at > NOW
        assert step.after.due_at <= max(row.expires_at, NOW + timedelta(milliseconds=1))
        assert step.after.claim_id is None
    if step.after.state == "unknown":
        assert step.after.due_at == NOW


@given(OUTCOMES)
def test_only_a_wait_that_holds_for_the_whole_conversation_blocks_it_without_end(outcome: SendOutcome) -> None:
    after = answer(a_row(state="claimed"), outcome, NOW, timings=TIMINGS, jitter=no_jitter).after
    endless = isinstance(outcome, RetryLater) and outcome.scope in {"pair", "account", "provider"}
    if after.state in {"pending", "unknown"}:
        assert after.blocks_order_until == (None if endless else NOW + TIMINGS.blocks)


@given(st.lists(OUTCOMES, min_size=1, max_size=6))
def test_a_row_blocks_younger_ones_for_a_minute_in_all_not_a_minute_each_time(outcomes: list[SendOutcome]) -> None:
    row, now, first = a_row(state="claimed"), NOW, None
    for outcome in outcomes:
        step = answer(row, outcome, now, timings=TIMINGS, jitter=no_jitter)
        if step.after.state != "pending":
            return
        first = first or step.after.blocks_order_until
        assert step.after.blocks_order_until == first
        now = max(now + SECOND, step.after.due_at)
        row = claim(step.after, Allowed(None), CLAIM, now, provider="meta", timings=TIMINGS)


MEDIA = RetryLater("message", CURVE, "131053", limit=3)
UNLIMITED: st.SearchStrategy[SendOutcome] = st.sampled_from(
    [RetryLater("account", CURVE, "130429"), RetryLater("pair", CURVE, "131056"), Unknown("timeout")]
)


@given(st.lists(st.lists(UNLIMITED, max_size=4), min_size=3, max_size=3))
def test_a_message_is_refused_when_an_answer_has_come_as_often_as_it_may_whatever_came_between(
    between: list[list[SendOutcome]],
) -> None:
    row, finals = a_row(state="claimed"), []
    for outcome in [outcome for others in between for outcome in (*others, MEDIA)]:
        step = answer(row, outcome, NOW, timings=TIMINGS, jitter=no_jitter)
        finals.append(step.final)
        after = step.after
        if after.state == "unknown":
            again = resolve(after, NotSent(), NOW, TIMINGS)
            assert again is not None
            after = again.after._replace(resends=0)
        row = claim(after, Allowed(None), CLAIM, NOW, provider="meta", timings=TIMINGS)
    assert finals[-1] == Refused("131053")
    assert set(finals[:-1]) <= {None}


def test_what_the_provider_asks_for_is_the_wait() -> None:
    assert wait(RetryLater("pair", CURVE, "x", 17 * SECOND), 5, no_jitter) == 17 * SECOND
    assert wait(RetryLater("pair", CURVE, "x", timedelta(0)), 5, no_jitter) == timedelta(0)
    assert [wait(RetryLater("pair", CURVE, "x"), tries, lambda: 1.0) for tries in (1, 2, 3)] == [
        SECOND,
        2 * SECOND,
        4 * SECOND,
    ]


EVIDENCE: list[Evidence] = [
    Confirmed((Accepted("106", "wamid.X"),)),
    Denied(Refused("21610")),
    Denied(RetryLater("account", CURVE, "21660")),
    NotSent(),
    Inconclusive(),
]


@pytest.mark.parametrize(
    ("outcome", "state", "tries"),
    [
        (None, "unknown", 1),
        ({"answer": "unknown"}, "unknown", 1),
        ({"answer": "unknown", "asks": str(CLAIM)}, "pending", 0),
        ({"asks": str(UUID(int=8))}, "unknown", 1),  # left over from an earlier claim
    ],
)
def test_a_claim_whose_process_is_gone_is_unknown_unless_its_call_had_not_begun(
    outcome: dict[str, Any] | None, state: State, tries: int
) -> None:
    row = abandoned(a_row(state="claimed")._replace(outcome=outcome, resends=1), NOW, TIMINGS)
    assert (row.state, row.tries, row.resends) == (state, tries, 1)
    assert (row.claim_id is None) == (state == "pending")


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("resends", [0, 1])
@pytest.mark.parametrize("ago", [timedelta(0), timedelta(hours=23), timedelta(hours=24), timedelta(hours=26)])
def test_an_unknown_outcome_is_settled_by_evidence_or_sent_once_more(
    evidence: Evidence, resends: int, ago: timedelta
) -> None:
    row = a_row(state="unknown")._replace(resends=resends)
    step = resolve(row, evidence, NOW + ago, TIMINGS)
    match evidence:
        case Confirmed():
            assert step is not None
            assert step.after.state == "accepted"
        case Denied(Refused()):
            assert step is not None
            assert step.final == Refused("21610")
        case Denied(RetryLater()):
            assert step is not None
            assert (step.after.state, step.after.resends, step.after.claim_id) == ("pending", resends, None)
        case NotSent() if resends == 0 and ago < timedelta(hours=24):
            assert step is not None
            assert (step.after.state, step.after.resends, step.after.claim_id) == ("pending", 1, None)
        case Inconclusive() if ago < timedelta(hours=25):
            assert step is None
        case _:
            assert step is not None
            assert step.final == Refused(None, "unknown_outcome")


def test_rows_whose_time_is_up_end_before_any_gate() -> None:
    admission = admit([Candidate(a_row(expires_in=timedelta(0)))], NOW, BUDGETS)
    assert [step.final for step in admission.ended] == [Refused(None, "intent_expired")]
    assert admission.judged == []


def test_a_resend_that_waited_beyond_its_deadline_is_not_called_expired() -> None:
    row = a_row(expires_in=timedelta(0))._replace(resends=1, tries=1)
    assert [step.final for step in admit([Candidate(row)], NOW, BUDGETS).ended] == [Refused(None, "unknown_outcome")]


def test_a_deadline_may_be_the_end_of_time() -> None:
    row = a_row(state="unknown")._replace(expires_at=datetime.max.replace(tzinfo=UTC))
    assert resolve(row, Inconclusive(), NOW, TIMINGS) is None


def test_the_oldest_rows_of_an_account_go_as_far_as_its_budget_and_the_others_stay_as_they_are() -> None:
    rows = [Candidate(a_row(n)._replace(due_at=NOW - n * SECOND)) for n in range(10)]
    rows += [Candidate(a_row(99, account="107"))]
    admission = admit(rows, NOW, {"106": 3, "107": 3})
    assert [row.message_id.int for row, _probes in admission.judged] == [9, 8, 7, 99]
    assert (admission.left, admission.ended) == ({"106"}, [])


def test_rows_behind_an_older_one_use_up_nothing_of_the_budget() -> None:
    rows = [Candidate(a_row(n)._replace(due_at=NOW - n * SECOND), behind=9 * (n > 5)) for n in range(10)]
    admission = admit(rows, NOW, {"106": 2})
    assert [row.message_id.int for row, _probes in admission.judged] == [5, 4]
    assert len(admission.held["106"]) == 4


def a_thread(*behind: int, **changes: Any) -> list[Candidate]:
    """Rows of one conversation in their order, each behind so many older ones."""
    first = a_row(0)
    return [
        Candidate(a_row(n)._replace(conversation_id=first.conversation_id, **changes), sequence=n, behind=count)
        for n, count in enumerate(behind)
    ]


def test_rows_of_one_conversation_that_wait_for_each_other_alone_go_together_in_their_order() -> None:
    admission = admit(reversed(a_thread(0, 1, 2)), NOW, BUDGETS)
    assert [row.message_id.int for row, _probes in admission.judged] == [0, 1, 2]
    assert {message_id.int for _org, message_id, _attempt in admission.followers} == {1, 2}


def test_a_row_behind_one_that_another_claim_has_waits_and_so_do_those_behind_it() -> None:
    admission = admit(a_thread(1, 2, 3), NOW, BUDGETS)
    assert (admission.judged, len(admission.held["106"])) == ([], 3)


def test_only_so_many_rows_of_one_conversation_go_together() -> None:
    assert len(admit(a_thread(*[min(n, RUN) for n in range(RUN + 4)]), NOW, BUDGETS).judged) == RUN


@pytest.mark.parametrize(
    "changes", [{"blocks_order_until": NOW + SECOND}, {"tries": 1}], ids=["holds others for a time", "was called"]
)
def test_a_row_with_a_past_is_claimed_singly(changes: dict[str, Any]) -> None:
    assert len(admit(a_thread(0, 1, **changes), NOW, BUDGETS).judged) == 1


def test_second_calls_of_one_conversation_follow_each_other_also_when_they_hold_nobody_back_any_more() -> None:
    lost = {"blocks_order_until": NOW - SECOND, "tries": 1, "resends": 1}
    admission = admit(reversed(a_thread(0, 0, 0, **lost)), NOW, BUDGETS)
    assert [row.message_id.int for row, _probes in admission.judged] == [0, 1, 2]
    assert {message_id.int for _org, message_id, _attempt in admission.followers} == {1, 2}


def test_a_row_that_was_claimed_and_not_called_has_used_up_no_try() -> None:
    behind = RetryLater("pair", CURVE, "behind", after=timedelta(0), called=False)
    given_back = answer(a_row(state="claimed"), behind, NOW, timings=TIMINGS, jitter=lambda: 1.0).after
    assert (given_back.state, given_back.tries, given_back.blocks_order_until) == ("pending", 0, None)
    assert given_back.due_at - NOW <= timedelta(milliseconds=1)


def test_a_row_behind_one_whose_deadline_has_passed_waits_for_the_next_claim() -> None:
    expired, young = a_thread(0, 1)
    expired = replace(expired, row=expired.row._replace(expires_at=NOW))
    assert admit([expired, young], NOW, BUDGETS).judged == []
