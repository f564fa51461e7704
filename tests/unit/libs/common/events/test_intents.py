import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Undecodable
from libs.common.events.intents import BadIntent, Intent, decode_intent

VALID: dict[str, Any] = {
    "type": "outbound.intent.v1",
    "intent_id": "01932f70-11aa-7d2e-8f00-3b7c5d9e1a01",
    "org_id": "acme",
    "conversation_id": "01932f6e-3a54-7c11-9d5b-6a1f0c7e2b11",
    "actor": {"kind": "staff", "user_id": "u1", "capabilities": ["messages.send"]},
    "content": {"kind": "text", "text": "secret words"},
    "created_at": "2026-11-22T10:00:00Z",
}


def test_a_valid_intent_is_read() -> None:
    intent = decode_intent(orjson.dumps(VALID))
    assert isinstance(intent, Intent)
    assert intent.channel == "auto"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xff\xfe", "not_utf8"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b"{}", "no_type"),
        (orjson.dumps(VALID | {"type": 7}), "no_type"),
        (orjson.dumps({name: value for name, value in VALID.items() if name != "type"}), "no_type"),
        (orjson.dumps(VALID | {"type": "outbound.intent.v9"}), "unknown_type"),
        (orjson.dumps(VALID | {"intent_id": "42"}), "bad_fields"),
        (orjson.dumps(VALID | {"org_id": ""}), "bad_fields"),
    ],
)
def test_a_record_that_nobody_can_be_answered_for_is_undecodable(value: bytes | None, reason: str) -> None:
    with pytest.raises(Undecodable) as error:
        decode_intent(value)
    assert error.value.reason == reason


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"x": found}
    return found


NAMED = {"name": "car_ready", "language": "en_GB", "parameters": None, "header": None, "buttons": None}


@pytest.mark.parametrize(
    "change",
    [
        {"channel": None, "fallback_template": None, "reply_to": None, "purpose": None, "expires_at": None, "to": None},
        {"actor": {"kind": "ai", "user_id": None, "capabilities": None}},
        {"content": {"kind": "text", "text": "Hi", "preview_url": None}},
        {"content": NAMED | {"kind": "template"}},
        {"fallback_template": NAMED, "channel": None, "extra": nested(150)},
    ],
)
def test_null_stands_for_a_field_that_is_left_out(change: dict[str, Any]) -> None:
    def left_out(fields: dict[str, Any]) -> dict[str, Any]:
        return {name: left_out(v) if isinstance(v, dict) else v for name, v in fields.items() if v is not None}

    intent = decode_intent(orjson.dumps(VALID | change))
    assert isinstance(intent, Intent)
    assert intent == decode_intent(orjson.dumps(left_out(VALID | change)))


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"created_at": None}, "created_at: Field required"),
        ({"content": {"kind": "text", "text": None}}, "content.text: Field required"),
        ({"channel": None, "to": {"phone_number_id": "1064", "phone": "+447700900999"}}, "value: exactly one of"),
        ({"content": NAMED | {"kind": "template", "parameters": {"name": None}}}, "content.parameters: Input should"),
        ({"content": {"text": "Ready"}}, "content: its kind is missing"),
        ({"channel": None, "extra": "1e400"}, "channel: Input should"),
        ({"channel": None, "content": {"kind": "interactive", "interactive": {"x": 10**30}}}, "channel: Input should"),
    ],
)
def test_null_stands_for_nothing_that_is_needed(change: dict[str, Any], detail: str) -> None:
    bad = decode_intent(json.dumps(VALID | change).replace('"1e400"', "1e400").encode())
    assert isinstance(bad, BadIntent)
    assert detail in bad.detail


def media(**more: Any) -> dict[str, Any]:
    return {"content": {"kind": "document", "link": "https://x.example/invoice.pdf"} | more}


def place(**more: Any) -> dict[str, Any]:
    return {"content": {"kind": "location", "latitude": 51.5, "longitude": -0.1} | more}


