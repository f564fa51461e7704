"""The decision table, and its laws for any intent with any facts."""

import inspect
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.intents import LINK_WANTED, BadIntent, Intent
from services.router import decide as decide_module
from services.router.decide import Bridge, Decision, Rejected, Session, Silent, Template, decide
from services.router.facts import Facts, TemplateFacts, facts_from_json, facts_to_json
from tests.support.examples import examples
from tests.unit.services.router.builders import (
    BRIDGE,
    CAPTIONED_AUDIO,
    CAR_READY,
    DAY,
    EMOJI,
    FACTS,
    FALLBACK,
    FOUR_SEGMENTS,
    IMAGE,
    INSTANTS,
    INTENT_ID,
    INTENTS,
    MARGIN,
    MARKED,
    NOW,
    OTHER,
    PICTURE,
    SUFFIX,
    TEMPLATE,
    THREE_SEGMENTS,
    TRACK_BUTTONS,
    a_bad_intent,
    a_first_contact,
    an_intent,
    closed_facts,
    some_facts,
)
from tests.unit.services.router.oracle import TABLE, verdict

NOWHERE: dict[str, Any] = {"phone": None, "wa_id": None, "bsuid": None}
OPEN = Session("whatsapp", "window_open")
HELD: dict[str, Any] = {"held_until": NOW + timedelta(minutes=1)}
NEVER_WROTE: dict[str, Any] = {"last_customer_at": None, "last_inbound_at": None}
_REPLY = {"type": "reply", "reply": {"id": "1", "title": "A title of 22 letters!"}}
INTERACTIVE = {
    "kind": "interactive",
    "interactive": {"type": "button", "body": {"text": "Shall we?"}, "action": {"buttons": [_REPLY]}},
}
STAFF = {"kind": "staff", "user_id": "u1", "capabilities": ["messages.send"]}
FOR_A_LINK = {"kind": "system", "capabilities": [LINK_WANTED]}


def decided(intent: Intent | BadIntent | None = None, facts: Facts | None = None, now: datetime = NOW) -> Decision:
    return decide(intent or an_intent(), facts or some_facts(), now)


