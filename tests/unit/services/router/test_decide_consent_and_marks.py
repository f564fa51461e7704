"""Consents and marks, where two rows of the decision table meet."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from libs.common.events.content import TemplateFields
from services.router.decide import Bridge, Decision, Silent, Template, decide
from tests.unit.services.router.builders import (
    BRIDGE,
    CAR_READY,
    DAY,
    FALLBACK,
    MARKED,
    NOW,
    TEMPLATE,
    an_intent,
    closed_facts,
    some_facts,
)

STAFF = {"kind": "staff", "user_id": "u1", "capabilities": ["messages.send"]}
MARKETING = replace(CAR_READY, category="MARKETING")
AS_FALLBACK = Template(TemplateFields.model_validate(FALLBACK), "fallback_template")


def test_a_template_goes_again_once_the_mark_on_the_address_is_over() -> None:
    since = MARKED | {"first_decided_at": NOW - timedelta(hours=2), "refusals": ("unreachable",)}
    assert isinstance(decide(an_intent(content=TEMPLATE), some_facts(**since | {"marked_until": NOW}), NOW), Template)


def test_a_marketing_template_goes_to_whoever_consents_to_marketing() -> None:
    marketing = some_facts(template=MARKETING, marketing_consent=True)
    assert isinstance(decide(an_intent(content=TEMPLATE), marketing, NOW), Template)
    assert isinstance(decide(an_intent(content=TEMPLATE, purpose="marketing"), marketing, NOW), Template)


def test_no_open_window_reaches_a_customer_who_has_switched_whatsapp_off() -> None:
    asked = an_intent(content=BRIDGE, actor=STAFF)
    assert decide(asked, some_facts(whatsapp_consent=False), NOW) == Silent("whatsapp_consent_off")


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        ({"template": MARKETING}, Bridge()),
        ({"template": MARKETING, "marketing_limited_until": NOW}, AS_FALLBACK),
        ({"template": CAR_READY}, AS_FALLBACK),
    ],
    ids=["limited", "limited until now", "another category"],
)
def test_a_limit_on_marketing_holds_a_fallback_of_that_category_back(facts: dict[str, Any], decision: Decision) -> None:
    limited = {"marketing_consent": True, "marketing_limited_until": NOW + DAY} | facts
    assert decide(an_intent(fallback_template=FALLBACK), closed_facts(**limited), NOW) == decision


def test_a_template_of_marketing_that_is_asked_for_goes_in_spite_of_the_limit() -> None:
    limited = some_facts(template=MARKETING, marketing_consent=True, marketing_limited_until=NOW + DAY)
    assert isinstance(decide(an_intent(content=TEMPLATE), limited, NOW), Template)
