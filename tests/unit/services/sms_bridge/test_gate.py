"""The gate in the claim of an SMS: every reason not to send that may have come up since the decision."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.outcomes import Refused, Returned
from libs.common.window import Window
from services.sms_bridge.gate import Facts, objection

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
SENDER, TO = "+447700900001", "+447700900999"


def facts(*, last: timedelta | None = timedelta(hours=25), refused: timedelta | None = None) -> Facts:
    return Facts(
        window=Window(
            None if last is None else NOW - last,
            DAY,
            timedelta(0),
            last_refused_at=None if refused is None else NOW - refused,
        ),
        whatsapp_allowed=True,
        sms_allowed=True,
        phone=TO,
        phone_dead=None,
        sms_active=True,
        sms_number=SENDER,
        slot_taken=False,
    )


def bridge(known: Facts | None) -> Returned | Refused | None:
    return objection(bridge=True, sender=SENDER, to=TO, facts=known, now=NOW)


def plain(known: Facts | None) -> Returned | Refused | None:
    return objection(bridge=False, sender=SENDER, to=TO, facts=known, now=NOW)


def test_nothing_stands_against_a_bridge_whose_window_is_closed() -> None:
    assert bridge(facts()) is None


@pytest.mark.parametrize(
    ("last", "is_open"), [(DAY, False), (DAY - timedelta(microseconds=1), True), (timedelta(0), True), (None, False)]
)
def test_a_bridge_is_not_needed_while_the_window_is_open_to_its_last_instant(
    last: timedelta | None, *, is_open: bool
) -> None:
    assert bridge(facts(last=last)) == (Returned("window_open") if is_open else None)


def test_a_window_that_meta_refused_is_closed() -> None:
    assert bridge(facts(last=timedelta(hours=2), refused=timedelta(hours=1))) is None


def test_an_open_window_is_no_way_for_a_customer_without_whatsapp() -> None:
    known = replace(facts(last=timedelta(0)), whatsapp_allowed=False)
    assert bridge(known) == Refused(None, "window_expired_whatsapp_consent_off")


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (replace(facts(), phone=None), "no_phone"),
        (replace(facts(), phone_dead=TO), "no_phone"),
        (replace(facts(), phone="+447700900555"), "no_phone"),
        (replace(facts(), sms_allowed=False), "sms_opted_out"),
        (replace(facts(), sms_active=False), "sms_unavailable"),
        (replace(facts(), sms_number=None), "sms_unavailable"),
        (replace(facts(), sms_number="+447700900002"), "sms_unavailable"),
        (None, "sms_unavailable"),
    ],
)
def test_what_was_withdrawn_stands_against_every_sms(known: Facts | None, reason: str) -> None:
    assert bridge(known) == plain(known) == Refused(None, f"window_expired_{reason}")


def test_another_bridge_in_the_slot_stands_against_a_bridge_alone() -> None:
    taken = replace(facts(), slot_taken=True)
    assert bridge(taken) == Refused(None, "window_expired_bridge_already_sent")
    assert plain(taken) is None


def test_a_number_that_was_dead_before_and_was_replaced_is_alive() -> None:
    assert bridge(replace(facts(), phone_dead="+447700900555")) is None


def test_plain_text_asks_neither_window_nor_whatsapp() -> None:
    assert plain(facts(last=timedelta(0))) is None
    assert plain(replace(facts(), whatsapp_allowed=False)) is None


@given(
    whatsapp=st.booleans(),
    sms=st.booleans(),
    active=st.booleans(),
    phone=st.sampled_from([TO, None, "+447700900555"]),
    dead=st.sampled_from([TO, None]),
    hours=st.floats(min_value=0, max_value=100),
)
def test_whatever_passes_may_be_sent(
    *, whatsapp: bool, sms: bool, active: bool, phone: str | None, dead: str | None, hours: float
) -> None:
    known = replace(
        facts(last=timedelta(hours=hours)),
        whatsapp_allowed=whatsapp,
        sms_allowed=sms,
        sms_active=active,
        phone=phone,
        phone_dead=dead,
    )
    usable = sms and active and phone == TO and dead != TO
    assert (plain(known) is None) == usable
    assert (bridge(known) is None) == (usable and whatsapp and hours >= 24)