CASES: list[tuple[str, Intent | BadIntent, Facts, Decision]] = [
    ("1 bad intent", a_bad_intent(), some_facts(), Rejected("invalid_intent")),
    ("1 unknown kind", a_bad_intent(reason="unsupported_content"), some_facts(), Rejected("unsupported_content")),
    ("1 unknown org", an_intent(), some_facts(org_name=None), Rejected("unknown_conversation")),
    ("1 unknown conversation", an_intent(), some_facts(conversation_id=None, phone_number_id=None),
     Rejected("unknown_conversation")),
    ("1 number of another tenant", a_first_contact(), some_facts(conversation_id=None, phone_number_id=None),
     Rejected("unknown_conversation")),
    ("1 no phone number", a_first_contact(to={"phone_number_id": "1", "phone": "7700"}), some_facts(),
     Rejected("invalid_intent")),
    ("1 a title that Meta refuses", an_intent(content=INTERACTIVE), some_facts(), Rejected("invalid_intent")),
    ("1 a caption that WhatsApp does not show", an_intent(content=CAPTIONED_AUDIO), some_facts(),
     Rejected("invalid_intent")),
    ("0 erased", an_intent(content=TEMPLATE, actor=STAFF), some_facts(erased=True), Rejected("customer_erased")),
    ("0", an_intent(content=IMAGE, channel="sms"), some_facts(erased=True, id_taken=True), Rejected("customer_erased")),
    ("1 id of another message", an_intent(), some_facts(id_taken=True), Rejected("invalid_intent")),
    ("1 picture by SMS", an_intent(content=IMAGE, channel="sms"), some_facts(), Rejected("unsupported_content")),
    ("2 staff without capability", an_intent(actor={"kind": "staff", "capabilities": ["messages.view"]}), some_facts(),
     Rejected("not_permitted")),
    ("2 star counts", an_intent(actor={"kind": "staff", "capabilities": ["*"]}), some_facts(), OPEN),
    ("3 expired this instant", an_intent(expires_at=NOW), some_facts(), Silent("intent_expired")),
    ("3 expires later", an_intent(expires_at=NOW + timedelta(microseconds=1)), some_facts(), OPEN),
    ("1 reply to a message of no such thread", an_intent(reply_to=OTHER), some_facts(reply_unknown=True),
     Rejected("invalid_intent")),
    ("1 … the conversation itself is unknown", an_intent(reply_to=OTHER),
     some_facts(conversation_id=None, phone_number_id=None, reply_unknown=True), Rejected("unknown_conversation")),
    ("1 reply to a message of the thread", an_intent(reply_to=OTHER), some_facts(quoted="wamid.1"), OPEN),
    ("3b staff hold the conversation", an_intent(), some_facts(**HELD), Silent("conversation_held")),
    ("3b not until its end", an_intent(), some_facts(held_until=NOW), OPEN),
    ("3b not for staff", an_intent(actor=STAFF), some_facts(**HELD), OPEN),
    ("3b not for the system", an_intent(actor={"kind": "system"}), some_facts(**HELD), OPEN),
    ("3b not for a template of the AI either", an_intent(content=TEMPLATE), some_facts(**HELD),
     Silent("conversation_held")),
    ("3b before the live channel", an_intent(),
     closed_facts(**HELD, last_inbound_channel="portal", last_inbound_at=NOW), Silent("conversation_held")),
    ("3 before 3b", an_intent(expires_at=NOW), some_facts(**HELD), Silent("intent_expired")),
    ("4 header is missing", an_intent(content=TEMPLATE),
     some_facts(template=replace(CAR_READY, header='{"format": "IMAGE"}', buttons="null")),
     Rejected("template_parameters")),
    ("4 button is missing", an_intent(content=TEMPLATE),
     some_facts(template=replace(CAR_READY, header="null", buttons=TRACK_BUTTONS)), Rejected("template_parameters")),
    ("4 a header that the template has not", an_intent(content=TEMPLATE | {"header": PICTURE}),
     some_facts(template=replace(CAR_READY, header="null", buttons="null")), Rejected("template_parameters")),
    ("6 with header and button",
     an_intent(content=TEMPLATE | {"header": PICTURE, "buttons": [SUFFIX]}),
     some_facts(template=replace(CAR_READY, header='{"format": "IMAGE"}', buttons=TRACK_BUTTONS)),
     Template(an_intent(content=TEMPLATE | {"header": PICTURE, "buttons": [SUFFIX]}).content,  # type: ignore[arg-type]  # an OutTemplate
              "template_requested")),
    ("5 transactional off", an_intent(content=TEMPLATE, purpose="transactional"),
     some_facts(transactional_consent=False), Rejected("transactional_consent_off")),
    ("5 service reminders off", an_intent(content=TEMPLATE, purpose="service_reminders"),
     some_facts(service_reminders_consent=False), Rejected("service_reminders_consent_off")),
    ("5 marketing off, though a utility template", an_intent(content=TEMPLATE, purpose="marketing"), some_facts(),
     Rejected("marketing_consent_off")),
    ("5 WhatsApp off before any purpose", an_intent(content=TEMPLATE, purpose="transactional"),
     some_facts(whatsapp_consent=False, transactional_consent=False), Rejected("whatsapp_consent_off")),
    ("6 off for another purpose", an_intent(content=TEMPLATE, purpose="transactional"),
     some_facts(service_reminders_consent=False),
     Template(an_intent(content=TEMPLATE).content, "template_requested")),  # type: ignore[arg-type]  # an OutTemplate
    ("8 a purpose is of templates alone", an_intent(purpose="transactional"), some_facts(transactional_consent=False),
     OPEN),
    ("11 a fallback is held against the purpose", an_intent(fallback_template=FALLBACK, purpose="service_reminders"),
     closed_facts(service_reminders_consent=False), Bridge()),
    ("4 unknown template", an_intent(content=TEMPLATE), some_facts(template=None), Rejected("template_not_approved")),
    ("4 paused template", an_intent(content=TEMPLATE),
     some_facts(template=TemplateFacts("PAUSED", "UTILITY", "NAMED", "Hi.")), Rejected("template_not_approved")),
    ("4 missing parameter", an_intent(content=TEMPLATE | {"parameters": {}}), some_facts(),
     Rejected("template_parameters")),
    ("5 WhatsApp off", an_intent(content=TEMPLATE), some_facts(whatsapp_consent=False),
     Rejected("whatsapp_consent_off")),
    ("5 marketing off", an_intent(content=TEMPLATE),
     some_facts(template=TemplateFacts("APPROVED", "MARKETING", "NAMED", CAR_READY.body)),
     Rejected("marketing_consent_off")),
    ("7 SMS asked for", an_intent(channel="sms"), closed_facts(), Session("sms", "live_channel")),
    ("7 portal asked for", an_intent(channel="portal", content=IMAGE), closed_facts(phone=None),
     Session("portal", "live_channel")),
    ("7 customer lives on SMS", an_intent(),
     closed_facts(last_inbound_channel="sms", last_inbound_at=NOW - DAY + timedelta(seconds=1)),
     Session("sms", "live_channel")),
    ("7 … not any more", an_intent(), closed_facts(last_inbound_channel="sms", last_inbound_at=NOW - DAY), Bridge()),
    ("7 WhatsApp asked for", an_intent(channel="whatsapp"), some_facts(last_inbound_channel="sms"), OPEN),
    ("7 picture to one on SMS", an_intent(content=IMAGE), some_facts(last_inbound_channel="sms"), OPEN),
    ("1b SMS of four segments", an_intent(channel="sms", content=FOUR_SEGMENTS), some_facts(),
     Rejected("unsupported_content")),
    ("1 before 1b", an_intent(channel="sms", content=FOUR_SEGMENTS),
     some_facts(conversation_id=None, phone_number_id=None), Rejected("unknown_conversation")),
    ("1b SMS of four Unicode segments", an_intent(channel="sms", content=EMOJI), some_facts(),
     Rejected("unsupported_content")),
    ("1b not where WhatsApp carries it", an_intent(content=FOUR_SEGMENTS), some_facts(), OPEN),
    ("7 SMS of three segments", an_intent(channel="sms", content=THREE_SEGMENTS), some_facts(),
     Session("sms", "live_channel")),
    ("7 four segments to one on SMS", an_intent(content=FOUR_SEGMENTS),
     closed_facts(last_inbound_channel="sms", last_inbound_at=NOW), Bridge()),
    ("7b SMS to one who never wrote", an_intent(channel="sms"), closed_facts(**NEVER_WROTE), Silent("never_contacted")),
    ("7b SMS to a stranger", a_first_contact(channel="sms"), closed_facts(conversation_id=None, **NEVER_WROTE),
     Silent("never_contacted")),
    ("7 SMS to one who consented", an_intent(channel="sms"), closed_facts(**NEVER_WROTE, sms_explicit=True),
     Session("sms", "live_channel")),
    ("7b SMS asked for, opted out", an_intent(channel="sms"), some_facts(sms_consent=False), Silent("sms_opted_out")),
    ("7b SMS asked for, none active", an_intent(channel="sms"), some_facts(sms_active=False),
     Silent("sms_unavailable")),
    ("1b a bridge asked for by another system", an_intent(content=BRIDGE, actor={"kind": "system"}), closed_facts(),
     Rejected("unsupported_content")),
    ("1b a bridge asked for by an AI with the portal's capability",
     an_intent(content=BRIDGE, actor=FOR_A_LINK | {"kind": "ai"}), closed_facts(), Rejected("unsupported_content")),
    ("3c asked by staff", an_intent(content=BRIDGE, actor=STAFF), closed_facts(), Bridge()),
    ("3c asked for a customer", an_intent(content=BRIDGE, actor=FOR_A_LINK),
     closed_facts(credit_exhausted=True), Bridge()),
    ("3c to one who lives in the portal", an_intent(content=BRIDGE, actor=FOR_A_LINK),
     closed_facts(last_inbound_channel="portal", last_inbound_at=NOW), Bridge()),
    ("3c window open", an_intent(content=BRIDGE, actor=STAFF), some_facts(), Rejected("window_open")),
    ("3c window open, marked", an_intent(content=BRIDGE, actor=STAFF), some_facts(**MARKED),
     Bridge("whatsapp_unreachable")),
    ("3c opted out", an_intent(content=BRIDGE, actor=STAFF), closed_facts(sms_consent=False), Silent("sms_opted_out")),
    ("3c WhatsApp off", an_intent(content=BRIDGE, actor=STAFF), closed_facts(whatsapp_consent=False),
     Silent("whatsapp_consent_off")),
    ("3c slot held", an_intent(content=BRIDGE, actor=STAFF), closed_facts(slot_holder=OTHER),
     Silent("bridge_already_sent", OTHER)),
    ("1b bridge by AI", an_intent(content=BRIDGE), closed_facts(), Rejected("unsupported_content")),
    ("7 unread in the portal", an_intent(),
     closed_facts(last_inbound_channel="portal", last_inbound_at=NOW, refusals=("portal_unread",)), Bridge()),
    ("7 unread where it was asked for", an_intent(channel="portal"), some_facts(refusals=("portal_unread",)), OPEN),
    ("7 … and the customer is on SMS now", an_intent(),
     closed_facts(last_inbound_channel="sms", last_inbound_at=NOW, refusals=("portal_unread",)),
     Session("sms", "live_channel")),
    ("9 WhatsApp off", an_intent(), some_facts(whatsapp_consent=False), Silent("whatsapp_consent_off")),
    ("8 refused by Meta since", an_intent(), some_facts(last_refused_at=NOW - timedelta(minutes=50)), Bridge()),
    ("8 refused by Meta before", an_intent(), some_facts(last_refused_at=NOW - timedelta(hours=2)), OPEN),
    ("5b", an_intent(content=TEMPLATE), some_facts(**MARKED, first_decided_at=NOW - timedelta(hours=2)),
     Rejected("whatsapp_unreachable")),
    ("4 before 5b", an_intent(content=TEMPLATE), some_facts(**NOWHERE, template=None),
     Rejected("template_not_approved")),
    ("5 before 5b", an_intent(content=TEMPLATE), some_facts(**NOWHERE, whatsapp_consent=False),
     Rejected("whatsapp_consent_off")),
    ("6 marked before", an_intent(content=TEMPLATE), some_facts(**MARKED, first_decided_at=NOW),
     Template(an_intent(content=TEMPLATE).content, "template_requested")),  # type: ignore[arg-type]  # an OutTemplate
    ("8 marked", an_intent(), some_facts(**MARKED), Bridge("whatsapp_unreachable")),
    ("8 mark is over", an_intent(), some_facts(marked_at=NOW - DAY, marked_until=NOW), OPEN),
    ("8 doubt that outlives the window", an_intent(),
     some_facts(window_length=timedelta(seconds=70), last_customer_at=NOW - timedelta(minutes=1),
                last_refused_at=NOW, refusals=("window_closed",)),
     Bridge()),
    ("11 marked", an_intent(fallback_template=FALLBACK), closed_facts(**MARKED), Bridge()),
    ("11 failed twice as this template", an_intent(fallback_template=FALLBACK),
     closed_facts(refusals=("transient", "transient")), Bridge()),
    ("11 refused as this template", an_intent(fallback_template=FALLBACK), closed_facts(refusals=("template_refused",)),
     Bridge()),
    ("8 refused in doubt", an_intent(),
     some_facts(last_customer_at=NOW - timedelta(minutes=6), last_refused_at=NOW - timedelta(minutes=1)), OPEN),
    ("8 refused twice", an_intent(),
     some_facts(last_customer_at=NOW - timedelta(minutes=6), first_refused_at=NOW - timedelta(minutes=2),
                last_refused_at=NOW - timedelta(minutes=1)), Bridge()),
    ("10 credit exhausted", an_intent(), closed_facts(credit_exhausted=True), Silent("credit_exhausted")),
    ("10 not for staff", an_intent(actor=STAFF), closed_facts(credit_exhausted=True), Bridge()),
    ("10 not while open", an_intent(), some_facts(credit_exhausted=True), OPEN),
    ("11 fallback not usable", an_intent(fallback_template=FALLBACK), closed_facts(template=None), Bridge()),
    ("5b no address", an_intent(content=TEMPLATE), some_facts(**NOWHERE), Rejected("whatsapp_unreachable")),
    ("12 no address", an_intent(), some_facts(**NOWHERE), Silent("no_phone")),
    ("8 a user id is an address", an_intent(), some_facts(**NOWHERE | {"bsuid": "GB.1"}), OPEN),
    ("12 no phone", an_intent(), closed_facts(phone=None), Silent("no_phone")),
    ("12 marked phone", an_intent(), closed_facts(no_phone_until=NOW + DAY), Silent("no_phone")),
    ("12 a mark that is over", an_intent(), closed_facts(no_phone_until=NOW), Bridge()),
    ("12 stopped", an_intent(), closed_facts(sms_stopped_until=NOW + DAY), Silent("sms_opted_out")),
    ("12 a satellite", an_intent(), closed_facts(phone="+88213000001"), Silent("country_not_allowed")),
    ("12 a premium number", an_intent(), closed_facts(phone="+449098790000"), Silent("country_not_allowed")),
    ("12 a number that forwards", an_intent(), closed_facts(phone="+447012345678"), Silent("country_not_allowed")),
    ("12 a pager", an_intent(), closed_facts(phone="+447640123456"), Silent("country_not_allowed")),
    ("12 wrote to another number", an_intent(), closed_facts(**NEVER_WROTE, contacted=True), Bridge()),
    ("12 consented to SMS", an_intent(), closed_facts(**NEVER_WROTE, sms_explicit=True), Bridge()),
    ("12 opted out", an_intent(), closed_facts(sms_consent=False), Silent("sms_opted_out")),
    ("12 unavailable", an_intent(), closed_facts(sms_number=None), Silent("sms_unavailable")),
    ("12 never contacted", an_intent(), closed_facts(**NEVER_WROTE), Silent("never_contacted")),
    ("13 slot held", an_intent(), closed_facts(slot_holder=OTHER), Silent("bridge_already_sent", OTHER)),
    ("13 by ourselves", an_intent(), closed_facts(slot_holder=INTENT_ID), Bridge()),
    ("14", an_intent(), closed_facts(), Bridge()),
]  # fmt: skip


