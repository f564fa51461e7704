"""The gate in the claim of an SMS: every reason not to send that may have come up since the decision."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.outcomes import Refused, Rerouted
from libs.common.sms_reach import SmsReach
from libs.common.window import Window
from services.sms_bridge.gate import GateFacts, refusal_reason

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
SENDER, TO = "+447700900001", "+447700900999"


def facts(*, last: timedelta | None = timedelta(hours=25), refused: timedelta | None = None) -> GateFacts:
    return GateFacts(
        window=Window(
            None if last is None else NOW - last,
            DAY,
            timedelta(0),
            last_refused_at=None if refused is None else NOW - refused,
        ),
        whatsapp_allowed=True,
        reach=SmsReach(
            phone=TO,
            no_phone_until=None,
            stopped_until=None,
            allowed=True,
            explicit=False,
            contacted=True,
            number=SENDER,
            active=True,
        ),
        slot_taken=False,
    )


def but(**changes: Any) -> GateFacts:
    """The same customer, with other facts about their phone."""
    known = facts()
    return replace(known, reach=replace(known.reach, **changes))


def bridge(known: GateFacts | None) -> Rerouted | Refused | None:
    return refusal_reason(bridge=True, sender=SENDER, to=TO, facts=known, now=NOW)


def plain(known: GateFacts | None) -> Rerouted | Refused | None:
    return refusal_reason(bridge=False, sender=SENDER, to=TO, facts=known, now=NOW)


def test_nothing_stands_against_a_bridge_whose_window_is_closed() -> None:
    assert bridge(facts()) is None


@pytest.mark.parametrize(
    ("last", "is_open"), [(DAY, False), (DAY - timedelta(microseconds=1), True), (timedelta(0), True), (None, False)]
)
def test_a_bridge_is_not_needed_while_the_window_is_open_to_its_last_instant(
    last: timedelta | None, *, is_open: bool
) -> None:
    assert bridge(facts(last=last)) == (Rerouted("window_open") if is_open else None)


def test_a_window_that_meta_refused_is_closed() -> None:
    assert bridge(facts(last=timedelta(hours=2), refused=timedelta(hours=1))) is None


def test_an_open_window_is_no_way_for_a_customer_without_whatsapp() -> None:
    known = replace(facts(last=timedelta(0)), whatsapp_allowed=False)
    assert bridge(known) == Refused(None, "whatsapp_consent_off")


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (but(phone=None), "no_phone"),
        (but(no_phone_until=NOW + DAY), "no_phone"),
        (but(allowed=False), "sms_opted_out"),
        (but(stopped_until=NOW + DAY), "sms_opted_out"),
        (but(active=False), "sms_unavailable"),
        (but(number=None), "sms_unavailable"),
        (but(contacted=False), "never_contacted"),
        (None, "sms_unavailable"),
    ],
)
def test_what_was_withdrawn_stands_against_every_sms(known: GateFacts | None, reason: str) -> None:
    assert bridge(known) == plain(known) == Refused(None, f"window_expired_{reason}")


def test_another_bridge_in_the_slot_stands_against_a_bridge_alone() -> None:
    taken = replace(facts(), slot_taken=True)
    assert bridge(taken) == Refused(None, "window_expired_bridge_already_sent")
    assert plain(taken) is None


def test_a_mark_that_is_over_stands_against_nothing() -> None:
    assert bridge(but(no_phone_until=NOW, stopped_until=NOW)) is None


def test_another_spelling_of_the_number_is_the_same_line() -> None:
    known = but(phone="+5511987654321")
    assert refusal_reason(bridge=False, sender=SENDER, to="+551187654321", facts=known, now=NOW) is None


def test_a_number_that_moved_while_the_sms_waited_goes_back_to_the_router() -> None:
    for known in (but(phone="+447700900555"), but(phone="+447700900555", no_phone_until=NOW + DAY)):
        assert plain(known) == bridge(known) == Rerouted("address_changed")
    gone = but(phone=None)
    assert refusal_reason(bridge=False, sender=SENDER, to=TO, facts=gone, now=NOW, named=True) == Rerouted(
        "address_changed"
    )


def test_an_organisation_with_another_sms_number_is_decided_again() -> None:
    known = but(number="+447700900002")
    assert plain(known) == bridge(known) == Rerouted("address_changed")
    stopped = but(number="+447700900002", allowed=False)
    assert bridge(stopped) == Refused(None, "window_expired_sms_opted_out")


def test_plain_text_asks_neither_window_nor_whatsapp() -> None:
    assert plain(facts(last=timedelta(0))) is None
    assert plain(replace(facts(), whatsapp_allowed=False)) is None


@given(
    whatsapp=st.booleans(),
    sms=st.booleans(),
    active=st.booleans(),
    phone=st.sampled_from([TO, None, "+447700900555"]),
    dead=st.sampled_from([NOW - DAY, NOW + DAY, None]),
    contacted=st.booleans(),
    explicit=st.booleans(),
    hours=st.floats(min_value=0, max_value=100),
)
def test_whatever_passes_may_be_sent(
    *,
    whatsapp: bool,
    sms: bool,
    active: bool,
    phone: str | None,
    dead: datetime | None,
    contacted: bool,
    explicit: bool,
    hours: float,
) -> None:
    reach = but(allowed=sms, active=active, phone=phone, no_phone_until=dead, contacted=contacted, explicit=explicit)
    known = replace(facts(last=timedelta(hours=hours)), whatsapp_allowed=whatsapp, reach=reach.reach)
    usable = sms and active and phone == TO and (dead is None or dead <= NOW) and (contacted or explicit)
    assert (plain(known) is None) == usable
    assert (bridge(known) is None) == (usable and whatsapp and hours >= 24)
