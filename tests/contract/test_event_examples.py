"""Every event version has one example file; each is decoded by the class that reads it in production, and written back
unchanged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.common.events.base import Event
from libs.common.events.directory import CHANGES, decode_directory_change
from libs.common.events.inbound import (
    InboundMessage,
    MetaWebhook,
    TwilioSmsWebhook,
    TwilioStatusWebhook,
    VonageSmsWebhook,
    VonageStatusWebhook,
)
from libs.common.events.intents import decode_intent
from libs.common.events.notices import NOTICES
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision, OutboundRefused, SmsCommand, WhatsappCommand
from libs.common.events.portal import PORTAL_EVENTS, decode_portal_event

EXAMPLES = Path(__file__).parents[2] / "libs/common/events/examples"
EVENTS = (
    OutboundDecision,
    WhatsappCommand,
    SmsCommand,
    OutboundRefused,
    DeliveryUpdate,
    InboundMessage,
    MetaWebhook,
    TwilioStatusWebhook,
    TwilioSmsWebhook,
    VonageSmsWebhook,
    VonageStatusWebhook,
    *NOTICES,
)
DECODERS: dict[str, Callable[[bytes], Any]] = {
    "outbound.intent.v1": decode_intent,
    **dict.fromkeys((one.TYPE for one in CHANGES), decode_directory_change),
    **dict.fromkeys((one.TYPE for one in PORTAL_EVENTS), decode_portal_event),
    **{event.TYPE: event.decode for event in EVENTS},
}


def test_there_is_one_example_per_event_version() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.json")} == set(DECODERS)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_the_example_is_read_and_written_back_with_every_field(name: str) -> None:
    value = (EXAMPLES / f"{name}.json").read_bytes()
    event = DECODERS[name](value)
    assert isinstance(event, Event)
    assert orjson.loads(event.encode()).items() >= _normal(orjson.loads(value)).items()


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_unknown_fields_are_ignored(name: str) -> None:
    known = orjson.loads((EXAMPLES / f"{name}.json").read_bytes())
    assert DECODERS[name](orjson.dumps(known | {"added_in_2027": {"x": 1}})) == DECODERS[name](orjson.dumps(known))


def _normal(event: dict[str, Any]) -> dict[str, Any]:
    """The same event as we write it: defaults filled in inside the content, milliseconds as microseconds."""
    told = dict(event)
    if event["type"] == "outbound.intent.v1":
        told["content"] = told["content"] | {"preview_url": False}
        told["fallback_template"] = told["fallback_template"] | {"header": None, "buttons": None}
    for field in ("decided_at", "received_at"):
        if str(told.get(field, "")).count("."):
            told[field] = told[field].replace("Z", "000Z")
    return told
