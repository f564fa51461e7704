"""What goes over the wire, as Meta documents it."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from libs.common.events.content import OutContent
from services.whatsapp_sender.payloads import payload
from tests.support.recordings import recording

CONTENT: TypeAdapter[OutContent] = TypeAdapter(OutContent)
TO = "+447700900999"
CALLBACK = "0193a1c2-7e00-7000-8000-000000000001:1"


def sent(content: dict[str, Any], *, to: str | None = TO, recipient: str | None = None) -> dict[str, Any]:
    return payload(CONTENT.validate_python(content), to=to, recipient=recipient, callback=CALLBACK)


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a_text_is_accepted", {"kind": "text", "text": "Your Golf is ready."}),
        (
            "a_template_with_named_parameters_is_accepted",
            {
                "kind": "template",
                "name": "appointment_reminder",
                "language": "en_GB",
                "parameters": {"customer_name": "Kim", "appointment_time": "Monday 09:00"},
            },
        ),
        (
            "a_template_with_positional_parameters_is_accepted",
            {"kind": "template", "name": "car_ready", "language": "en_GB", "parameters": ["Golf"]},
        ),
    ],
)
def test_a_request_is_what_meta_was_seen_to_accept(name: str, content: dict[str, Any]) -> None:
    ask = recording("graph", name)["ask"]
    assert without(sent(content), "biz_opaque_callback_data") == without(ask, "biz_opaque_callback_data")


def test_an_answer_names_the_message_that_it_quotes() -> None:
    text = CONTENT.validate_python({"kind": "text", "text": "x"})
    assert payload(text, to=TO, recipient=None, callback=CALLBACK, quotes="wamid.1")["context"] == {
        "message_id": "wamid.1"
    }
    assert "context" not in sent({"kind": "text", "text": "x"})


def test_a_reaction_names_no_other_message_beside_its_own() -> None:
    thumb = CONTENT.validate_python({"kind": "reaction", "message_id": "wamid.2", "emoji": "👍"})
    assert "context" not in payload(thumb, to=TO, recipient=None, callback=CALLBACK, quotes="wamid.1")


def test_every_request_carries_our_own_words_back() -> None:
    assert sent({"kind": "text", "text": "x"})["biz_opaque_callback_data"] == CALLBACK


def test_a_phone_number_always_goes_with_its_plus() -> None:
    assert sent({"kind": "text", "text": "x"}, to="447700900999")["to"] == TO


def test_a_hidden_number_is_reached_by_its_business_scoped_id() -> None:
    body = sent({"kind": "text", "text": "x"}, to=None, recipient="GB.13491208655302741918")
    assert body["recipient"] == "GB.13491208655302741918"
    assert "to" not in body


def test_both_addresses_may_stand() -> None:
    body = sent({"kind": "text", "text": "x"}, recipient="GB.13491208655302741918")
    assert (body["to"], body["recipient"]) == (TO, "GB.13491208655302741918")


@pytest.mark.parametrize(
    ("content", "kind", "what"),
    [
        ({"kind": "text", "text": "x", "preview_url": True}, "text", {"body": "x", "preview_url": True}),
        (
            {"kind": "image", "link": "https://x.example/a.jpg", "caption": "Golf"},
            "image",
            {"link": "https://x.example/a.jpg", "caption": "Golf"},
        ),
        (
            {"kind": "document", "media_id": "77", "filename": "bill.pdf", "caption": "Bill"},
            "document",
            {"id": "77", "filename": "bill.pdf", "caption": "Bill"},
        ),
        ({"kind": "audio", "media_id": "77", "caption": "no", "filename": "no"}, "audio", {"id": "77"}),
        ({"kind": "sticker", "media_id": "77", "caption": "no"}, "sticker", {"id": "77"}),
        ({"kind": "video", "media_id": "77", "filename": "no"}, "video", {"id": "77"}),
        (
            {"kind": "location", "latitude": 51.5, "longitude": -0.1, "name": "Garage"},
            "location",
            {"latitude": 51.5, "longitude": -0.1, "name": "Garage"},
        ),
        (
            {"kind": "contacts", "contacts": [{"name": {"formatted_name": "Kim"}}]},
            "contacts",
            [{"name": {"formatted_name": "Kim"}}],
        ),
        ({"kind": "interactive", "interactive": {"type": "button"}}, "interactive", {"type": "button"}),
        (
            {"kind": "reaction", "message_id": "wamid.X", "emoji": ""},
            "reaction",
            {"message_id": "wamid.X", "emoji": ""},
        ),
    ],
)
def test_each_kind_of_content_has_its_own_form(content: dict[str, Any], kind: str, what: Any) -> None:
    body = sent(content)
    assert (body["type"], body[kind]) == (kind, what)


def test_a_template_without_parameters_has_no_components() -> None:
    body = sent({"kind": "template", "name": "hello", "language": "en"})
    assert body["template"] == {"name": "hello", "language": {"code": "en"}}


def test_header_and_buttons_of_a_template_become_components() -> None:
    body = sent(
        {
            "kind": "template",
            "name": "bill",
            "language": "en",
            "parameters": ["Kim"],
            "header": {"type": "document", "document": {"link": "https://x.example/bill.pdf"}},
            "buttons": [
                {"sub_type": "url", "parameters": [{"type": "text", "text": "42"}]},
                {"sub_type": "quick_reply", "index": "2", "parameters": [{"type": "payload", "payload": "ok"}]},
            ],
        }
    )
    assert body["template"]["components"] == [
        {
            "type": "header",
            "parameters": [{"type": "document", "document": {"link": "https://x.example/bill.pdf"}}],
        },
        {"type": "body", "parameters": [{"type": "text", "text": "Kim"}]},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "42"}]},
        {
            "type": "button",
            "sub_type": "quick_reply",
            "index": "2",
            "parameters": [{"type": "payload", "payload": "ok"}],
        },
    ]
