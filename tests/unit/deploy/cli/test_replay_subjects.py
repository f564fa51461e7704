"""Which rows a record is about, by its keys."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from deploy.cli.replay.subjects import Subjects
from libs.common.ids import bridge_message_id
from tests.support.sandbox import ROOT

EXAMPLES = sorted((ROOT / "libs/common/events/examples").glob("*.json"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_every_event_is_about_something(example: Path) -> None:
    found = Subjects.of([json.loads(example.read_text())])
    assert any((found.messages, found.provider_ids, found.conversations, found.orgs, found.numbers, found.customers))


def test_a_message_is_found_by_who_wrote_and_a_status_by_the_providers_id() -> None:
    webhook = {
        "type": "webhook.meta.v1",
        "phone_number_id": "106",
        "item": {"id": "wamid.1", "from": "4477"},
        "contact": {"user_id": "GB.1"},
    }
    found = Subjects.of([webhook])
    assert found.provider_ids == {("meta", "106", "wamid.1")}
    assert found.writers == {("106", "wa_id", "4477"), ("106", "bsuid", "GB.1")}
    form = {"MessageSid": "SM1", "AccountSid": "AC1", "From": "+441", "To": "+442"}
    status = Subjects.of([{"type": "webhook.twilio_status.v1", "form": form}])
    assert (status.provider_ids, status.writers) == ({("twilio", "AC1", "SM1")}, set())
    sms = Subjects.of([{"type": "webhook.twilio_sms.v1", "form": form}])
    assert (sms.provider_ids, sms.writers) == ({("twilio", "+442", "SM1")}, {("+442", "phone", "+441")})


def test_an_echo_is_found_by_its_id() -> None:
    item = {"message_echoes": [{"id": "wamid.1", "to": "4477"}, {"id": 1}, None], "metadata": {}}
    found = Subjects.of([{"type": "webhook.meta.v1", "waba_id": "206", "phone_number_id": "106", "item": item}])
    assert found == Subjects(provider_ids={("meta", "106", "wamid.1")})


def test_a_template_is_found_by_its_account_name_and_language() -> None:
    item = {"message_template_name": "reminder", "message_template_language": "en_GB", "event": "APPROVED"}
    found = Subjects.of([{"type": "webhook.meta.v1", "waba_id": "206", "phone_number_id": None, "item": item}])
    assert found.templates == {("206", "reminder", "en_GB")}


def test_an_intent_is_about_its_message_and_the_bridge_that_may_stand_in_for_it() -> None:
    intent_id = "01932f70-11aa-7d2e-8f00-3b7c5d9e1a01"
    found = Subjects.of([{"org_id": "acme", "intent_id": intent_id}])
    assert found.messages == {("acme", UUID(intent_id)), ("acme", bridge_message_id(UUID(intent_id)))}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {},
        {"org_id": 7, "intent_id": "x"},
        {"org_id": "acme", "intent_id": 7, "message_ids": [7, None, "x"], "conversation_id": {}},
        {"type": "webhook.meta.v1", "phone_number_id": "106", "item": {"id": 7}},
        {"type": "webhook.meta.v1", "phone_number_id": "106", "item": [1], "contact": "x"},
        {"type": "webhook.twilio_sms.v1", "form": {"MessageSid": 7}},
    ],
)
def test_what_cannot_be_read_is_about_nothing(value: object) -> None:
    assert Subjects.of([value]) == Subjects()
