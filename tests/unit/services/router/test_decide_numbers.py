"""Decisions on conversations without a WhatsApp number, and on phones that are an organisation's own."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from services.router.decide import Bridge, Rejected, Session, Silent, decide
from services.router.facts import Facts, facts_from_json, facts_to_json
from tests.unit.services.router.builders import an_intent

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SILENT_FOR = timedelta(hours=30)


def facts(**changes: object) -> Facts:
    """A customer who wrote by SMS to an organisation without a WhatsApp number."""
    fields: dict[str, object] = {
        "window_length": timedelta(hours=24),
        "margin": timedelta(0),
        "org_name": "Acme",
        "sms_number": "+447700900001",
        "sms_active": True,
        "portal_host": "tflow.link",
        "conversation_id": uuid4(),
        "without_number": True,
        "customer_id": uuid4(),
        "phone": "+447700900999",
        "last_inbound_channel": "sms",
        "last_inbound_at": NOW,
        "contacted": True,
    }
    return Facts(**(fields | changes))  # type: ignore[arg-type]  # as a test names them


def test_an_sms_is_answered_by_sms_where_there_is_no_whatsapp_number() -> None:
    assert decide(an_intent(), facts(), NOW) == Session("sms", "live_channel")


def test_later_it_is_a_bridge_to_the_portal() -> None:
    assert decide(an_intent(), facts(last_inbound_at=NOW - SILENT_FOR), NOW) == Bridge("window_expired")


def test_a_number_that_is_not_the_organisations_is_still_unknown() -> None:
    assert decide(an_intent(), facts(without_number=False), NOW) == Rejected("unknown_conversation")


@pytest.mark.parametrize("channel", ["auto", "sms"])
def test_no_sms_answers_another_organisations_number(channel: str) -> None:
    assert decide(an_intent(channel=channel), facts(phone_of_organisation=True), NOW) == Silent("no_phone")


def test_the_new_facts_survive_their_record() -> None:
    found = facts(phone_of_organisation=True)
    assert facts_from_json(facts_to_json(found)) == found
