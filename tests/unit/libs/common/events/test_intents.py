import json
from collections.abc import Callable
from contextlib import suppress
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
