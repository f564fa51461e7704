"""A decision can be taken again from what was recorded, also by another release."""

from dataclasses import replace
from datetime import datetime

import orjson
from hypothesis import given

from libs.common.events.intents import BadIntent, Intent
from services.router.decide import Bridge, Template, decide
from services.router.facts import Facts, facts_from_json, facts_to_json
from services.router.recorded_decision import pack, unpack
from tests.unit.services.router.builders import (
    CAR_READY,
    FACTS,
    INSTANTS,
    INTENTS,
    NOW,
    PICTURE,
    SUFFIX,
    TEMPLATE,
    an_intent,
    closed_facts,
    some_facts,
)


@given(INTENTS, FACTS, INSTANTS)
def test_a_decision_can_be_taken_again_from_its_record_alone(
    intent: Intent | BadIntent, facts: Facts, now: datetime
) -> None:
    record = orjson.loads(pack(intent, facts, now))
    again_intent, again_facts, again_now = unpack(record)
    assert again_now == now
    assert again_facts == facts
    assert decide(again_intent, again_facts, again_now) == decide(intent, facts, now)
    assert orjson.loads(pack(again_intent, again_facts, again_now)) == record


@given(FACTS)
def test_facts_survive_json(facts: Facts) -> None:
    assert facts_from_json(orjson.loads(orjson.dumps(facts_to_json(facts)))) == facts


def test_facts_of_releases_before_countries_and_caps_decide_as_they_did() -> None:
    """They have neither: an SMS to any country that the customer wrote from, and to what looks like a landline."""
    for phone in ("+353851234567", "+442071838750"):
        old = facts_to_json(closed_facts(phone=phone))
        assert not [name for name in old if name.startswith("sms_") and name not in ("sms_number", "sms_active")]
        assert decide(an_intent(), facts_from_json(old), NOW) == Bridge()


def test_facts_of_releases_before_header_and_buttons_decide_as_they_did() -> None:
    """They name the body alone: whatever was given beside it went to Meta."""
    old = facts_to_json(some_facts())
    assert "template_parts" not in old
    intent = an_intent(content=TEMPLATE | {"header": PICTURE, "buttons": [SUFFIX]})
    assert isinstance(decide(intent, facts_from_json(old), NOW), Template)


def test_an_older_release_reads_the_template_of_newer_facts() -> None:
    newer = facts_to_json(some_facts(template=replace(CAR_READY, header="null", buttons="null")))
    assert len(newer["template"]) == 4
