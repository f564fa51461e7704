"""What a customer said reaches whoever reads: every word of it is in what is stored, and in what is told."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from libs.common.events.content import InContent
from libs.common.events.inbound import InboundMessage
from services.ingest import content as contents
from services.ingest import meta
from services.ingest.items import CustomerMessage
from services.ingest.parse import parse
from tests.support.recordings import recording, recordings

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
CONTENT: TypeAdapter[Any] = TypeAdapter(InContent)
ENVELOPE = ("from", "from_user_id", "id", "timestamp", "type", "context")
# Meta's own words about a file, that nobody said: kept by id, fetched by id
NOT_SAID = ("mime_type", "sha256", "url", "id", "type")
EVERYTHING = [
    *(("meta", name) for name in recordings("meta", "a_customer_")),
    *(("meta/said", name) for name in recordings("meta/said")),
]


def the_message(folder: str, name: str) -> tuple[dict[str, Any], CustomerMessage]:
    webhook = recording(folder, name)
    (record,) = meta.split(webhook, AT)
    (said,) = webhook["entry"][0]["changes"][0]["value"].get("messages") or [{}]
    found = parse(record[1], reaction_opens=False)
    assert isinstance(found, CustomerMessage)
    return said, found


def words(value: Any, name: str = "") -> Iterator[str]:
    """Every word and number in it that somebody may have said."""
    match value:
        case dict():
            for key, inner in value.items():
                yield from words(inner, key)
        case list():
            for inner in value:
                yield from words(inner, name)
        case str() if value.strip() and name not in NOT_SAID:
            yield value
        case int() | float() if not isinstance(value, bool):
            yield json.dumps(value)


@pytest.mark.parametrize(("folder", "name"), [one for one in EVERYTHING if one[1] != "a_customer_calls"])
def test_nothing_that_a_customer_said_is_lost(folder: str, name: str) -> None:
    said, message = the_message(folder, name)
    content, beside = contents.published(message.content)
    CONTENT.validate_python(content)
    there = set(words(message.content)) | {str(message.reply_to)}
    parts = [part for key, part in said.items() if key not in ENVELOPE]
    context = {key: part for key, part in said.get("context", {}).items() if key not in ("from", "id")}
    missing = {word for word in words([*parts, context]) if word not in there and not any(word in one for one in there)}
    assert missing == set()
    assert content.keys().isdisjoint(contents.BESIDE)
    assert content | beside == message.content


SAID: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "a_customer_orders_brake_pads",
        {"kind": "order", "catalog_id": "880011223344", "text": "please fit them too"},
        {},
    ),
    ("a_customer_orders_without_a_word", {"kind": "order", "catalog_id": "880011223344"}, {}),
    (
        "a_customer_asks_about_a_product",
        {"kind": "text"},
        {"referred_product": {"catalog_id": "880011223344", "product_retailer_id": "battery-70ah"}},
    ),
    ("a_customer_forwards_a_text", {"kind": "text"}, {"forwarded": True}),
    ("a_customer_forwards_what_went_round", {"kind": "video"}, {"forwarded": True, "frequently_forwarded": True}),
    ("a_customer_speaks", {"kind": "audio"}, {"voice": True}),
    ("a_customer_sends_music", {"kind": "audio"}, {}),
    ("a_customer_shares_the_number_that_was_asked_for", {"kind": "contacts", "origin": "contact_request"}, {}),
    (
        "a_picture_failed_and_its_caption_came",
        {"kind": "unsupported", "type": "image", "caption": "The dent on the left door"},
        {},
    ),
    (
        "a_document_failed_though_it_has_an_id",
        {"kind": "unsupported", "type": "document", "caption": "Is this right?"},
        {},
    ),
    ("a_customer_sends_a_photo_to_be_seen_once", {"kind": "unsupported", "type": "view_once"}, {}),
    (
        "a_customer_sends_something_unsupported_with_a_caption",
        {"kind": "unsupported", "type": "video_note", "caption": "Hear that rattle?"},
        {},
    ),
    ("a_customer_writes_stop", {"kind": "text", "text": " Stop! "}, {"keyword": "stop"}),
    ("a_customer_taps_stop_promotions", {"kind": "button"}, {"keyword": "stop"}),
]  # fmt: skip -- a table


@pytest.mark.parametrize(("name", "content", "beside"), SAID)
def test_it_is_told_in_the_words_of_the_contract(name: str, content: dict[str, Any], beside: dict[str, Any]) -> None:
    _, message = the_message("meta/said", name)
    told, stands_beside = contents.published(message.content)
    assert told.items() >= content.items()
    assert stands_beside == beside


def test_an_order_has_its_lines_as_they_were_ordered() -> None:
    said, message = the_message("meta/said", "a_customer_orders_brake_pads")
    assert message.content["items"] == said["order"]["product_items"]


@pytest.mark.parametrize(
    "name", ["a_customer_comes_from_an_ad_with_a_picture", "a_customer_comes_from_a_post_and_writes"]
)
def test_the_ad_that_led_to_a_message_is_told_whole(name: str) -> None:
    said, message = the_message("meta/said", name)
    assert contents.published(message.content)[1] == {"referral": said["referral"]}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('{"mileage": 71200}', '{"mileage": 71200}'),
        ('["Tuesday"]', '["Tuesday"]'),
        ('"yes"', '"yes"'),
        ("no JSON at all", "no JSON at all"),
        ({"city": "Köln"}, '{"city": "Köln"}'),
        ([1, None], "[1, null]"),
        (True, "true"),
        (0, "0"),
        (7.5, "7.5"),
    ],
)
def test_the_answer_to_a_form_may_be_json_of_any_type(answer: Any, told: str) -> None:
    inner = {"type": "nfm_reply", "nfm_reply": {"name": "flow", "response_json": answer}}
    content = contents.stored({"type": "interactive", "interactive": inner})
    assert content["reply"]["response"] == told
    CONTENT.validate_python(content)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KINDS = (
    "order",
    "interactive",
    "contacts",
    "location",
    "image",
    "audio",
    "button",
    "reaction",
    "edit",
    "unsupported",
    "x",
)


@given(
    st.sampled_from(KINDS), JSON, st.dictionaries(st.sampled_from(("referral", "context", "errors", "origin")), JSON)
)
def test_whatever_it_holds_it_is_stored_and_told_by_the_contract(kind: str, inner: Any, more: dict[str, Any]) -> None:
    content, beside = contents.published(contents.stored({"type": kind, kind: inner} | more))
    CONTENT.validate_python(content)
    fields: dict[str, Any] = InboundMessage.model_fields
    assert beside.keys() <= fields.keys()
    for name, value in beside.items():
        TypeAdapter(fields[name].annotation).validate_python(value, strict=True)
