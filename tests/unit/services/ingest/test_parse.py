"""Parsing: every kind of item, whether it opens the window, and why what is dead is dead."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Undecodable
from services.ingest import meta
from services.ingest.items import (
    CustomerCall,
    CustomerMessage,
    Ignored,
    MessageStatus,
    NumberErrors,
)
from services.ingest.parse import parse
from tests.support.parsed import AT, CONTENT, all_of, the_message, the_reason, the_refusal
from tests.support.recordings import recording, recordings
from tests.support.webhooks import NUMBER, WA_ID, a_contact, a_message, a_status, a_value, a_webhook, of_messages


@pytest.mark.parametrize("name", recordings("meta", "a_customer_"))
def test_whatever_a_customer_does_is_understood(name: str) -> None:
    for one in all_of(recording("meta", name)):
        assert isinstance(one, CustomerMessage | CustomerCall)
        if isinstance(one, CustomerMessage):
            CONTENT.validate_python(one.content)
            assert one.opens is (one.content["kind"] != "reaction")


@pytest.mark.parametrize("name", [*recordings("meta", "a_message_was_"), "a_template_was_sent"])
def test_recorded_statuses_are_understood(name: str) -> None:
    assert all(isinstance(one, MessageStatus) for one in all_of(recording("meta", name)))


@pytest.mark.parametrize(
    ("message", "content", "opens"),
    [
        ({"type": "text", "text": {"body": ""}}, {"kind": "text", "text": ""}, True),
        ({"type": "text", "text": {}}, {"kind": "unsupported", "type": "text"}, True),
        ({"type": "image", "image": {"id": 5}}, {"kind": "image", "media_id": "5"}, True),
        ({"type": "voice", "voice": {"id": "5"}}, {"kind": "audio", "media_id": "5"}, True),
        ({"type": "video", "video": {}}, {"kind": "unsupported", "type": "video"}, True),
        (
            {"type": "location", "location": {"latitude": "1.5", "longitude": 2}},
            {"kind": "location", "latitude": 1.5, "longitude": 2.0},
            True,
        ),
        (
            {"type": "location", "location": {"latitude": 91, "longitude": 2}},
            {"kind": "unsupported", "type": "location", "raw": {"latitude": 91, "longitude": 2}},
            True,
        ),
        ({"type": "button", "button": {"text": "Yes"}}, {"kind": "button", "text": "Yes", "payload": None}, True),
        (
            {
                "type": "interactive",
                "interactive": {"type": "list_reply", "list_reply": {"id": "1", "title": "Tue", "description": "d"}},
            },
            {"kind": "interactive", "reply": {"type": "list_reply", "id": "1", "title": "Tue", "description": "d"}},
            True,
        ),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "nfm_reply",
                    "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "[1]"},
                },
            },
            {
                "kind": "interactive",
                "reply": {"type": "nfm_reply", "title": "flow", "description": "Sent", "response": "[1]"},
            },
            True,
        ),
        (
            {
                "type": "interactive",
                "interactive": {
                    "type": "call_permission_reply",
                    "call_permission_reply": {"response": "accept", "response_source": "automatic"},
                },
            },
            {
                "kind": "interactive",
                "reply": {
                    "type": "call_permission_reply",
                    "response": "accept",
                    "details": {"response_source": "automatic"},
                },
            },
            False,
        ),
        ({"type": "interactive"}, {"kind": "unsupported", "type": "interactive"}, True),
        (
            {"type": "reaction", "reaction": {"message_id": "w", "emoji": "👍"}},
            {"kind": "reaction", "message_id": "w", "emoji": "👍"},
            False,
        ),
        (
            {"type": "reaction", "reaction": {"message_id": "w", "emoji": ""}},
            {"kind": "reaction", "message_id": "w", "emoji": None},
            False,
        ),
        (
            {"type": "reaction", "reaction": {"message_id": "w"}},
            {"kind": "reaction", "message_id": "w", "emoji": None},
            False,
        ),
        (
            {"type": "order", "order": {"product_items": []}},
            {"kind": "unsupported", "type": "order", "raw": {"product_items": []}},
            True,
        ),
        (
            {"type": "unsupported", "errors": [{"code": 131051}, 1]},
            {"kind": "unsupported", "type": "unsupported", "errors": [{"code": 131051}]},
            True,
        ),
        ({"type": "unsupported", "unsupported": {"type": "poll"}}, {"kind": "unsupported", "type": "poll"}, True),
        (
            {"type": "hologram", "hologram": {"x": 1}},
            {"kind": "unsupported", "type": "hologram", "raw": {"x": 1}},
            True,
        ),
        ({"type": None}, {"kind": "unsupported", "type": "unknown"}, True),
        (
            {"type": "edit", "edit": {"original_message_id": "w"}},
            {"kind": "unsupported", "type": "edit", "raw": {"original_message_id": "w"}},
            False,
        ),
        (
            {"type": "revoke", "revoke": {"original_message_id": "w"}},
            {"kind": "unsupported", "type": "revoke", "raw": {"original_message_id": "w"}},
            False,
        ),
    ],
)  # fmt: skip -- a table
def test_what_a_message_holds_and_whether_it_opens_the_window(message: Any, content: Any, opens: bool) -> None:  # noqa: FBT001 -- a table's column
    one = the_message(**message)
    assert (one.content, one.opens) == (content, opens)


def test_a_reaction_opens_the_window_where_the_setting_says_so() -> None:
    webhook = of_messages(a_message(AT, None, type="reaction", reaction={"message_id": "w"}))
    (one,) = all_of(webhook, reaction_opens=True)
    assert isinstance(one, CustomerMessage)
    assert one.opens


@pytest.mark.parametrize("told", ["1795341600", 1795341600, 1795341600000, "1795341600000", 1795341600.0])
def test_a_timestamp_may_be_text_a_number_or_in_milliseconds(told: Any) -> None:
    assert the_message(timestamp=told).at == datetime.fromtimestamp(1795341600, UTC)


@pytest.mark.parametrize("told", ["", "soon", None, True, [], "nan", "inf", "-5", "1e999", 0, "0x10"])
def test_without_a_usable_timestamp_a_message_is_dead(told: Any) -> None:
    assert the_reason(of_messages(a_message(AT, timestamp=told))) == "bad_timestamp"


@pytest.mark.parametrize(
    ("webhook", "reason"),
    [
        (of_messages(a_message(AT, id=None)), "no_id"),
        (of_messages(a_message(AT, id="")), "no_id"),
        (a_webhook(a_value(messages=[a_message(AT, **{"from": None}, text="x")])), "no_sender"),
        (a_webhook(a_value(number=None, messages=[a_message(AT)])), "no_number"),
        (a_webhook(a_value(statuses=[{"id": "w", "timestamp": "1"}])), "bad_status"),
        (a_webhook(a_value(messages=[1])), "bad_item"),
        (a_webhook(a_value(messages=[])), "bad_change"),
        (a_webhook(a_value(messages={"0": a_message(AT)}, errors=[{"code": 1}])), "bad_change"),
        (a_webhook(a_value(standby={"messages": a_message(AT)}), field="standby"), "bad_change"),
        (a_webhook(a_value(standby=[a_message(AT)]), field="standby"), "bad_change"),
        (a_webhook(a_value(calls=[{"event": "connect", "from": WA_ID}]), field="calls"), "bad_change"),
        (a_webhook(a_value(statuses=[{"id": "w", "type": "call"}]), field="calls"), "bad_status"),
        (
            a_webhook(a_value(user_preferences=[{"wa_id": WA_ID, "value": "stop"}]), field="user_preferences"),
            "bad_change",
        ),
        (a_webhook(a_value(user_preferences={"wa_id": WA_ID}), field="user_preferences"), "bad_change"),
        (
            a_webhook(
                a_value(user_preferences=[{"category": "marketing_messages", "value": "pause"}]),
                field="user_preferences",
            ),
            "unknown_value",
        ),
        (a_webhook(a_value(user_id_update=[{"user_id": "GB.1"}]), field="user_id_update"), "bad_change"),
        (a_webhook({"event": "PAUSED"}, field="message_template_status_update"), "bad_change"),
        (a_webhook(a_value(x=1), field="brand_new"), "unknown_field"),
        ({"object": "page", "entry": []}, "not_a_webhook"),
    ],
)
def test_what_cannot_be_understood_says_why(webhook: Any, reason: str) -> None:
    assert the_reason(webhook) == reason


@pytest.mark.parametrize(
    ("webhook", "named"),
    [
        (a_webhook(a_value(x=1), field="brand_new"), "brand_new"),
        (a_webhook(a_value(x=1), field="Kim, 7 High Street"), "unreadable"),
        ({"entry": [{"changes": [{"value": {}}]}]}, "none"),
        (of_messages(a_message(AT)) | {"object": "page"}, "object"),
    ],
)
def test_the_detail_names_what_is_not_known_and_nothing_that_somebody_said(webhook: Any, named: str) -> None:
    refused = the_refusal(webhook)
    assert named in refused.detail
    assert "Kim" not in refused.detail


def nested(depth: int) -> Any:
    return [] if depth == 0 else [nested(depth - 1)]


@pytest.mark.parametrize("depth", [100, 250])
def test_what_is_nested_too_deeply_to_be_stored_and_told_is_dead(depth: int) -> None:
    cards = [{"name": nested(depth)}]
    assert the_reason(of_messages(a_message(AT, type="contacts", contacts=cards))) == "nested_too_deeply"
    status = a_status("w", "failed", AT, errors=[{"code": 1, "error_data": nested(depth)}, "\x00"])
    assert the_reason(a_webhook(a_value(statuses=[status]))) == "nested_too_deeply"


def test_what_is_nested_as_far_as_anybody_could_want_and_numbers_of_any_size_are_storable() -> None:
    cards = [{"name": nested(40), "many": [[]] * 200, "number": 10**30}]
    one = the_message(type="contacts", contacts=cards, text=None)
    assert orjson.loads(orjson.dumps(one.content))["contacts"] == [{**cards[0], "number": 1e30}]


@pytest.mark.parametrize(
    "webhook",
    [
        a_webhook({"event": "DISABLED_UPDATE"}, field="account_update"),
        a_webhook(a_value(errors=[{"title": "no code"}])),
        a_webhook(a_value(history=[{}]), field="history"),
        a_webhook(a_value(calls=[{"direction": "BUSINESS_INITIATED", "event": "connect"}]), field="calls"),
        a_webhook(a_value(calls=[{"direction": "USER_INITIATED", "event": "terminate"}]), field="calls"),
        a_webhook(a_value(statuses=[a_status("w", "RINGING", AT, type="call")]), field="calls"),
        a_webhook(a_value(statuses=[a_status("w", "played", AT)])),
        a_webhook(a_value(statuses=[a_status("w", "read", AT, recipient_type="group")])),
        a_webhook(a_value(statuses=[a_status("w", "failed", AT, type="payment", payment={"reference_id": "r"})])),
        a_webhook(a_value(statuses=[a_status("w", "captured", AT, type="payment")])),
        a_webhook(a_value(user_preferences=[{"category": "other", "value": "stop"}]), field="user_preferences"),
        a_webhook(a_value(standby={"message_echoes": [{}]}), field="standby"),
    ],
)
def test_what_is_known_and_not_for_us_is_counted(webhook: Any) -> None:
    (one,) = all_of(webhook)
    assert isinstance(one, Ignored)
    assert one.unknown is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", a_value(errors=[{"code": 131031}])),
        ("standby", a_value(standby={"errors": [{"code": 131031}]})),
        ("standby", a_value(errors=[{"code": 131031}])),
        ("standby", a_value(standby={"messages": [a_message(AT)], "errors": [{"code": 131031}]})),
    ],
)
def test_errors_of_a_number_are_told_also_while_metas_agent_has_the_thread(field: str, value: Any) -> None:
    *_, last = all_of(a_webhook(value, field=field))
    assert isinstance(last, NumberErrors)
    assert (last.phone_number_id, last.codes) == (NUMBER, ("131031",))


@pytest.mark.parametrize(
    ("told", "word"),
    [("teleported", "teleported"), ("SENT", "SENT"), ("+447700900999", "unreadable"), (" ", "unreadable")],
)
def test_a_status_that_nobody_knows_is_ignored_and_named(told: str, word: str) -> None:
    assert all_of(a_webhook(a_value(statuses=[a_status("w", told, AT)]))) == [Ignored("status", ("meta", word))]


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([{"title": "no code"}, {"code": 131047}], "131047"),
        ([None, {"code": None}, {"code": True}, {"code": " 131047 "}], "131047"),
        ([{"code": 131047.0}], "131047"),
        ({"code": 131047}, "131047"),
        ([{"code": ""}, {"code": 1.5}], None),
        ([{"code": [1]}, {"code": {}}, 7, [{"code": 1}]], None),
        ([], None),
        ("131047", None),
        (131047, None),
        (None, None),
    ],
)
def test_the_code_of_a_failure_is_that_of_the_first_error_with_one(errors: Any, code: str | None) -> None:
    (one,) = all_of(a_webhook(a_value(statuses=[a_status("w", "failed", AT, errors=errors)])))
    assert isinstance(one, MessageStatus)
    assert one.status.code == code


def test_a_status_carries_code_and_callback() -> None:
    status = a_status("w", "failed", AT, errors=[{"code": 131047}], biz_opaque_callback_data="m:1")
    (one,) = all_of(a_webhook(a_value(statuses=[status])))
    assert isinstance(one, MessageStatus)
    found = one.status
    assert (found.account, found.provider_id, found.status, found.code, found.callback, found.at) == (
        NUMBER,
        "w",
        "failed",
        "131047",
        "m:1",
        AT,
    )  # fmt: skip -- one row


def test_a_message_from_the_future_counts_as_now_and_an_old_one_stays_old() -> None:
    assert the_message(timestamp=str(int((AT + timedelta(days=9)).timestamp()))).at == AT + timedelta(seconds=60)
    assert the_message(timestamp=str(int((AT - timedelta(days=9)).timestamp()))).at == AT - timedelta(days=9)


@given(
    st.dictionaries(
        st.sampled_from(["type", "received_at", "item_kind", "item", "field", "phone_number_id", "contact", "form"]),
        st.sampled_from(
            [
                "webhook.meta.v1",
                "webhook.twilio_status.v1",
                "message",
                "status",
                "change",
                "messages",
                "calls",
                "2026-11-22T10:00:00Z",
                "x",
            ]
        )
        | st.sampled_from([None, 1, "", [], {}, [1], {"calls": [{}]}, {"id": "a", "timestamp": 5, "from": {}}]),
        max_size=8,
    )
)
def test_nothing_in_a_record_raises_anything_but_a_reason(record: dict[str, Any]) -> None:
    with suppress(Undecodable):
        parse(orjson.dumps(record), reaction_opens=False)


@pytest.mark.parametrize(
    ("reason", "told"),
    [("too_many_items", "too_many_items"), ("too_large", "item_too_large"), ("unreadable", "nested_too_deeply")],
)
def test_a_body_that_stayed_whole_is_a_dead_letter_that_says_why(reason: meta.Reason, told: str) -> None:
    with pytest.raises(Undecodable) as refused:
        parse(meta.whole(b"[]", AT, reason)[1], reaction_opens=False)
    assert refused.value.reason == told


def test_ids_and_names_that_are_longer_than_any_are_not_taken_along() -> None:
    long = "x" * 100_000
    assert the_message(context={"id": long}).reply_to is None
    reaction = the_message(type="reaction", text=None, reaction={"message_id": long, "emoji": "y"})
    assert (reaction.content["kind"], reaction.content["type"]) == ("unsupported", "reaction")
    (named,) = all_of(of_messages(a_message(AT), contacts=[a_contact(name=long)]))
    assert isinstance(named, CustomerMessage)
    assert named.sender.name == long[:1000]
    assert the_reason(a_webhook(a_value(number=long, messages=[a_message(AT)]))) == "no_number"
    assert the_reason(of_messages(a_message(AT, id=long))) == "no_id"
