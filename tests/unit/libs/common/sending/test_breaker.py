"""When a provider that answers nothing is left alone, and how it is tried out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.admission import LAST_CALL_AFTER, PROBES, admit
from libs.common.sending.breaker import (
    LAST_CALL_LOST,
    NO_READ,
    OPENING,
    PROBE_EVERY,
    UNRESPONSIVE,
    UNRESPONSIVE_AFTER,
    ResendLimit,
    asks_first,
    pause_reason,
    runs_after,
)
from libs.common.sending.outcomes import (
    UNANSWERED,
    UNANSWERED_READ,
    Accepted,
    Allowed,
    BackoffPolicy,
    Refused,
    RetryLater,
    SendOutcome,
    Timings,
    Unknown,
)
from libs.common.sending.rows import Candidate, Claim, Pause, PauseKey, PauseKind, SendRow
from libs.common.sending.transitions import answer, claim, pauses_after

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TIMINGS = Timings(timeout=10 * SECOND, lease=20 * SECOND, grace=30 * SECOND)
LOST, SENT = Unknown("503"), Accepted("106", "wamid.X")
NEVER_LEFT = RetryLater("account", BackoffPolicy(SECOND, 2, 60 * SECOND), "never_left")
THROTTLED = replace(NEVER_LEFT, code="130429")
ANSWERED = Unknown("131000", answered=True)
STRAY = RetryLater("message", BackoffPolicy(SECOND, 2, 60 * SECOND), "403", answered=False)
AT: PauseKey = ("106", "all")


def a_row(number: int = 1, *, resends: int = 0) -> SendRow:
    return SendRow(
        org_id="acme",
        message_id=UUID(int=number),
        attempt=1,
        conversation_id=UUID(int=number),
        account="106",
        command={},
        state="pending",
        due_at=NOW,
        expires_at=NOW + timedelta(days=1),
        created_at=NOW,
        resends=resends,
    )


def a_claim(*probes: PauseKey) -> Claim[None]:
    return Claim(
        claim(a_row(), Allowed(None), UUID(int=7), NOW, provider="meta", timings=TIMINGS), None, frozenset(probes)
    )


def resting(kind: PauseKind = "silence", *, tries: int = 1, until: datetime = NOW) -> dict[PauseKey, Pause]:
    return {AT: Pause("106", "all", until, tries, UNANSWERED, kind, "answer", NOW)}


@given(
    st.lists(st.sampled_from([LOST, STRAY, SENT, THROTTLED, NEVER_LEFT, ANSWERED, Refused("131026"), Unknown("fault")]))
)
def test_a_run_is_the_calls_without_an_answer_since_the_last_acceptance(outcomes: list[SendOutcome]) -> None:
    added, over = runs_after([(a_row(number), outcome) for number, outcome in enumerate(outcomes)])
    last = max((number for number, outcome in enumerate(outcomes) if outcome == SENT), default=-1)
    lost = {number for number, outcome in enumerate(outcomes) if number > last and outcome in (LOST, STRAY)}
    assert {call.message_id.int for run in added.values() for call in run} == lost
    assert bool(over) == (last >= 0)


def test_one_message_is_no_run_however_often_its_calls_get_no_answer() -> None:
    added, _over = runs_after([(a_row(1, resends=resends), STRAY) for resends in (0, 1) for _ in range(5)])
    assert [call.resends for call in sorted(added["106"])] == [0, 1]


def test_each_account_has_a_run_of_its_own() -> None:
    rows = [a_row(number)._replace(account=str(account)) for number in range(4) for account in range(10)]
    added, _over = runs_after([(row, LOST) for row in rows])
    assert {account: len(run) for account, run in added.items()} == {str(account): 4 for account in range(10)}


@pytest.mark.parametrize(
    ("probes", "standing", "outcome", "opens", "expected"),
    [
        ((), {}, LOST, True, OPENING),
        ((), {}, LOST, False, None),
        ((AT,), resting(), LOST, False, UNRESPONSIVE),
        ((AT,), resting("throttle"), LOST, False, None),
        ((AT,), resting("fault"), LOST, False, UNRESPONSIVE),
        ((), resting(), LOST, False, None),
        ((AT,), resting(), Unknown("fault"), False, None),
        ((AT,), resting(), SENT, False, None),
        ((AT,), resting(), ANSWERED, False, None),
        ((), {}, STRAY, True, OPENING),
        ((), {}, STRAY, False, None),
        ((AT,), resting(), STRAY, False, UNRESPONSIVE),
        ((), {}, THROTTLED, False, THROTTLED),
        ((AT,), resting(), THROTTLED, False, THROTTLED),
        ((AT,), resting(), NEVER_LEFT, False, UNRESPONSIVE),
        ((AT,), resting(), NO_READ, False, NO_READ),
        ((), {}, NO_READ, False, NO_READ),
    ],
)
def test_an_account_rests_after_a_run_and_after_a_try_without_an_answer(
    probes: tuple[PauseKey, ...],
    standing: dict[PauseKey, Pause],
    outcome: SendOutcome,
    expected: RetryLater | None,
    *,
    opens: bool,
) -> None:
    assert pause_reason(a_claim(*probes), outcome, standing, opens=opens) == expected


def test_tries_that_may_cost_a_message_become_much_rarer() -> None:
    probing = a_claim(AT)
    last = replace(probing, row=probing.row._replace(resends=1), last=True)
    waits = []
    for one in (probing, last):
        retry = pause_reason(one, LOST, resting(), opens=True)
        assert retry is not None
        grown = pauses_after([(one.row, one.probes, retry)], resting(tries=20), NOW, lambda: 1.0)
        waits.append(grown[AT].until - NOW)
    assert retry == LAST_CALL_LOST
    assert waits == [timedelta(minutes=2), timedelta(minutes=15)]


def test_it_is_tried_out_by_one_message_that_has_a_call_left_and_by_nobody_else() -> None:
    over = frozenset({AT})
    rows = [Candidate(a_row(n, resends=n < 5), over=over, alone=over) for n in range(10)]
    admission = admit(rows, NOW, {"106": 50}, resting())
    assert [(row.resends, probes) for row, probes in admission.judged] == [(0, over)]
    assert admit(rows, NOW, {"106": 50}).judged == []
    throttled = [replace(row, alone=frozenset()) for row in rows]
    assert len(admit(throttled, NOW, {"106": 50}).judged) == PROBES


def test_the_youngest_message_tries_it_out_and_every_third_time_the_oldest() -> None:
    over = frozenset({AT})
    rows = [Candidate(a_row(n)._replace(due_at=NOW + (n - 2) * SECOND), n, over=over, alone=over) for n in range(3)]
    probed = [admit(rows, NOW, {"106": 50}, resting(tries=tries)).judged for tries in range(1, 7)]
    assert [row.message_id.int for [(row, _probes)] in probed] == [2, 2, 0, 2, 2, 0]


def test_the_last_call_of_a_message_tries_it_out_a_while_after_the_first() -> None:
    over = frozenset({AT})
    row = a_row(resends=1)._replace(claimed_at=NOW - SECOND, outcome={"answer": "unknown", "code": "timeout"})
    soonest = NOW - SECOND + LAST_CALL_AFTER
    early = admit([Candidate(row, over=over, alone=over)], NOW, {"106": 50}, resting())
    assert (early.judged, [step.after for step in early.ended]) == ([], [row._replace(due_at=soonest)])
    assert admit([Candidate(row, over=over, alone=over)], soonest, {"106": 50}, resting()).judged == [(row, over)]
    assert admit([Candidate(row)], NOW, {"106": 50}).judged == [(row, frozenset())]
    ends = row._replace(expires_at=soonest)
    assert admit([Candidate(ends, over=over, alone=over)], NOW, {"106": 50}, resting()).judged == [(ends, over)]


def test_a_try_without_an_answer_makes_the_rest_longer() -> None:
    probed = resting(tries=2, until=NOW + TIMINGS.lease)
    for took in (SECOND, TIMINGS.timeout):
        found = pauses_after([(a_claim(AT).row, frozenset({AT}), UNRESPONSIVE)], probed, NOW + took, lambda: 1.0)
        assert found == resting(tries=3, until=NOW + took + timedelta(minutes=1))


def test_a_read_without_an_answer_makes_the_rest_longer_and_uses_up_no_call() -> None:
    row = a_claim(AT).row
    probed = resting(tries=2, until=NOW + TIMINGS.lease)
    found = pauses_after([(row, frozenset({AT}), NO_READ)], probed, NOW + SECOND, lambda: 1.0)
    assert found == {AT: probed[AT]._replace(until=NOW + 61 * SECOND, tries=3, reason=UNANSWERED_READ)}
    after = answer(row, NO_READ, NOW, timings=TIMINGS, jitter=lambda: 1.0).after
    assert (after.state, after.tries, after.resends, after.blocks_order_until) == ("pending", 0, 0, None)
    assert runs_after([(row, NO_READ)]) == ({}, set())


@pytest.mark.parametrize(
    ("last", "kind", "tries", "unanswered", "expected"),
    [
        (False, None, 1, False, False),
        (False, None, 1, True, False),
        (True, None, 1, False, False),
        (True, None, 1, True, True),
        (False, "silence", 1, False, True),
        (True, "silence", 1, False, True),
        (False, "silence", 4, False, False),
        (False, "silence", 5, False, True),
        (False, "silence", 16, False, False),
        (True, "silence", 16, False, False),
        (False, "fault", 1, False, False),
        (False, "fault", 1, True, True),
        (False, "fault", 4, True, False),
        (False, "throttle", 1, True, False),
    ],
)
def test_a_call_that_an_outage_might_cost_asks_first(
    kind: PauseKind | None, tries: int, *, last: bool, unanswered: bool, expected: bool
) -> None:
    ours = {} if kind is None or kind == "throttle" else resting(kind, tries=tries)
    probing = a_claim(*(() if kind is None else (AT,)))
    one = replace(probing, last=last)
    assert asks_first(one, ours, {"106"} if unanswered else {"107"}, NOW) == expected


def test_a_last_call_asks_nothing_any_more_where_its_deadline_is_near() -> None:
    probing = a_claim(AT)
    last = replace(probing, row=probing.row._replace(resends=1), last=True)
    late = last.row.expires_at - timedelta(minutes=30)
    assert asks_first(last, resting(tries=4), (), late - SECOND)
    assert not asks_first(last, resting(tries=4), (), late)
    assert asks_first(last, resting(tries=3), (), late)


@given(st.integers(min_value=1, max_value=1000))
def test_of_all_tries_within_half_an_hour_one_is_a_message_whatever_reads_say(tries: int) -> None:
    waited, number = timedelta(0), tries
    while asks_first(a_claim(AT), resting(tries=number), (), NOW):
        [grown] = pauses_after(
            [(a_claim(AT).row, frozenset({AT}), NO_READ)], resting(tries=number), NOW, lambda: 1.0
        ).values()
        waited, number = waited + grown.until - NOW, grown.tries
    assert waited + (number - tries) * TIMINGS.timeout < timedelta(minutes=30)


def test_the_last_lost_answers_of_a_burst_do_not_make_it_longer_each() -> None:
    row = a_claim().row
    found = pauses_after([(row, frozenset(), UNRESPONSIVE)] * 50, resting(until=NOW + SECOND), NOW, lambda: 1.0)
    assert found[AT].tries == 1


def test_while_a_provider_is_silent_one_second_call_a_minute_tries_and_the_others_wait() -> None:
    limit = ResendLimit(unanswered=0)
    for number in range(UNRESPONSIVE_AFTER):
        assert limit.allowed(7, NOW) == 7
        limit.add(LOST if number % 2 else ANSWERED)  # the second call might meet Meta's own error again, and end there
    assert limit.allowed(7, NOW) == 1
    limit.released(0, NOW)  # it had to wait for another reason
    assert limit.allowed(7, NOW) == 1
    limit.released(1, NOW)
    assert limit.allowed(7, NOW + PROBE_EVERY - timedelta(microseconds=1)) == 0
    limit.add(NEVER_LEFT)
    assert limit.allowed(7, NOW + PROBE_EVERY) == 1
    limit.add(Refused("131026"))
    assert limit.allowed(7, NOW + PROBE_EVERY) == 7
    assert limit.allowed(0, NOW + PROBE_EVERY) == 0