@pytest.mark.parametrize(("intent", "facts", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_table(intent: Intent | BadIntent, facts: Facts, expected: Decision) -> None:
    assert decide(intent, facts, NOW) == expected


def test_a_requested_template_travels_as_it_was_asked_for() -> None:
    intent = an_intent(content=TEMPLATE)
    assert decided(intent, closed_facts()) == Template(intent.content, "template_requested")  # type: ignore[arg-type]  # it is one


def test_a_usable_fallback_goes_before_any_sms() -> None:
    intent = an_intent(fallback_template=FALLBACK)
    assert intent.fallback_template is not None
    assert decided(intent, closed_facts()) == Template(intent.fallback_template, "fallback_template")


@given(INTENTS, FACTS, INSTANTS)
@settings(max_examples=examples(600))
def test_the_first_row_that_matches_decides(intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
    _, (route, channel, reason) = verdict(intent, facts, now)
    decision = decide(intent, facts, now)
    assert (decision.route, decision.channel, decision.reason) == (route, channel, reason)


def test_the_oracle_knows_every_row_that_the_cases_meet() -> None:
    met = {verdict(intent, facts, NOW)[0] for _, intent, facts, _ in CASES} | {"6", "11"}
    assert met == {name for name, _, _ in TABLE}


@given(INTENTS, FACTS, INSTANTS)
def test_every_intent_gets_exactly_one_decision(intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
    decision = decide(intent, facts, now)
    assert sum(isinstance(decision, kind) for kind in get_args(Decision)) == 1


@given(st.timedeltas(timedelta(0), DAY - timedelta(microseconds=1)), st.timedeltas(-DAY, DAY))
def test_the_window_is_open_until_its_last_instant_less_the_margin(margin: timedelta, offset: timedelta) -> None:
    facts = some_facts(last_customer_at=NOW, last_inbound_at=NOW - 9 * DAY, margin=margin)
    now = NOW + DAY - margin + offset
    is_open = isinstance(decided(facts=facts, now=now), Session)
    assert is_open == (offset < timedelta(0))


def test_at_exactly_24_hours_the_window_is_closed() -> None:
    facts = some_facts(last_customer_at=NOW - DAY, last_inbound_at=NOW - DAY, margin=timedelta(0))
    assert decided(facts=facts) == Bridge()
    assert decided(facts=facts, now=NOW - timedelta(microseconds=1)) == Session("whatsapp", "window_open")


def test_within_the_margin_the_window_counts_as_closed() -> None:
    assert decided(facts=some_facts(last_customer_at=NOW - DAY + MARGIN)) == Bridge()


@given(INTENTS, FACTS, INSTANTS)
def test_no_template_is_ever_a_session(intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
    if isinstance(intent, Intent) and intent.content.kind == "template":
        assert not isinstance(decide(intent, facts, now), Session | Bridge)


@given(INTENTS, FACTS, INSTANTS)
def test_staff_and_system_are_never_silenced_by_ai_credit(
    intent: Intent | BadIntent, facts: Facts, now: datetime
) -> None:
    decision = decide(intent, facts, now)
    if isinstance(decision, Silent) and decision.reason == "credit_exhausted":
        assert isinstance(intent, Intent)
        assert intent.actor.kind == "ai"


@given(INTENTS, FACTS, INSTANTS)
def test_an_unknown_credit_state_is_as_good_as_credit(intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
    unknown = {"credit_exhausted": None}
    assert decide(intent, changed(facts, unknown), now) == decide(
        intent, changed(facts, {"credit_exhausted": False}), now
    )


@given(INTENTS, FACTS, INSTANTS)
def test_no_sms_goes_to_whoever_opted_out_or_has_no_number(
    intent: Intent | BadIntent, facts: Facts, now: datetime
) -> None:
    decision = decide(intent, facts, now)
    if decision.channel == "sms":
        assert facts.sms_consent
        assert facts.phone is not None
        assert facts.no_phone_until is None or facts.no_phone_until <= now
        assert facts.sms_active


@given(INTENTS, FACTS, INSTANTS)
def test_no_sms_goes_to_whoever_never_wrote_and_has_not_consented(
    intent: Intent | BadIntent, facts: Facts, now: datetime
) -> None:
    never = {"contacted": False, "last_customer_at": None, "last_inbound_at": None, "sms_explicit": False}
    assert decide(intent, changed(facts, never), now).channel != "sms"


@given(
    INTENTS, FACTS, INSTANTS, st.sampled_from(["881", "882", "8835", "870", "878", "979", "800", "808", "888", "999"])
)
def test_no_sms_goes_to_a_number_of_no_country(
    intent: Intent | BadIntent, facts: Facts, now: datetime, code: str
) -> None:
    assert decide(intent, changed(facts, {"phone": f"+{code}12345678"}), now).channel != "sms"


@given(INTENTS, FACTS, INSTANTS)
def test_nothing_goes_on_whatsapp_without_consent(intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
    decision = decide(intent, changed(facts, {"whatsapp_consent": False}), now)
    assert decision.channel != "whatsapp"
    assert not isinstance(decision, Bridge)


@given(INTENTS, FACTS, INSTANTS)
def test_a_bridge_needs_a_customer_who_once_wrote_in_this_conversation(
    intent: Intent | BadIntent, facts: Facts, now: datetime
) -> None:
    if isinstance(decide(intent, facts, now), Bridge):
        assert facts.last_customer_at or facts.last_inbound_at


def changed(facts: Facts, changes: dict[str, Any]) -> Facts:
    return facts_from_json(facts_to_json(facts) | changes)


def test_the_window_told_is_the_one_that_was_judged() -> None:
    state = some_facts(last_customer_at=NOW - DAY + MARGIN).window_state(NOW)
    assert state == {"opened_at": NOW - DAY + MARGIN, "closes_at": NOW + MARGIN, "open": False}
    assert some_facts(conversation_id=None).window_state(NOW) is None


def test_the_rows_of_the_page_are_those_that_the_code_names() -> None:
    page = (Path(__file__).parents[4] / "docs/architecture/decision.md").read_text()
    comments = re.findall(r"  # (\d+[a-z]?(?:, \d+[a-z]?)*)$", inspect.getsource(decide_module), re.MULTILINE)
    named = {row for comment in comments for row in comment.split(", ")}
    assert named == set(re.findall(r"^\| (\d+[a-z]?) \|", page, re.MULTILINE))


@given(INTENTS, FACTS, INSTANTS)
def test_nothing_of_the_ai_goes_while_staff_hold_the_conversation(
    intent: Intent | BadIntent, facts: Facts, now: datetime
) -> None:
    held = facts._replace(held_until=now + timedelta(microseconds=1))
    if isinstance(intent, Intent) and intent.actor.kind == "ai":
        assert isinstance(decide(intent, held, now), Silent | Rejected)
    else:
        assert decide(intent, held, now) == decide(intent, facts._replace(held_until=None), now)


@given(INTENTS, FACTS, INSTANTS, st.sampled_from(["transactional", "service_reminders", "marketing"]))
def test_no_template_goes_for_a_purpose_that_the_customer_has_switched_off(
    intent: Intent | BadIntent, facts: Facts, now: datetime, purpose: str
) -> None:
    if isinstance(intent, Intent):
        asked = intent.model_copy(update={"purpose": purpose})
        off = changed(facts, {f"{purpose}_consent": False})
        assert not isinstance(decide(asked, off, now), Template)
