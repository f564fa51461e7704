"""How accounts come to rest, are tried out, and go on."""

from dataclasses import replace
from datetime import timedelta

from libs.common.sending.admission import PROBES, admit
from libs.common.sending.outcomes import (
    Accepted,
    Refused,
    Rerouted,
    RetryLater,
    SendOutcome,
    Unknown,
)
from libs.common.sending.rows import (
    EVERY_ACCOUNT,
    Candidate,
    Pause,
    PauseKey,
)
from libs.common.sending.transitions import (
    PROBE_GAP,
    Recovery,
    answer,
    pauses_after,
)
from tests.unit.libs.common.sending.builders import (
    ALL,
    BUDGETS,
    CURVE,
    NOW,
    OF_TEMPLATES,
    SECOND,
    TIMINGS,
    a_pause,
    a_row,
    no_jitter,
)


def test_an_account_that_rested_is_tried_out_by_a_few() -> None:
    over = frozenset({ALL})
    rows = [Candidate(a_row(n), over=over) for n in range(10)] + [Candidate(a_row(99, account="107"))]
    admission = admit(rows, NOW, BUDGETS)
    assert [probes for _row, probes in admission.judged] == [over] * PROBES + [frozenset()]
    assert admission.probes == {ALL: PROBES}
    assert admission.ended == []


def test_a_pause_of_all_accounts_is_tried_out_by_one_call_of_one_account() -> None:
    over: frozenset[PauseKey] = frozenset({(EVERY_ACCOUNT, "all")})
    rows = [Candidate(a_row(n, account=account), over=over, alone=over) for n, account in enumerate(["106", "107"] * 3)]
    assert len(admit(rows, NOW, BUDGETS, {(EVERY_ACCOUNT, "all"): a_pause()}).judged) == 1


THROTTLED = RetryLater("account", CURVE, "130429")
NO_PROBE: frozenset[PauseKey] = frozenset()
PROBE: frozenset[PauseKey] = frozenset({ALL})


def test_many_calls_that_are_throttled_together_cause_one_pause() -> None:
    rows = [(a_row(n, state="claimed"), NO_PROBE, THROTTLED) for n in range(50)]
    pauses = pauses_after(rows, {}, NOW, lambda: 1.0)
    assert pauses == {ALL: a_pause(NOW + SECOND, 1, "130429")}
    late = pauses_after(rows, pauses, NOW + timedelta(milliseconds=500), lambda: 1.0)
    assert late[ALL].tries == 1


def test_a_pause_grows_when_its_end_was_too_early_and_begins_anew_much_later() -> None:
    standing: dict[PauseKey, Pause] = {ALL: a_pause(NOW, 3, "130429")}
    rows = [(a_row(state="claimed"), NO_PROBE, THROTTLED)]
    assert pauses_after(rows, standing, NOW + SECOND, lambda: 1.0)[ALL].until == NOW + 9 * SECOND
    assert pauses_after(rows, standing, NOW + timedelta(minutes=11), lambda: 1.0)[ALL].tries == 1


def test_a_probe_that_is_throttled_makes_the_pause_grow_once() -> None:
    probed: dict[PauseKey, Pause] = {ALL: a_pause(NOW + PROBE_GAP, 3, "130429")}
    rows = [(a_row(n, state="claimed"), PROBE, THROTTLED) for n in range(PROBES)]
    grown = pauses_after(rows[:1], probed, NOW + timedelta(milliseconds=50), lambda: 1.0)
    assert grown[ALL].tries == 4
    late = pauses_after(rows[1:], grown, NOW + timedelta(milliseconds=80), lambda: 1.0)
    assert late[ALL].tries == 4


def test_waits_of_one_message_or_pair_pause_nobody_else() -> None:
    rows = [(a_row(state="claimed"), NO_PROBE, replace(THROTTLED, scope=scope)) for scope in ("message", "pair")]
    assert pauses_after(rows, {}, NOW, no_jitter) == {}


def test_a_longer_pause_that_stands_is_not_shortened() -> None:
    standing: dict[PauseKey, Pause] = {ALL: a_pause(NOW + timedelta(hours=1), 1, "131031")}
    rows = [(a_row(state="claimed"), NO_PROBE, THROTTLED)]
    assert pauses_after(rows, standing, NOW, no_jitter)[ALL].until == NOW + timedelta(hours=1)


BOTH: frozenset[PauseKey] = frozenset({ALL, OF_TEMPLATES})
FAULT = RetryLater("account", CURVE, "190", fault=True)


def heard(outcome: SendOutcome, *, probes: frozenset[PauseKey] = BOTH, pause: Pause | None = None) -> Recovery:
    found = Recovery()
    found.hear(probes, outcome, {} if pause is None else {ALL: pause})
    return found


def test_a_pause_ends_when_a_probe_goes_through() -> None:
    assert heard(Accepted("106", "wamid.X")) == Recovery(over=set(BOTH))
    assert heard(Refused("131026")) == Recovery(over={ALL})
    assert heard(Unknown("timeout")) == heard(THROTTLED) == Recovery()


def test_only_an_acceptance_shows_that_a_fault_is_mended() -> None:
    fault = a_pause(kind="fault", reason="190")
    assert heard(Accepted("106", "wamid.X"), probes=PROBE, pause=fault) == Recovery(over={ALL})
    for outcome in (Refused("131026"), Rerouted("window_closed")):
        assert heard(outcome, probes=PROBE, pause=fault) == Recovery(again={ALL})
    for silent in (Unknown("timeout"), THROTTLED, FAULT):
        assert heard(silent, probes=PROBE, pause=fault) == Recovery()


def test_what_a_late_status_said_no_answer_takes_back() -> None:
    fault = a_pause(kind="fault", proof="status", reason="131042")
    assert heard(Accepted("106", "wamid.X"), probes=PROBE, pause=fault) == Recovery(unproved={ALL})


def test_an_account_that_is_not_in_order_uses_up_no_try_of_its_messages() -> None:
    row = a_row(state="claimed")
    after = answer(row, FAULT, NOW, timings=TIMINGS, jitter=no_jitter).after
    assert (row.tries, after.tries, after.state, after.blocks_order_until) == (1, 0, "pending", None)


def test_a_fault_of_the_providers_account_rests_all_accounts() -> None:
    [(key, pause)] = pauses_after(
        [(a_row(state="claimed"), NO_PROBE, replace(FAULT, scope="provider"))], {}, NOW, no_jitter
    ).items()
    assert (key, pause.kind, pause.since) == ((EVERY_ACCOUNT, "all"), "fault", NOW)


def test_one_call_that_meets_the_fault_again_makes_its_rest_longer() -> None:
    standing = {ALL: a_pause(NOW + TIMINGS.lease, 3, "190", "fault")}
    [grown] = pauses_after([(a_row(state="claimed"), PROBE, FAULT)], standing, NOW, lambda: 1.0).values()
    assert (grown.tries, grown.until) == (4, NOW + 8 * SECOND)  # not: when the lease of this call is over
    [others] = pauses_after([(a_row(state="claimed"), NO_PROBE, FAULT)], standing, NOW, lambda: 1.0).values()
    assert others.tries == 3
