"""What is recorded of a decision, and the events that publish it."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision, SmsCommand, WhatsappCommand
from libs.common.events.topics import OUTBOUND_SMS, OUTBOUND_WHATSAPP
from services.router.decide import Bridge, Rejected, Session, Silent, Template, decide
from services.router.facts import Attempt, Facts
from services.router.recorded_decision import record_of, stored, unpack
from services.router.worker import records_of
from tests.support.examples import examples
from tests.unit.services.router.builders import (
    BRIDGE,
    CAR_READY,
    FACTS,
    FOUR_SEGMENTS,
    IMAGE,
    INTENTS,
    NOW,
    OTHER,
    TEMPLATE,
    THREE_SEGMENTS,
    a_first_contact,
    an_intent,
    closed_facts,
    some_facts,
)

EVENTS: dict[str, Any] = {e.TYPE: e for e in (OutboundDecision, WhatsappCommand, SmsCommand, DeliveryUpdate)}


def said(value: bytes) -> dict[str, Any]:
    """An event's fields; one that is null may as well be missing."""
    return {name: field for name, field in orjson.loads(value).items() if field is not None}


def published(intent: Intent | BadIntent, facts: Facts) -> list[tuple[str, Any]]:
    found = []
    row = record_of(Attempt(intent, 1, 7, facts), decide(intent, facts, NOW), NOW)
    for record in records_of(row, row.detail):
        value = record.value or b""
        event = EVENTS[orjson.loads(value)["type"]].decode(value)
        assert said(event.encode()) == said(value)
        found.append((record.topic.name, event))
    return found


@given(INTENTS, FACTS.filter(lambda facts: facts.conversation_id is not None and facts.phone is not None))
@settings(max_examples=examples(300))
def test_everything_published_is_an_event_of_the_contract_and_the_intent_ends_or_is_commanded(
    intent: Intent | BadIntent, facts: Facts
) -> None:
    events = published(intent, facts)
    decision = decide(intent, facts, NOW)
    [(_, first), *rest] = events
    assert isinstance(first, OutboundDecision)
    assert (first.route, first.reason) == (decision.route, decision.reason)
    [(topic, second)] = rest
    match decision:
        case Session(channel="portal"):
            assert second.status == "sent"
        case Session(channel="sms") | Bridge():
            assert topic == OUTBOUND_SMS.name
            assert second.to == facts.phone
        case Session() | Template():
            assert topic == OUTBOUND_WHATSAPP.name
            assert second.to.startswith("+")
        case Silent(reason="intent_expired" | "conversation_held" | "whatsapp_consent_off") | Rejected():
            assert (second.status, second.reason) == ("failed", decision.reason)
        case Silent():
            why = "whatsapp_unreachable" if facts.open(NOW) and facts.unreachable(NOW) else "window_expired"
            assert (second.status, second.reason) == ("failed", f"{why}_{decision.reason}")


def test_whatsapp_is_addressed_by_what_meta_knows_and_by_the_phone_otherwise() -> None:
    [_, (_, known)] = published(an_intent(), some_facts(wa_id="5511999999999", bsuid="BR.1"))
    [_, (_, unknown)] = published(an_intent(), some_facts(wa_id=None))
    assert (known.to, known.recipient) == ("+5511999999999", "BR.1")
    assert (unknown.to, unknown.recipient) == ("+447700900999", None)


def test_a_rejection_names_the_fields_that_are_wrong() -> None:
    bad = {"kind": "image", "link": "https:///private.jpg"}
    [(_, rejected), _] = published(an_intent(content=bad), some_facts())
    assert (rejected.reason, rejected.detail) == ("invalid_intent", "content.link: format")
    [(_, taken), *_] = published(an_intent(), some_facts(id_taken=True))
    assert (taken.reason, taken.detail) == ("invalid_intent", "intent_id: taken")
    for intent in (an_intent(), an_intent(actor={"kind": "staff"})):
        [(_, other), *_] = published(intent, some_facts())
        assert other.detail is None


PAUSED = replace(CAR_READY, status="PAUSED")


