"""How rows move: the laws, over any row and any answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.send_rows import Candidate, Pause, PauseKind, PauseScope, SendRow, State
from libs.common.sending.outcomes import (
    Absent,
    Accepted,
    Curve,
    Evidence,
    Found,
    Go,
    Refused,
    RetryLater,
    Returned,
    SendOutcome,
    Timings,
    Unclear,
    Unknown,
)
from libs.common.sending.transitions import (
    PROBE_GAP,
    PROBES,
    admit,
    answer,
    claim,
    pauses_after,
    recovered,
    unknown,
    wait,
    weigh,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TIMINGS = Timings(timeout=10 * SECOND, lease=20 * SECOND, grace=30 * SECOND)
CURVE = Curve(SECOND, 2, 60 * SECOND)
CLAIM = UUID(int=7)


def a_row(number: int = 1, *, state: State = "pending", account: str = "106", template: bool = False, expires_in: timedelta = timedelta(hours=24)) -> SendRow:  # fmt: skip
    found = SendRow(
        org_id="acme",
        message_id=UUID(int=number),
        attempt=1,
        conversation_id=UUID(int=number),
        account=account,
        command={"route": "template" if template else "session"},
        state="pending",
        due_at=NOW,
        expires_at=NOW + expires_in,
        created_at=NOW,
    )
    if state == "pending":
        return found
    claimed = claim(found, Go(None), CLAIM, NOW, TIMINGS)
    return claimed if state == "claimed" else unknown(claimed, "timeout", NOW, TIMINGS)


def a_pause(until: datetime, tries: int, reason: str, kind: PauseKind = "throttle") -> Pause:
    return Pause("106", "all", until, tries, reason, kind, "answer", NOW)


def is_template(row: SendRow) -> bool:
    return bool(row.command["route"] == "template")


def no_jitter() -> float:
    return 0.0


SCOPES = st.sampled_from(["message", "pair", "account", "templates"])
WAITS = st.none() | st.timedeltas(timedelta(0), timedelta(hours=1))
RETRIES = st.builds(RetryLater, SCOPES, st.just(CURVE), st.just("x"), WAITS, st.none() | st.integers(1, 5))
OUTCOMES: st.SearchStrategy[SendOutcome] = st.one_of(
    st.just(Accepted("106", "wamid.X")),
    RETRIES,
    st.just(Returned("window_closed")),
    st.just(Refused("131026")),
    st.just(Unknown("timeout")),
)
LIFETIMES = st.timedeltas(timedelta(milliseconds=1), timedelta(days=2))


@given(OUTCOMES, LIFETIMES, st.integers(1, 60), st.floats(0, 1, exclude_max=True))
def test_an_answer_settles_a_row_or_leaves_it_to_be_looked_at_again(
    outcome: SendOutcome, lifetime: timedelta, tries: int, chance: float
) -> None:
    row = replace(a_row(state="claimed", expires_in=lifetime), tries=tries)
    step = answer(row, outcome, None, NOW, timings=TIMINGS, jitter=lambda: chance)
    assert step.before is row
    assert (step.final is None) == (step.after.state in {"pending", "unknown"})
    assert (step.after.settled_at is None) == (step.final is None)
    if step.after.state == "pending":
        assert NOW < step.after.due_at <= max(row.expires_at, NOW + timedelta(milliseconds=1))
        assert step.after.claim_id is None
    if step.after.state == "unknown":
        assert step.after.due_at == NOW


@given(OUTCOMES)
def test_only_a_wait_that_holds_for_the_whole_conversation_blocks_it_without_end(outcome: SendOutcome) -> None:
    after = answer(a_row(state="claimed"), outcome, None, NOW, timings=TIMINGS, jitter=no_jitter).after
    endless = isinstance(outcome, RetryLater) and outcome.scope in {"pair", "account"}
    if after.state in {"pending", "unknown"}:
        assert after.blocks_until == (None if endless else NOW + TIMINGS.blocks)


@given(st.lists(OUTCOMES, min_size=1, max_size=6))
def test_a_row_blocks_younger_ones_for_a_minute_in_all_not_a_minute_each_time(outcomes: list[SendOutcome]) -> None:
    row, now, first = a_row(state="claimed"), NOW, None
    for outcome in outcomes:
        step = answer(row, outcome, None, now, timings=TIMINGS, jitter=no_jitter)
        if step.after.state != "pending":
            return
        first = first or step.after.blocks_until
        assert step.after.blocks_until == first
        now = step.after.due_at
        row = claim(step.after, Go(None), CLAIM, now, TIMINGS)


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
        step = answer(row, outcome, None, NOW, timings=TIMINGS, jitter=no_jitter)
        finals.append(step.final)
        after = step.after
        if after.state == "unknown":
            again = weigh(after, Absent(), NOW, TIMINGS)
            assert again is not None
            after = replace(again.after, resends=0)
        row = claim(after, Go(None), CLAIM, NOW, TIMINGS)
    assert finals[-1] == Refused("131053")
    assert set(finals[:-1]) <= {None}


def test_what_the_provider_asks_for_is_the_wait() -> None:
    assert wait(RetryLater("pair", CURVE, "x", 17 * SECOND), 5, no_jitter) == 17 * SECOND
    assert wait(RetryLater("pair", CURVE, "x", timedelta(0)), 5, no_jitter) == timedelta(0)
    assert [wait(RetryLater("pair", CURVE, "x"), tries, lambda: 1.0) for tries in (1, 2, 3)] == [SECOND, 2 * SECOND, 4 * SECOND]  # fmt: skip


EVIDENCE: list[Evidence] = [Found((Accepted("106", "wamid.X"),)), Absent(), Unclear()]


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("resends", [0, 1])
@pytest.mark.parametrize("ago", [timedelta(0), timedelta(hours=23), timedelta(hours=24), timedelta(hours=26)])
def test_an_unknown_outcome_is_settled_by_evidence_or_sent_once_more(
    evidence: Evidence, resends: int, ago: timedelta
) -> None:
    row = replace(a_row(state="unknown"), resends=resends)
    step = weigh(row, evidence, NOW + ago, TIMINGS)
    match evidence:
        case Found():
            assert step is not None
            assert step.after.state == "accepted"
        case Absent() if resends == 0 and ago < timedelta(hours=24):
            assert step is not None
            assert (step.after.state, step.after.resends, step.after.claim_id) == ("pending", 1, None)
        case Unclear() if ago < timedelta(hours=25):
            assert step is None
        case _:
            assert step is not None
            assert step.final == Refused(None, "unknown_outcome")


def test_rows_whose_time_is_up_end_before_any_gate() -> None:
    admission = admit([Candidate(a_row(expires_in=timedelta(0)))], NOW, TIMINGS, is_template)
    assert [step.final for step in admission.steps] == [Refused(None, "intent_expired")]
    assert admission.judged == []


def test_a_resend_that_waited_beyond_its_deadline_is_not_called_expired() -> None:
    row = replace(a_row(expires_in=timedelta(0)), resends=1, tries=1)
    assert [step.final for step in admit([Candidate(row)], NOW, TIMINGS, is_template).steps] == [
        Refused(None, "unknown_outcome")
    ]


def test_a_deadline_may_be_the_end_of_time() -> None:
    row = replace(a_row(state="unknown"), expires_at=datetime.max.replace(tzinfo=UTC))
    assert weigh(row, Unclear(), NOW, TIMINGS) is None


def test_rows_of_an_account_that_rests_wait_for_its_end() -> None:
    [step] = admit([Candidate(a_row(), rests_until=NOW + 5 * SECOND)], NOW, TIMINGS, is_template).steps
    assert (step.after.state, step.after.due_at, step.after.blocks_until) == ("pending", NOW + 5 * SECOND, None)


def test_a_rest_of_templates_lets_sessions_pass_and_holds_nobody_back_for_long() -> None:
    until = NOW + timedelta(hours=1)
    rows = [Candidate(a_row(n, template=n == 1), templates_rest_until=until) for n in (1, 2)]
    admission = admit(rows, NOW, TIMINGS, is_template)
    assert [(step.after.due_at, step.after.blocks_until) for step in admission.steps] == [(until, NOW + TIMINGS.blocks)]
    assert admission.judged == [(rows[1].row, frozenset())]


def test_an_account_that_rested_is_tried_out_by_a_few() -> None:
    rows = [Candidate(a_row(n), rests_until=NOW) for n in range(10)] + [Candidate(a_row(99, account="107"))]
    admission = admit(rows, NOW, TIMINGS, is_template)
    assert [probes for _row, probes in admission.judged] == [frozenset({"all"})] * PROBES + [frozenset()]
    assert admission.probes == {("106", "all"): PROBES}
    assert len(admission.steps) == 10 - PROBES


THROTTLED = RetryLater("account", CURVE, "130429")
NO_PROBE: frozenset[PauseScope] = frozenset()
PROBE: frozenset[PauseScope] = frozenset({"all"})


def test_many_calls_that_are_throttled_together_cause_one_pause() -> None:
    rows = [(a_row(n, state="claimed"), NO_PROBE, THROTTLED) for n in range(50)]
    pauses = pauses_after(rows, {}, NOW, lambda: 1.0)
    assert pauses == {("106", "all"): a_pause(NOW + SECOND, 1, "130429")}
    late = pauses_after(rows, pauses, NOW + timedelta(milliseconds=500), lambda: 1.0)
    assert late["106", "all"].tries == 1


def test_a_pause_grows_when_its_end_was_too_early_and_begins_anew_much_later() -> None:
    standing: dict[tuple[str, PauseScope], Pause] = {("106", "all"): a_pause(NOW, 3, "130429")}
    rows = [(a_row(state="claimed"), NO_PROBE, THROTTLED)]
    assert pauses_after(rows, standing, NOW + SECOND, lambda: 1.0)["106", "all"].until == NOW + 9 * SECOND
    assert pauses_after(rows, standing, NOW + timedelta(minutes=11), lambda: 1.0)["106", "all"].tries == 1


def test_a_probe_that_is_throttled_makes_the_pause_grow_once() -> None:
    probed: dict[tuple[str, PauseScope], Pause] = {("106", "all"): a_pause(NOW + PROBE_GAP, 3, "130429")}
    rows = [(a_row(n, state="claimed"), PROBE, THROTTLED) for n in range(PROBES)]
    grown = pauses_after(rows[:1], probed, NOW + timedelta(milliseconds=50), lambda: 1.0)
    assert grown["106", "all"].tries == 4
    late = pauses_after(rows[1:], grown, NOW + timedelta(milliseconds=80), lambda: 1.0)
    assert late["106", "all"].tries == 4


def test_waits_of_one_message_or_pair_pause_nobody_else() -> None:
    rows = [(a_row(state="claimed"), NO_PROBE, replace(THROTTLED, scope=scope)) for scope in ("message", "pair")]
    assert pauses_after(rows, {}, NOW, no_jitter) == {}


def test_a_longer_pause_that_stands_is_not_shortened() -> None:
    standing: dict[tuple[str, PauseScope], Pause] = {("106", "all"): a_pause(NOW + timedelta(hours=1), 1, "131031")}
    rows = [(a_row(state="claimed"), NO_PROBE, THROTTLED)]
    assert pauses_after(rows, standing, NOW, no_jitter)["106", "all"].until == NOW + timedelta(hours=1)


def test_a_pause_ends_when_a_probe_goes_through() -> None:
    both: frozenset[PauseScope] = frozenset({"all", "templates"})
    assert recovered("106", both, Accepted("106", "wamid.X")) == {("106", "all"), ("106", "templates")}
    assert recovered("106", both, Refused("131026")) == {("106", "all")}
    assert recovered("106", both, Unknown("timeout")) == set()
    assert recovered("106", both, THROTTLED) == set()