def template(**more: Any) -> dict[str, Any]:
    return {"content": {"kind": "template", "name": "car_ready", "language": "en_GB"} | more}


CHANGES: list[tuple[str, Callable[[], dict[str, Any]], str]] = [
    ("no address", lambda: {"conversation_id": None}, "invalid_intent"),
    ("two addresses", lambda: {"to": {"phone_number_id": "1", "phone": "+447700900999"}}, "invalid_intent"),
    ("an unknown kind", lambda: {"content": {"kind": "hologram"}}, "unsupported_content"),
    ("empty text", lambda: {"content": {"kind": "text", "text": "  \n "}}, "invalid_intent"),
    ("long text", lambda: {"content": {"kind": "text", "text": "x" * 4097}}, "invalid_intent"),
    ("media without a source", lambda: {"content": {"kind": "image"}}, "invalid_intent"),
    ("no actor", lambda: {"actor": None}, "invalid_intent"),
    ("an actor of an odd kind", lambda: {"actor": {"kind": ["ai"]}}, "invalid_intent"),
    ("a time before time", lambda: {"channel": "pigeon", "created_at": "0001-01-01T00:00:00+05:00"}, "invalid_intent"),
    ("nested without end", lambda: {"content": {"kind": "interactive", "interactive": nested(70)}}, "invalid_intent"),
    ("a long file name", lambda: media(filename="x" * 241), "invalid_intent"),
    ("a long link", lambda: media(link="https://x.example/" + "x" * 2048), "invalid_intent"),
    ("a long media id", lambda: {"content": {"kind": "image", "media_id": "x" * 513}}, "invalid_intent"),
    ("a long name of a place", lambda: place(name="x" * 1001), "invalid_intent"),
    ("a long address", lambda: place(address="x" * 1001), "invalid_intent"),
    (
        "a large interactive message",
        lambda: {"content": {"kind": "interactive", "interactive": {"x": "y" * 16_400}}},
        "invalid_intent",
    ),
    (
        "large cards",
        lambda: {"content": {"kind": "contacts", "contacts": [{"x": "y" * 16_000}] * 5}},
        "invalid_intent",
    ),
    (
        "a large card",
        lambda: {"content": {"kind": "contacts", "contacts": [{"x": "y" * 16_400}]}},
        "invalid_intent",
    ),
    (
        "many emoji",
        lambda: {"content": {"kind": "reaction", "message_id": "wamid.1", "emoji": "x" * 65}},
        "invalid_intent",
    ),
    ("a long parameter", lambda: template(parameters={"a": "x" * 4097}), "invalid_intent"),
    ("many parameters", lambda: template(parameters=["x"] * 201), "invalid_intent"),
    ("many buttons", lambda: template(buttons=[{}] * 11), "invalid_intent"),
    ("a large header", lambda: template(header={"x": "y" * 16_400}), "invalid_intent"),
    (
        "a large fallback",
        lambda: {"fallback_template": template(header={"x": "y" * 16_400})["content"]},
        "invalid_intent",
    ),
    ("a long user id", lambda: {"actor": VALID["actor"] | {"user_id": "u" * 201}}, "invalid_intent"),
    ("many capabilities", lambda: {"actor": VALID["actor"] | {"capabilities": ["x"] * 201}}, "invalid_intent"),
    ("a naive time", lambda: {"created_at": "2026-11-22T10:00:00"}, "invalid_intent"),
]


@pytest.mark.parametrize(("name", "change", "reason"), CHANGES, ids=[c[0] for c in CHANGES])
def test_an_answerable_intent_with_a_fault_is_bad_and_names_no_value(
    name: str, change: Callable[[], dict[str, Any]], reason: str
) -> None:
    bad = decode_intent(orjson.dumps(VALID | change()))
    assert isinstance(bad, BadIntent)
    assert bad.reason == reason
    assert bad.org_id == "acme"
    assert "secret" not in bad.detail
    assert "hologram" not in bad.detail