@pytest.mark.parametrize(
    ("intent", "facts", "reason", "detail"),
    [
        (an_intent(), some_facts(org_name=None), "unknown_conversation", "org_id: unknown"),
        (
            a_first_contact(),
            some_facts(phone_number_id=None, conversation_id=None),
            "unknown_conversation",
            "to.phone_number_id: unknown",
        ),
        (
            an_intent(),
            some_facts(phone_number_id=None, conversation_id=None),
            "unknown_conversation",
            "conversation_id: unknown",
        ),
        (an_intent(), some_facts(phone_number_id=None), "unknown_conversation", "conversation_id: number_unknown"),
        (
            an_intent(channel="sms", content=FOUR_SEGMENTS),
            some_facts(),
            "unsupported_content",
            "content.text: too_long",
        ),
        (an_intent(channel="sms", content=IMAGE), some_facts(), "unsupported_content", "content.kind: not_by_sms"),
        (an_intent(content=BRIDGE), some_facts(), "unsupported_content", "content.kind: not_permitted"),
        (an_intent(content=TEMPLATE), some_facts(template=None), "template_not_approved", "content.name: unknown"),
        (
            an_intent(content=TEMPLATE),
            some_facts(template=PAUSED),
            "template_not_approved",
            "content.name: not_approved",
        ),
    ],
)
def test_a_rejection_says_what_was_not_found_or_cannot_go(
    intent: Intent, facts: Facts, reason: str, detail: str
) -> None:
    [(_, rejected), *_] = published(intent, facts)
    assert (rejected.route, rejected.reason, rejected.detail) == ("rejected", reason, detail)


@pytest.mark.parametrize(
    ("intent", "caps", "detail"),
    [
        (
            an_intent(channel="sms", content=THREE_SEGMENTS),
            {"sms_spent": 498, "sms_daily_segments": 500, "sms_hourly_answers": 6},
            "sms_daily_segments: 498 of 500 used, 3 needed",
        ),
        (
            an_intent(content=THREE_SEGMENTS),
            {"sms_spent": 12, "sms_daily_segments": 12},
            "sms_daily_segments: 12 of 12 used, 1 needed",
        ),
        (
            an_intent(channel="sms"),
            {"sms_answers_hour": 4, "sms_answers_day": 20, "sms_hourly_answers": 4},
            "sms_hourly_answers: 4 of 4 used",
        ),
        (
            an_intent(channel="sms"),
            {"sms_answers_hour": 3, "sms_answers_day": 20, "sms_hourly_answers": 4},
            "answers of a day: 20 of 20 used",
        ),
        (
            an_intent(fallback_template={"name": "car_ready", "language": "en_GB"}),
            {"sms_spent": 12, "sms_daily_segments": 12, "template": None},
            "sms_daily_segments: 12 of 12 used, 1 needed; fallback_template: template_not_approved",
        ),
    ],
)
def test_a_decision_at_a_cap_names_the_cap_and_how_much_of_it_is_used(
    intent: Intent, caps: dict[str, Any], detail: str
) -> None:
    [(_, silent), *_] = published(intent, closed_facts(sms_countries=("GB",), **caps))
    assert (silent.route, silent.reason, silent.detail) == ("silent", "spend_cap_reached", detail)


def test_a_link_with_a_character_that_no_table_holds_is_decided_alike_once_it_is_stored() -> None:
    intent = an_intent(content={"kind": "image", "link": "https://acme.example/a\x00b.jpg"})
    decision = decide(intent, some_facts(), NOW)
    kept = record_of(Attempt(intent, 1, 7, some_facts()), decision, NOW)
    assert decide(*unpack(orjson.loads(kept.record))) == decision == Rejected("invalid_intent")
    assert kept.detail == "content.link: format"


def test_the_calendars_ends_do_not_stop_anything() -> None:
    intent = an_intent(created_at="0001-01-01T00:00:00+14:00", expires_at="9999-12-31T23:59:59-14:00")
    [_, (_, command)] = published(intent, some_facts())
    assert (command.created_at.year, command.expires_at.year) == (1970, 9000)


def test_of_a_message_that_stays_anothers_nothing_but_the_decision_is_published() -> None:
    attempt = Attempt(an_intent(), 1, 1, some_facts(id_taken=True))
    row = record_of(attempt, decide(attempt.intent, attempt.facts, NOW), NOW)
    assert [record.topic.name for record in records_of(row._replace(seq=None), None)] == ["outbound.decisions.v1"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), st.booleans())
def test_a_text_is_stored_as_every_other_content(text: str, preview: bool) -> None:  # noqa: FBT001 -- a field
    intent = an_intent(content={"kind": "text", "text": text, "preview_url": preview})
    row = record_of(Attempt(intent, 1, 7, some_facts()), decide(intent, some_facts(), NOW), NOW)
    assert row.content is not None
    assert orjson.loads(row.content) == orjson.loads(stored(intent.content.model_dump_json(exclude_none=True)))


def test_a_message_keeps_what_it_quotes_unless_that_is_no_message_of_its_thread() -> None:
    intent = an_intent(reply_to=OTHER)
    for unknown, kept in ((False, str(OTHER)), (True, None)):
        facts = some_facts(reply_unknown=unknown)
        assert record_of(Attempt(intent, 1, 7, facts), decide(intent, facts, NOW), NOW).reply_to == kept
