"""Consents and marks, where two rows of the decision table meet."""

from dataclasses import replace
from datetime import timedelta

from services.router.decide import Silent, Template, decide
from tests.unit.services.router.builders import BRIDGE, CAR_READY, MARKED, NOW, TEMPLATE, an_intent, some_facts

STAFF = {"kind": "staff", "user_id": "u1", "capabilities": ["messages.send"]}


def test_a_template_goes_again_once_the_mark_on_the_address_is_over() -> None:
    since = MARKED | {"first_decided_at": NOW - timedelta(hours=2), "refusals": ("unreachable",)}
    assert isinstance(decide(an_intent(content=TEMPLATE), some_facts(**since | {"marked_until": NOW}), NOW), Template)


def test_a_marketing_template_goes_to_whoever_consents_to_marketing() -> None:
    marketing = some_facts(template=replace(CAR_READY, category="MARKETING"), marketing_consent=True)
    assert isinstance(decide(an_intent(content=TEMPLATE), marketing, NOW), Template)
    assert isinstance(decide(an_intent(content=TEMPLATE, purpose="marketing"), marketing, NOW), Template)


def test_no_open_window_reaches_a_customer_who_has_switched_whatsapp_off() -> None:
    asked = an_intent(content=BRIDGE, actor=STAFF)
    assert decide(asked, some_facts(whatsapp_consent=False), NOW) == Silent("whatsapp_consent_off")