@pytest.mark.parametrize("kind", ["interactive", "contacts"])
def test_a_number_that_not_everybody_can_read_is_an_answer_to_its_producer(kind: str) -> None:
    shape = {"x": [10**30]}
    content = {"kind": kind, kind: [shape] if kind == "contacts" else shape}
    bad = decode_intent(json.dumps(VALID | {"content": content}).encode())
    assert isinstance(bad, BadIntent)
    assert "beyond 64 bits" in bad.detail


def test_half_an_emoji_is_an_answer_to_its_producer() -> None:
    cut = json.dumps(VALID | {"content": {"kind": "text", "text": "Ready \ud83d"}}).encode()
    bad = decode_intent(cut)
    assert isinstance(bad, BadIntent)
    assert (bad.reason, str(bad.intent_id)) == ("invalid_intent", VALID["intent_id"])
    assert "Ready" not in bad.detail


@pytest.mark.parametrize(
    ("encoding", "detail"),
    [
        ("utf-8-sig", "value: a byte order mark stands before the JSON"),
        ("utf-16", "value: it is UTF-16, and UTF-8 is expected"),
        ("utf-16-le", "value: it is UTF-16, and UTF-8 is expected"),
        ("utf-32-be", "value: it is UTF-32, and UTF-8 is expected"),
    ],
)
def test_another_encoding_than_utf_8_is_named_to_its_producer(encoding: str, detail: str) -> None:
    bad = decode_intent(json.dumps(VALID).encode(encoding))
    assert isinstance(bad, BadIntent)
    assert (bad.reason, bad.detail) == ("invalid_intent", detail)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_is_not_taken_for_json(constant: str) -> None:
    content = f'{{"kind": "interactive", "interactive": {{"x": {constant}}}}}'
    with pytest.raises(Undecodable) as error:
        decode_intent(json.dumps(VALID | {"content": 0}).replace('"content": 0', f'"content": {content}').encode())
    assert error.value.reason == "not_json"


def test_a_bad_intent_keeps_what_it_could_read() -> None:
    bad = decode_intent(orjson.dumps(VALID | {"channel": "pigeon"}))
    assert isinstance(bad, BadIntent)
    assert str(bad.conversation_id) == VALID["conversation_id"]
    assert (bad.actor_kind, bad.user_id) == ("staff", "u1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
    lambda c: st.lists(c, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*VALID, "to", "channel", "expires_at", "fallback_template"]), json_values))
def test_no_shape_raises_anything_but_undecodable(change: dict[str, Any]) -> None:
    with suppress(Undecodable):
        assert decode_intent(orjson.dumps(VALID | change)).org_id


def test_what_just_fits_is_an_intent() -> None:
    for change in (
        media(filename="x" * 240),
        place(name="x" * 1000, address="x" * 1000),
        template(parameters=["x" * 4096] * 200),
        {"content": {"kind": "interactive", "interactive": {"x": "y" * (16 * 1024 - 8)}}},
        {"content": {"kind": "contacts", "contacts": [{"x": "y" * 16_000}] * 4}},
    ):
        assert isinstance(decode_intent(orjson.dumps(VALID | change)), Intent)


NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("created_at", "expires_at", "brought"),
    [
        ("2026-11-22T10:00:00Z", None, None),
        ("2026-11-22T10:00:00Z", "2026-11-29T10:00:00Z", "2026-11-29T10:00:00Z"),
        ("2026-11-22T10:00:00Z", "2026-11-29T10:00:01Z", "2026-11-29T10:00:00Z"),
        ("2026-11-20T10:00:00+05:00", "9999-12-31T23:59:59-12:00", "2026-11-27T05:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2026-11-29T10:00:00Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
        ("2026-11-22T10:00:00Z", "0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z"),
    ],
)
def test_an_intent_expires_within_seven_days_of_being_made(
    created_at: str, expires_at: str | None, brought: str | None
) -> None:
    intent = decode_intent(orjson.dumps(VALID | {"created_at": created_at, "expires_at": expires_at}))
    assert isinstance(intent, Intent)
    told = json.loads(intent.bounded(NOW).encode())["expires_at"]
    assert told == brought
