"""Why a record cannot be understood, in one word."""

import pytest

from libs.common.errors import Undecodable
from libs.common.events.base import Event
from libs.common.events.directory import decode_directory_change
from libs.common.events.inbound import TwilioStatusWebhook
from libs.common.events.intents import BadIntent, decode_intent
from libs.common.events.outbound import OutboundRefused, SmsCommand, WhatsappCommand


@pytest.mark.parametrize("event", [OutboundRefused, SmsCommand, WhatsappCommand])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xff", "not_utf8"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"type": "outbound.nonsense.v9"}', "unknown_type"),
        (b"{}", "bad_fields"),
    ],
)
def test_a_record_of_another_kind_is_told_from_one_with_bad_fields(
    event: type[Event], value: bytes | None, reason: str
) -> None:
    with pytest.raises(Undecodable) as found:
        event.decode(value)
    assert found.value.reason == reason


@pytest.mark.parametrize("number", [b"1" * 30, b"[" * 100 + b"]" * 100])
def test_a_policy_that_cannot_be_stored_is_a_dead_letter(number: bytes) -> None:
    told = b'{"type": "org.upserted.v1", "org_id": "a", "at": "2026-11-22T10:00:00Z", "name": "A", "policy": {"n": %s}}'
    with pytest.raises(Undecodable) as found:
        decode_directory_change(told % number)
    assert (found.value.reason, found.value.detail[:24]) == ("bad_fields", "org.upserted.v1.policy: ")


def test_a_fault_names_declared_fields_and_no_key_of_the_payload() -> None:
    with pytest.raises(Undecodable) as found:
        TwilioStatusWebhook.decode(b'{"received_at": "2026-11-22T10:00:00Z", "form": {"Hello Bob": 5, "type": 5}}')
    assert found.value.detail == "form: Input should be a valid string; form.type: Input should be a valid string"
    with pytest.raises(Undecodable) as found:
        decode_directory_change(b'{"type": "customer.upserted.v1", "org_id": "a", "at": 1, "customer_id": 5}')
    assert found.value.detail.startswith("customer.upserted.v1.customer_id: ")


def test_a_fault_inside_a_messages_content_is_named_down_to_its_field() -> None:
    found = decode_intent(
        b'{"type": "outbound.intent.v1", "intent_id": "0193a000-0000-7000-8000-000000000001", "org_id": "a", '
        b'"conversation_id": "0193a000-0000-7000-8000-000000000002", "actor": {"kind": "ai"}, "created_at": "2026-11-22T10:00:00Z", '
        b'"content": {"kind": "template", "name": "n", "language": "en", "parameters": {"Hello Bob": 5}, "buttons": [{}, 5]}}'
    )
    assert isinstance(found, BadIntent)
    assert "Bob" not in found.detail
    assert "content.template.parameters: " in found.detail
    assert "content.template.buttons.1: " in found.detail
