"""What the composer offers, by window, live channel, consent and obstacle."""

from datetime import timedelta
from typing import get_args
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.outbound import Channel
from libs.common.sms_reach import SmsObstacle
from libs.common.window import WindowWord
from services.inbox.composing import AskedBefore, PortalWord, Situation, offer_of
from tests.unit.services.inbox.composing_builders import NOW, a_situation, expired


def test_an_open_window_takes_a_text_and_offers_the_other_channels_behind_whatsapp() -> None:
    offer = offer_of(a_situation())
    assert (offer.mode, offer.channels, offer.ask) == ("write", ("whatsapp", "sms", "portal"), None)


def test_where_the_customer_wrote_last_stands_first() -> None:
    assert offer_of(a_situation(last_channel="portal")).channels == ("portal", "whatsapp", "sms")
    assert offer_of(a_situation(last_channel="sms")).channels == ("sms", "whatsapp", "portal")


def test_a_closed_window_makes_the_composer_a_picker_and_offers_the_sms() -> None:
    offer = offer_of(expired())
    assert (offer.mode, offer.channels) == ("pick", ())
    assert offer.ask is not None
    assert offer.ask.is_possible


def test_a_closed_window_still_takes_a_text_where_the_customer_wrote_lately_by_sms() -> None:
    lately = expired(last_channel="sms", last_at=NOW - timedelta(hours=2))
    assert offer_of(lately).mode == "write"
    assert "whatsapp" not in offer_of(lately).channels
    assert offer_of(expired(last_channel="sms", last_at=NOW - timedelta(hours=24))).mode == "pick"


def test_a_window_that_closes_soon_says_until_when_to_answer() -> None:
    closes = NOW + timedelta(minutes=9)
    assert offer_of(a_situation(window="closing", closes_at=closes)).answer_before == closes
    assert offer_of(a_situation()).answer_before is None


def test_the_next_sms_waits_for_the_slot_of_the_one_before() -> None:
    asked = AskedBefore(uuid4(), NOW - timedelta(minutes=10), NOW + timedelta(hours=23))
    ask = offer_of(expired(asked=asked)).ask
    assert ask is not None
    assert not ask.is_possible
    assert ask.asked == asked


def test_a_customer_who_never_wrote_gets_a_picker_and_no_question_by_sms() -> None:
    never = expired(window="never", closes_at=None, last_channel=None, last_at=None, obstacle="never_contacted")
    assert (offer_of(never).mode, offer_of(never).ask) == ("pick", None)


def test_to_a_customer_who_was_erased_nothing_is_offered() -> None:
    for situation in (a_situation(erased=True), expired(erased=True)):
        offer = offer_of(situation)
        assert (offer.mode, offer.channels, offer.ask) == ("read", (), None)


def test_where_whatsapp_is_switched_off_an_sms_is_written_if_one_may_go() -> None:
    assert offer_of(a_situation(consent=False)).channels == ("sms", "portal")
    closed = offer_of(expired(consent=False, obstacle="no_phone"))
    assert closed.mode == "pick"
    assert closed.ask is not None
    assert closed.ask.why_not == "whatsapp_consent_off"


def test_without_the_capability_nothing_is_offered() -> None:
    offer = offer_of(a_situation(may_send=False))
    assert (offer.mode, offer.channels, offer.ask) == ("read", (), None)


SITUATIONS = st.builds(
    a_situation,
    window=st.sampled_from(get_args(WindowWord)),
    window_open=st.booleans(),
    last_channel=st.sampled_from([None, *get_args(Channel)]),
    last_at=st.sampled_from([None, NOW, NOW - timedelta(hours=23), NOW - timedelta(days=3)]),
    portal=st.sampled_from(get_args(PortalWord)),
    obstacle=st.sampled_from([None, *get_args(SmsObstacle)]),
    consent=st.booleans(),
    reachable=st.booleans(),
    may_send=st.booleans(),
)


@given(SITUATIONS)
def test_no_channel_is_offered_that_the_decision_table_would_refuse(situation: Situation) -> None:
    offer = offer_of(situation)
    assert ("whatsapp" in offer.channels) <= situation.by_whatsapp
    assert ("sms" in offer.channels) <= (situation.obstacle is None)
    assert (offer.mode == "write") == bool(offer.channels)
    assert len(set(offer.channels)) == len(offer.channels)
    if offer.ask is not None:
        assert not situation.by_whatsapp
        assert offer.ask.is_possible <= (situation.consent and situation.obstacle is None)
