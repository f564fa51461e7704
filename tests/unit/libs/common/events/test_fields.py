"""What ids may hold: ids of Meta become parts of addresses, ids of organisations stand in log lines and keys."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from libs.common.errors import Undecodable
from libs.common.events.directory import decode_directory_change
from libs.common.events.intents import decode_intent
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
