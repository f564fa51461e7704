"""What the API says at once of content that the router would reject."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from libs.common.events.content import IntentContent
from services.inbox.problems import FieldFault, Problem, refuse_beyond_limits

CONTENT: TypeAdapter[IntentContent] = TypeAdapter(IntentContent)
FILE: dict[str, Any] = {"link": "https://cdn.example/golf.jpg"}


@pytest.mark.parametrize(
    "content",
    [
        *({"kind": kind} | FILE for kind in ("image", "video", "audio", "document", "sticker")),
        {"kind": "location", "latitude": 51.5, "longitude": -0.1},
        {"kind": "reaction", "message_id": "wamid.1", "emoji": "\U0001f44d"},
        {"kind": "contacts", "contacts": [{"name": {"formatted_name": "Bo", "first_name": "Bo"}}]},
        {
            "kind": "interactive",
            "interactive": {
                "type": "button",
                "body": {"text": "Shall we?"},
                "action": {"buttons": [{"type": "reply", "reply": {"id": "yes", "title": "Yes"}}]},
            },
        },
    ],
)
def test_an_sms_carries_text_alone(content: dict[str, Any]) -> None:
    found = CONTENT.validate_python(content)
    with pytest.raises(Problem) as refused:
        refuse_beyond_limits(found, "sms")
    assert refused.value.faults == (FieldFault("content.kind", "an SMS carries text alone: send it by WhatsApp"),)
    for channel in ("auto", "whatsapp", "portal"):
        refuse_beyond_limits(found, channel)


@pytest.mark.parametrize(
    "content",
    [
        {"kind": "text", "text": "Your Golf is ready."},
        {"kind": "template", "name": "car_ready", "language": "en_GB", "parameters": ["Kim"]},
        {"kind": "bridge"},
    ],
)
def test_what_the_router_takes_for_sms_passes(content: dict[str, Any]) -> None:
    refuse_beyond_limits(CONTENT.validate_python(content), "sms")
