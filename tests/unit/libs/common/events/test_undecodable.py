"""Why a record cannot be understood, in one word."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from libs.common.errors import Undecodable
from libs.common.events.base import Event, named_type
from libs.common.events.directory import decode_directory_change
from libs.common.events.inbound import TwilioStatusWebhook
from libs.common.events.intents import BadIntent, decode_intent
from libs.common.events.outbound import OutboundRefused, SmsCommand, WhatsappCommand
from services.whatsapp_sender.worker import decode_command
from tests.support.records import a_record


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


COMMAND: dict[str, Any] = {
    "type": "outbound.whatsapp.v1",
    "message_id": "0193a000-0000-7000-8000-000000000001",
    "attempt": 1,
    "org_id": "a",
    "conversation_id": "0193a000-0000-7000-8000-000000000002",
    "sequence": 1,
    "route": "session",
    "phone_number_id": "106400000000001",
    "to": "+447700900999",
    "content": {"kind": "text", "text": "Hello"},
    "created_at": "2026-11-22T10:00:00Z",
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"route": "carousel"}, "unknown_value"),
        ({"route": "carousel", "sequence": None}, "unknown_value"),
        ({"content": {"kind": "hologram", "depth": 3}}, "unknown_value"),
        ({"type": "outbound.whatsapp.v2"}, "unknown_type"),
        ({"route": 5}, "bad_fields"),
        ({"route": ""}, "bad_fields"),
        ({"content": {"kind": 5}}, "bad_fields"),
        ({"content": {}}, "bad_fields"),
        ({"sequence": "one"}, "bad_fields"),
    ],
)
def test_a_word_of_tomorrow_is_told_from_a_field_that_is_wrong(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Undecodable) as found:
        decode_command(a_record(orjson.dumps(COMMAND | change)))
    assert (found.value.reason, found.value.stops) == (reason, False)
    assert not {"carousel", "hologram"} & set(found.value.detail.split())


def test_fields_of_tomorrow_are_left_aside_and_fields_of_today_may_be_missing() -> None:
    told = decode_command(
        a_record(orjson.dumps(COMMAND | {"priority": "high", "content": COMMAND["content"] | {"x": 1}}))
    )
    assert (told.recipient, told.named, told.expires_at, told.not_before) == (None, False, None, None)


CONSENT = (
    b'{"type": "consent.changed.v1", "org_id": "a", "at": "2026-11-22T10:00:00Z", "allowed": true, "category": "sms",'
    b' "customer_id": "0193a000-0000-7000-8000-000000000001"}'
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"type": "consent.changed.v2"}', "unknown_type"),
        (CONSENT.replace(b"sms", b"rcs"), "unknown_value"),
    ],
)
def test_the_directory_of_tomorrow_is_parked(value: bytes, reason: str) -> None:
    with pytest.raises(Undecodable) as found:
        decode_directory_change(value)
    assert found.value.reason == reason


@pytest.mark.parametrize(
    ("type_", "named"),
    [
        ("outbound.whatsapp.v2", "outbound.whatsapp.v2"),
        ("org.credit.v17", "org.credit.v17"),
        ("+447700900123.v1", None),
        ("call 447700900123", None),
        ("a" * 200 + ".v1", None),
        (5, None),
        (None, None),
    ],
)
def test_only_what_is_formed_like_a_type_of_ours_is_named(type_: object, named: str | None) -> None:
    assert named_type({"type": type_}) == named


@pytest.mark.parametrize("number", [b"1" * 30, b"[" * 100 + b"]" * 100])
def test_a_policy_that_cannot_be_stored_is_a_dead_letter(number: bytes) -> None:
    told = b'{"type": "org.upserted.v1", "org_id": "a", "at": "2026-11-22T10:00:00Z", "name": "A", "policy": {"n": %s}}'
    with pytest.raises(Undecodable) as found:
        decode_directory_change(told % number)
    assert (found.value.reason, found.value.detail[:24]) == ("bad_fields", "org.upserted.v1.policy: ")


ORG = {"type": "org.upserted.v1", "org_id": "a", "at": "2026-11-22T10:00:00Z", "name": "A"}
KIM = {"type": "customer.upserted.v1", "org_id": "a", "at": "2026-11-22T10:00:00Z", "customer_id": str(UUID(int=1))}


@pytest.mark.parametrize(
    ("change", "field", "most", "beyond"),
    [
        (ORG, "name", "A" * 1_000, "A" * 1_001),
        (KIM, "name", "A" * 1_000, "A" * 1_001),
        (ORG, "policy", {"note": "x" * 16_000}, {"note": "x" * 17_000}),
    ],
)
def test_names_and_policies_have_an_end(change: dict[str, Any], field: str, most: Any, beyond: Any) -> None:
    """They are read with every message and stored with every decision of the organisation."""
    assert getattr(decode_directory_change(orjson.dumps(change | {field: most})), field) == most
    with pytest.raises(Undecodable) as found:
        decode_directory_change(orjson.dumps(change | {field: beyond}))
    assert (found.value.reason, found.value.detail.partition(":")[0]) == ("bad_fields", f"{change['type']}.{field}")


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
        b'"conversation_id": "0193a000-0000-7000-8000-000000000002", "actor": {"kind": "ai"}, "created_at":'
        b' "2026-11-22T10:00:00Z", '
        b'"content": {"kind": "template", "name": "n", "language": "en", "parameters": {"Hello Bob": 5},'
        b' "buttons": [{}, 5]}}'
    )
    assert isinstance(found, BadIntent)
    assert "Bob" not in found.detail
    assert "content.parameters: " in found.detail
    assert "content.buttons.1: " in found.detail


def test_null_stands_for_a_field_of_a_change_that_is_left_out() -> None:
    org = {"type": "org.upserted.v1", "org_id": "acme", "at": "2026-11-22T10:00:00Z", "name": "AcmeMotors"}
    nulls = dict.fromkeys(("sms_number", "sms_active", "sms_provider", "portal_host", "country", "sign_in", "policy"))
    assert decode_directory_change(orjson.dumps(org | nulls)) == decode_directory_change(orjson.dumps(org))
    unknown = {"type": "org.credit.v1", "org_id": "acme", "at": "2026-11-22T10:00:00Z", "exhausted": None}
    assert getattr(decode_directory_change(orjson.dumps(unknown)), "exhausted", True) is None
    with pytest.raises(Undecodable, match="name: Field required"):
        decode_directory_change(orjson.dumps(org | {"name": None, "policy": None}))
