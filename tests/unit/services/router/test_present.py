"""What is recorded, and what is told of it."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings

from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision, SmsCommand, WhatsappCommand
from libs.common.events.topics import OUTBOUND_SMS, OUTBOUND_WHATSAPP
from services.router.decide import Bridge, Rejected, Session, Silent, Template, decide
from services.router.facts import Facts
from services.router.outcome import Case, outcome
from services.router.placeholders import fits
from services.router.present import just_recorded, present
from tests.support.examples import examples
from tests.unit.services.router.builders import FACTS, INTENTS, NOW, an_intent, some_facts

EVENTS: dict[str, Any] = {e.TYPE: e for e in (OutboundDecision, WhatsappCommand, SmsCommand, DeliveryUpdate)}


def said(value: bytes) -> dict[str, Any]:
    """An event's fields; one that is null may as well be missing."""
    return {name: field for name, field in orjson.loads(value).items() if field is not None}


def told(case: Case) -> list[tuple[str, Any]]:
    row = outcome(case, decide(case.intent, case.facts, NOW), NOW)
    seq = 0 if row.status == "pending" else 1
    found = []
    for topic, _, value in present(just_recorded(row, seq, NOW)):
        event = EVENTS[orjson.loads(value)["type"]].decode(value)
        assert said(event.encode()) == said(value)
        found.append((topic.name, event))
    return found


@given(INTENTS, FACTS.filter(lambda facts: facts.conversation_id is not None and facts.phone is not None))
@settings(max_examples=examples(300))
def test_everything_told_is_an_event_of_the_contract_and_the_intent_ends_or_is_commanded(
    intent: Intent | BadIntent, facts: Facts
) -> None:
    events = told(Case(intent, facts, 1, 7))
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
        case Silent(reason="intent_expired" | "whatsapp_consent_off") | Rejected():
            assert (second.status, second.reason) == ("failed", decision.reason)
        case Silent():
            why = "whatsapp_unreachable" if facts.open(NOW) and facts.unreachable(NOW) else "window_expired"
            assert (second.status, second.reason) == ("failed", f"{why}_{decision.reason}")


def test_whatsapp_is_addressed_by_what_meta_knows_and_by_the_phone_otherwise() -> None:
    [_, (_, known)] = told(Case(an_intent(), some_facts(wa_id="5511999999999", bsuid="BR.1"), 1, 1))
    [_, (_, unknown)] = told(Case(an_intent(), some_facts(wa_id=None), 1, 1))
    assert (known.to, known.recipient) == ("+5511999999999", "BR.1")
    assert (unknown.to, unknown.recipient) == ("+447700900999", None)


def test_the_calendars_ends_do_not_stop_anything() -> None:
    intent = an_intent(created_at="0001-01-01T00:00:00+14:00", expires_at="9999-12-31T23:59:59-14:00")
    [_, (_, command)] = told(Case(intent, some_facts(), 1, 1))
    assert (command.created_at.year, command.expires_at.year) == (1, 9999)


def test_a_message_that_stays_anothers_is_not_told_of() -> None:
    case = Case(an_intent(), some_facts(id_taken=True), 1, 1)
    row = outcome(case, decide(case.intent, case.facts, NOW), NOW)
    assert [topic.name for topic, _, _ in present(just_recorded(row, None, NOW))] == ["outbound.decisions.v1"]


FITS: list[tuple[str, str, Any, bool]] = [
    ("Hi {{1}}, {{2}}.", "POSITIONAL", ["a", "b"], True),
    ("Hi {{2}}, {{1}}, {{1}}.", "POSITIONAL", ["a", "b"], True),
    ("Hi {{1}}.", "POSITIONAL", ["a", "b"], False),
    ("Hi {{1}}, {{2}}.", "POSITIONAL", ["a"], False),
    ("Hi {{1}}.", "POSITIONAL", {"1": "a"}, False),
    ("Hi {{name}}.", "NAMED", ["a"], False),
    ("Hi {{name}}.", "NAMED", {"name": "a", "other": "b"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a    b"}, True),
    ("Hi {{name}}.", "NAMED", {"name": "a     b"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a\tb"}, False),
    ("Hi {{name}}.", "NAMED", {"name": " "}, False),
    ("Hi.", "NAMED", [], True),
    ("Hi.", "POSITIONAL", {}, True),
    ("Hi.", "NAMED", {"name": "a"}, False),
]


@pytest.mark.parametrize(("body", "parameter_format", "parameters", "expected"), FITS)
def test_parameters_fit_a_body_or_not(body: str, parameter_format: str, parameters: Any, expected: bool) -> None:  # noqa: FBT001 -- the expectation
    assert fits(body, parameter_format, parameters) is expected
