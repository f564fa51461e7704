"""A content that Meta would refuse, or show in part, has a fault; what Meta takes has none."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from libs.common.content_limits import faults
from libs.common.events.content import IntentContent

_CONTENT: TypeAdapter[IntentContent] = TypeAdapter(IntentContent)
BO = {"name": {"formatted_name": "Bo", "first_name": "Bo"}, "phones": [{"phone": "+447700900111"}]}


def card(**name: Any) -> dict[str, Any]:
    return {"name": name, "phones": BO["phones"]}


@pytest.mark.parametrize(
    "taken",
    [
        *({"kind": kind, "media_id": "77", "caption": "See"} for kind in ("image", "video", "document")),
        *({"kind": kind, "media_id": "77"} for kind in ("audio", "sticker")),
        *({"kind": kind, "media_id": "77", "caption": " "} for kind in ("audio", "sticker")),
        {"kind": "image", "link": "https://acme.example/golf.jpg"},
        {"kind": "contacts", "contacts": [BO] * 257},
        {"kind": "interactive", "interactive": {"type": "a_type_of_tomorrow"}},
        {"kind": "reaction", "message_id": "wamid.1", "emoji": ""},
        {"kind": "location", "latitude": 0, "longitude": 0},
        {"kind": "text", "text": "x" * 4096},
    ],
)
def test_what_meta_takes_has_no_fault(taken: dict[str, Any]) -> None:
    assert faults(_CONTENT.validate_python(taken)) == []


@pytest.mark.parametrize(
    ("refused", "found"),
    [
        *(
            ({"kind": kind, "media_id": "77", "caption": "Hear it"}, [("caption", "not_shown")])
            for kind in ("audio", "sticker")
        ),
        ({"kind": "image", "link": "https:///golf.jpg"}, [("link", "format")]),
        (
            {"kind": "audio", "link": "https://acme.example:99999/a", "caption": "Hear it"},
            [("link", "format"), ("caption", "not_shown")],
        ),
        *(
            ({"kind": "contacts", "contacts": [BO, one]}, [("contacts.1.name.formatted_name", "missing")])
            for one in (card(first_name="Bo"), card(formatted_name=" "), card(formatted_name=5), {"name": "Bo"}, {})
        ),
        (
            {"kind": "interactive", "interactive": {"type": "button"}},
            [
                ("interactive.body.text", "missing"),
                ("interactive.action.buttons", "missing"),
            ],
        ),
    ],
)
def test_what_meta_refuses_or_does_not_show_is_named(refused: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert faults(_CONTENT.validate_python(refused)) == found
