"""What ids may hold: ids of Meta become parts of addresses, ids of organisations stand in log lines and keys."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.common.errors import Undecodable
from libs.common.events import base
from libs.common.events.base import Event
from libs.common.events.directory import decode_directory_change
from libs.common.events.inbound import InboundMessage, TwilioSmsWebhook, VonageSmsWebhook, VonageStatusWebhook
from libs.common.events.intents import decode_intent
from libs.common.events.outbound import (
    DeliveryUpdate,
    OutboundDecision,
    OutboundRefused,
    SmsCommand,
    WhatsappCommand,
)
from services.ingest.parse import parse

NUMBER: dict[str, Any] = {
    "type": "number.upserted.v1",
    "org_id": "acme",
    "at": datetime(2026, 11, 22, tzinfo=UTC),
    "phone_number_id": "106400000000001",
    "waba_id": "206400000000001",
    "display_number": "+447700900123",
}
NO_DIGITS = (
    "106400000000001/../106400000000999",
    "me/accounts?fields=access_token&x=",
    "106400000000001%2Fmessages",
    "106400000000001\n",
    "\u0661\u0662\u0663\u0664\u0665\u0666",
    "1234",
    "1" * 21,
    "",
)
NO_ORGANISATIONS = (
    "",
    "acme\nbravo",
    "acme\x1b]0;x\x07",
    " acme",
    "acme motors",
    "[/x]",
    "-acme",
    "a" * 101,
    "\u202eacme",
    "acme\x00",
)


@pytest.mark.parametrize("bad", NO_DIGITS)
@pytest.mark.parametrize("field", ["phone_number_id", "waba_id"])
def test_an_id_of_meta_is_digits_and_nothing_else(field: str, bad: str) -> None:
    with pytest.raises(Undecodable) as refused:
        decode_directory_change(orjson.dumps(NUMBER | {field: bad}))
    assert refused.value.reason == "bad_fields"


@pytest.mark.parametrize("bad", NO_ORGANISATIONS)
def test_an_organisation_has_a_name_that_a_line_can_hold(bad: str) -> None:
    with pytest.raises(Undecodable):
        decode_directory_change(orjson.dumps(NUMBER | {"org_id": bad}))
    with pytest.raises(Undecodable):
        decode_intent(
            orjson.dumps(
                {"type": "outbound.intent.v1", "intent_id": "5f0c1f7e-7c5e-4c0e-9b0a-0d5f6a3b2c1d", "org_id": bad}
            )
        )


@pytest.mark.parametrize(
    "good", ["acme", "A", "7", "garage-12.uk:north_3", "5f0c1f7e-7c5e-4c0e-9b0a-0d5f6a3b2c1d", "a" * 100]
)
def test_the_usual_names_of_organisations_are_taken(good: str) -> None:
    assert decode_directory_change(orjson.dumps(NUMBER | {"org_id": good})).org_id == good


@pytest.mark.parametrize("at", ["9999-12-31T23:00:00-12:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_no_table_holds_is_a_fault_of_its_field(at: str) -> None:
    with pytest.raises(Undecodable) as refused:
        decode_directory_change(orjson.dumps(NUMBER | {"at": at}))
    assert (refused.value.reason, refused.value.stops) == ("bad_fields", False)
    webhook = {"type": "webhook.meta.v1", "item_kind": "message", "item": {}, "received_at": at}
    with pytest.raises(Undecodable) as refused:
        parse(orjson.dumps(webhook), reaction_opens=False)
    assert (refused.value.reason, refused.value.detail) == ("bad_fields", "received_at is no time with a zone")


EXAMPLES = Path(base.__file__).parent / "examples"
LATE, EARLY = "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"
IDS = ("", "acme\x00", "a" * 5_000)
COUNTS = (0, -1, 2**31, 2**63, 2**64, 10**40)
STRANGE: list[tuple[type[Event], str, tuple[object, ...]]] = [
    *((event, "org_id", IDS) for event in (WhatsappCommand, SmsCommand, OutboundRefused, DeliveryUpdate)),
    *((event, "org_id", IDS) for event in (OutboundDecision, InboundMessage)),
    *((event, "attempt", COUNTS) for event in (WhatsappCommand, SmsCommand, OutboundRefused, OutboundDecision)),
    *((event, "sequence", (-1, 2**63)) for event in (WhatsappCommand, SmsCommand)),
    *((event, name, (LATE, EARLY)) for event in (WhatsappCommand, SmsCommand) for name in ("created_at", "expires_at")),
    (WhatsappCommand, "not_before", (LATE, EARLY)),
    (SmsCommand, "from_number", ("4" * 5_000,)),
    (SmsCommand, "segments", (-1, 2**31)),
    (OutboundRefused, "at", (LATE, EARLY)),
    (OutboundDecision, "decided_at", (LATE, EARLY)),
    (DeliveryUpdate, "seq", COUNTS),
    (DeliveryUpdate, "at", (LATE, EARLY)),
    *((event, "received_at", (LATE, EARLY)) for event in (TwilioSmsWebhook, VonageSmsWebhook, VonageStatusWebhook)),
]


@pytest.mark.parametrize(
    ("event", "name", "bad"), [(event, name, bad) for event, name, all_bad in STRANGE for bad in all_bad]
)
def test_what_no_table_can_hold_is_refused_by_the_name_of_its_field(event: type[Event], name: str, bad: object) -> None:
    """A handler would fail at it alone, which counts as a bug of ours and stops its partition."""
    whole = json.loads((EXAMPLES / f"{event.TYPE}.json").read_bytes())
    event.decode(orjson.dumps(whole))
    with pytest.raises(Undecodable, match=f"^bad_fields: {name}: "):
        event.decode(json.dumps(whole | {name: bad}).encode())


@pytest.mark.parametrize("event", [WhatsappCommand, SmsCommand])
def test_a_command_without_end_ends_where_times_can_be_counted_on(event: type[Event]) -> None:
    whole = json.loads((EXAMPLES / f"{event.TYPE}.json").read_bytes())
    found = event.decode(orjson.dumps(whole | {"expires_at": "9999-12-31T23:59:59Z"})).model_dump()
    assert found["expires_at"] + timedelta(days=365) > found["created_at"]


@pytest.mark.parametrize("kind", ["meta", "twilio_sms", "vonage_sms", "vonage_status"])
@pytest.mark.parametrize("at", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_a_webhook_received_at_an_end_of_the_calendar_is_read(kind: str, at: str) -> None:
    whole = json.loads((EXAMPLES / f"webhook.{kind}.v1.json").read_bytes())
    parse(orjson.dumps(whole | {"received_at": at}), reaction_opens=True)
