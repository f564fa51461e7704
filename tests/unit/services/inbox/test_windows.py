"""People are shown the router's own answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from libs.common.window import Window
from services.inbox.windows import ShownWindow, WindowFacts, WindowRule, shown

T0 = datetime(2026, 11, 26, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
RULE = WindowRule(length=24 * HOUR, doubt=timedelta(minutes=5), closing_soon=2 * HOUR)
NEVER = WindowFacts(None, None, None, None)
instants = st.one_of(st.none(), st.timedeltas(-30 * HOUR, 30 * HOUR).map(lambda since: T0 + since))


def test_a_customer_who_never_wrote_has_no_times() -> None:
    assert shown(NEVER, RULE, T0) == ShownWindow("never", None, None, open=False)


def test_an_open_window_says_when_it_closes() -> None:
    facts = WindowFacts(T0, None, None, None)
    assert shown(facts, RULE, T0 + HOUR) == ShownWindow("open", T0, T0 + 24 * HOUR, open=True)
    assert shown(facts, RULE, T0 + 22 * HOUR).state == "closing"
    assert shown(facts, RULE, T0 + 24 * HOUR) == ShownWindow("expired", T0, T0 + 24 * HOUR, open=False)


@given(st.timedeltas(timedelta(0), 30 * HOUR), st.timedeltas(timedelta(0), 23 * HOUR))
def test_with_a_margin_people_see_the_router_s_answer(since: timedelta, margin: timedelta) -> None:
    found = shown(WindowFacts(T0, None, None, None), replace(RULE, margin=margin), T0 + since)
    assert found.open is Window(T0, RULE.length, RULE.doubt).is_open(T0 + since, margin)
    assert found.closes_at == T0 + RULE.length - margin
    assert found.open is (found.state in ("open", "closing"))


def test_a_window_that_meta_closed_says_since_when_it_is_closed() -> None:
    facts = WindowFacts(T0, None, T0 + 3 * HOUR, T0 + 4 * HOUR)
    assert shown(facts, RULE, T0 + 5 * HOUR) == ShownWindow("expired", T0, T0 + 3 * HOUR, open=False)


@given(instants, instants, instants, instants, instants.filter(lambda at: at is not None))
def test_open_and_its_word_never_disagree(
    last: datetime | None,
    changed: datetime | None,
    first: datetime | None,
    newest: datetime | None,
    now: datetime,
) -> None:
    facts = WindowFacts(last, changed, first, newest)
    seen = shown(facts, RULE, now)
    assert seen.open == (seen.state in ("open", "closing"))
    assert seen.open == facts.under(RULE).is_open(now)
    assert (seen.state == "never") == (last is None) == (seen.closes_at is None)
    assert not seen.open or (seen.closes_at is not None and now < seen.closes_at)
