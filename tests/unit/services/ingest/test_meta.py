"""Splitting: one record per item, every item kept, whatever the body looks like."""

import base64
import gc
import json
import sys
import zlib
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.inbound import MetaWebhook
from services.ingest import meta
from services.ingest.items import CustomerMessage
from services.ingest.parse import parse
from tests.support.webhooks import (
    NUMBER,
    WA_ID,
    a_contact,
    a_message,
    a_status,
    a_value,
    a_webhook,
    as_body,
    of_messages,
)

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {
        "entry": st.lists(
            st.fixed_dictionaries(
                {
                    "changes": st.lists(
                        st.fixed_dictionaries(
                            {
                                "field": st.sampled_from(["messages", "standby", "calls", "x", None]) | JSON,
                                "value": st.dictionaries(
                                    st.sampled_from(
                                        ["messages", "statuses", "standby", "calls", "contacts", "errors", "metadata"]
                                    ),
                                    JSON,
                                    max_size=5,
                                ),
                            }
                        ),
                        max_size=3,
                    )
                }
            )
            | JSON,
            max_size=3,
        )
    }
)  # fmt: skip -- one shape


def split(webhook: Any) -> list[MetaWebhook]:
    return [MetaWebhook.decode(record[1]) for record in meta.split(webhook, AT, 10**7)]


def test_messages_and_statuses_become_one_record_each_in_their_order() -> None:
    messages = [a_message(AT, str(i)) for i in range(3)]
    statuses = [a_status("wamid.1", "sent", AT)]
    records = split(a_webhook(a_value(messages=messages, statuses=statuses), a_value(messages=messages[:1])))
    assert [record.item_kind for record in records] == ["message"] * 3 + ["status", "message"]
    assert [record.item for record in records] == [*messages, *statuses, messages[0]]
    assert {(record.phone_number_id, record.field, record.received_at) for record in records} == {
        (NUMBER, "messages", AT)
    }


def test_the_key_is_business_number_and_customer() -> None:
    webhook = of_messages(a_message(AT), a_message(AT, **{"from": None, "from_user_id": "GB.1"}, text="x"))
    webhook["entry"][0]["changes"][0]["value"]["statuses"] = [a_status("w", "sent", AT)]
    keys = [record[0].decode() for record in meta.split(webhook, AT, 10**7)]
    assert keys == [f"{NUMBER}:{WA_ID}", f"{NUMBER}:GB.1", f"{NUMBER}:{WA_ID}"]


def test_the_contact_beside_a_message_is_the_one_with_its_id() -> None:
    kim, pat = a_contact(WA_ID, "GB.1", "Kim"), a_contact("447700900222", "GB.2", "Pat")
    messages = [
        a_message(AT),
        a_message(AT, text="x", **{"from": "447700900222"}),
        a_message(AT, text="x", **{"from": None, "from_user_id": "GB.1"}),
        a_message(AT, text="x", **{"from": "GB.2"}),
        a_message(AT, text="x", **{"from": "447700900333"}),
    ]
    records = split(of_messages(*messages, contacts=[pat, kim]))
    assert [record.contact for record in records] == [kim, pat, kim, pat, None]


def test_a_card_with_another_number_of_the_line_is_the_senders() -> None:
    ana, rui = a_contact("551190000001", "BR.1", "Ana"), a_contact("5511990000002", "BR.2", "Rui")
    messages = [
        a_message(AT, text="x", **{"from": "551190000002"}),
        a_message(AT, text="x", **{"from": "5511990000001"}),
        a_message(AT, text="x", **{"from": "551130000001"}),
    ]
    records = split(of_messages(*messages, contacts=[ana, rui]))
    assert [record.contact for record in records] == [rui, ana, None]


@pytest.mark.parametrize("sender", [{"from": "5511990000001"}, {"from": "2252720000001"}, {"from": None}])
def test_a_single_card_beside_a_single_message_belongs_to_it(sender: dict[str, Any]) -> None:
    card = a_contact("551190000001", "BR.1", "Ana")
    (record,) = split(of_messages(a_message(AT, **sender), contacts=[card]))
    assert record.contact == card


def test_a_single_card_that_names_another_user_is_another_persons() -> None:
    message = a_message(AT, **{"from": None, "from_user_id": "GB.2"})
    (record,) = split(of_messages(message, contacts=[a_contact(WA_ID, "GB.1")]))
    assert record.contact is None


def test_a_single_card_among_several_items_is_found_by_its_ids_alone() -> None:
    value = a_value(
        contacts=[a_contact()],
        messages=[a_message(AT), a_message(AT, **{"from": "447700900222"})],
        statuses=[a_status("w", "read", AT, recipient_id="447700900333")],
    )
    assert [record.contact for record in split(a_webhook(value))] == [a_contact(), None, None]


@pytest.mark.parametrize(
    ("recipient", "card"),
    [
        ({}, a_contact(WA_ID, "GB.1")),
        ({"recipient_id": None, "recipient_user_id": "GB.1"}, {"user_id": "GB.1"}),
        ({"recipient_id": None}, {"wa_id": WA_ID}),
        ({"recipient_id": "5511990000001"}, {"wa_id": "551190000001"}),
    ],
)
def test_a_status_takes_the_card_of_its_recipient_along(recipient: dict[str, Any], card: dict[str, Any]) -> None:
    status = {name: value for name, value in (a_status("w", "failed", AT) | recipient).items() if value is not None}
    (record,) = split(a_webhook(a_value(statuses=[status], contacts=[card])))
    assert (record.item_kind, record.contact) == ("status", card)


def test_a_number_on_two_peoples_cards_tells_nothing() -> None:
    cards = [a_contact(WA_ID, "GB.1"), a_contact(WA_ID, "GB.2")]
    first, second = split(of_messages(a_message(AT), a_message(AT, from_user_id="GB.2"), contacts=cards))
    assert (first.contact, second.contact) == (None, cards[1])


def test_standby_lies_one_level_deeper() -> None:
    message = a_message(AT)
    records = split(a_webhook(a_value(standby={"messages": [message], "contacts": [a_contact()]}), field="standby"))
    assert [(r.item_kind, r.field, r.item, r.contact) for r in records] == [
        ("message", "standby", message, a_contact())
    ]


def test_standby_without_that_level_is_read_too() -> None:
    message, status = a_message(AT), a_status("wamid.1", "read", AT)
    value = a_value(messages=[message], statuses=[status], contacts=[a_contact()], standby=None)
    records = split(a_webhook(value, field="standby"))
    assert [(r.item_kind, r.item, r.contact) for r in records] == [
        ("message", message, a_contact()),
        ("status", status, a_contact()),
    ]


@pytest.mark.parametrize("field", ["messages", "standby"])
def test_what_stands_beside_messages_and_is_no_list_is_a_change(field: str) -> None:
    message, status = a_message(AT), a_status("wamid.1", "read", AT)
    records = split(a_webhook(a_value(messages=[message], statuses=status), field=field))
    assert [(r.item_kind, r.item) for r in records] == [("message", message), ("change", {"statuses": status})]


@pytest.mark.parametrize("field", [[], {}, ["messages"], 1])
def test_a_field_of_another_type_stops_no_neighbour(field: Any) -> None:
    webhook = of_messages(a_message(AT))
    webhook["entry"][0]["changes"].insert(0, {"field": field, "value": {"messages": [a_message(AT)]}})
    assert [r.item_kind for r in split(webhook)] == ["change", "message"]


def test_history_and_echoes_are_changes_and_never_messages() -> None:
    for field, part in (("history", "messages"), ("smb_message_echoes", "message_echoes"), ("standby", "history")):
        (record,) = split(a_webhook(a_value() | {part: [a_message(AT)]}, field=field))
        assert record.item_kind == "change"


def test_each_call_is_a_change_of_its_own() -> None:
    calls = [{"id": "1", "from": WA_ID}, {"id": "2", "from": "447700900222"}]
    records = split(a_webhook(a_value(calls=calls, contacts=[a_contact()]), field="calls"))
    assert [record.item for record in records] == [{"calls": [call]} for call in calls]
    assert [record.contact for record in records] == [a_contact(), None]


def test_each_new_user_id_is_a_change_of_its_own() -> None:
    updates = [{"user_id": {"previous": f"GB.{n}", "current": f"GB.{n}9"}, "timestamp": "1"} for n in (1, 2)]
    records = meta.split(a_webhook(a_value(user_id_update=updates), field="user_id_update"), AT)
    assert [json.loads(record[1])["item"] for record in records] == [{"user_id_update": [one]} for one in updates]
    assert [record[0] for record in records] == [f"{NUMBER}:GB.{n}".encode() for n in (1, 2)]


def test_errors_beside_messages_are_not_lost() -> None:
    records = split(a_webhook(a_value(messages=[a_message(AT)], errors=[{"code": 131000}])))
    assert [record.item_kind for record in records] == ["message", "change"]
    assert records[1].item == {"errors": [{"code": 131000}]}


@given(JSON | NEARLY)
def test_any_json_becomes_at_least_one_record_that_can_be_read(webhook: Any) -> None:
    body = json.dumps(webhook).encode()
    records = meta.split(meta.parse(body), AT)
    assert records
    for record in records:
        MetaWebhook.decode(record[1])


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"{} {}", "\ufeff{}".encode()])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(meta.NotJsonError):
        meta.parse(body)


def test_half_a_surrogate_pair_is_read_as_a_replacement() -> None:
    assert meta.parse(rb'"a\ud83d b\ud83d\ude00"') == "a\ufffd b\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000 + b"]" * 200_000,
        *(b'{"entry": [{"changes": ' + b"[" * depth + b"]" * depth + b"}]}" for depth in (310, 990, 1015, 1030)),
    ],
)
def test_a_body_that_cannot_be_read_and_written_again_is_kept_as_it_came(body: bytes) -> None:
    with pytest.raises(meta.UnreadableError):
        meta.split(meta.parse(body), AT)
    kept = MetaWebhook.decode(meta.whole(body, AT, "unreadable")[1])
    assert kept.item_kind == "body"
    assert zlib.decompress(base64.b64decode(kept.item["zlib_base64"])) == body


@pytest.mark.parametrize("number", ["1e400", "-1E999", "9" * 400, "7" * 5000, "1." + "3" * 5000 + "e9999"])
def test_a_number_beyond_any_float_costs_neither_its_item_nor_another(number: str) -> None:
    odd = a_message(AT, text="odd") | {"odd": "NUMBER"}
    body = as_body(of_messages(odd, a_message(AT, text="other"))).replace(b'"NUMBER"', number.encode())
    texts = [parse(value, reaction_opens=False) for _, value in meta.read(body, AT)]
    assert [one.content["text"] for one in texts if isinstance(one, CustomerMessage)] == ["odd", "other"]


QUICK, SLOW = b"1", (b"1" * 30, b'"\\ud800"')
"""What the quick reader and writer know, and what they leave to Python's own."""


def nested(depth: int, inner: bytes) -> bytes:
    """A body whose one entry is ``inner`` in so many lists; around it are two levels more."""
    return b'{"entry": [' + b"[" * depth + inner + b"]" * depth + b"]}"


def is_read(body: bytes) -> bool:
    """Nothing but that it is unreadable may be raised."""
    with suppress(meta.UnreadableError):
        return bool(meta.split(meta.parse(body), AT))
    return False


def test_no_depth_raises_anything_but_that_it_is_unreadable() -> None:
    for inner in (QUICK, *SLOW):
        told = [is_read(nested(depth, inner)) for depth in range(1, 1100)]
        assert told == sorted(told, reverse=True)  # up to some depth, and from there on never
        assert told.index(False) >= 250


@pytest.mark.parametrize("inner", [QUICK, *SLOW])
def test_how_deep_a_body_is_read_depends_neither_on_the_stack_nor_on_its_limit(inner: bytes) -> None:
    def read_from(frames: int) -> list[bool]:
        return read_from(frames - 1) if frames else [is_read(nested(depth, inner)) for depth in range(200, 1030, 5)]

    usual, limit = read_from(0), sys.getrecursionlimit()
    assert read_from(300) == usual
    try:
        sys.setrecursionlimit(20_000)
        assert read_from(0) == usual
    finally:
        sys.setrecursionlimit(limit)


class Finalized:
    """Garbage that only the collector finds, and whose end takes some frames of the stack."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        self.end(30)

    def end(self, frames: int) -> None:
        if frames:
            self.end(frames - 1)


@pytest.mark.parametrize("inner", [QUICK, *SLOW])
def test_the_end_of_other_objects_finds_room_on_the_stack_while_a_deep_body_is_read(
    inner: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)
    thresholds = gc.get_threshold()
    try:
        for depth in range(600, 1030, 5):
            body = nested(depth, inner)
            gc.collect(0)
            gc.set_threshold(depth - 100)  # so many lists later the collector runs
            Finalized()
            is_read(body)
    finally:
        gc.set_threshold(*thresholds)
        gc.collect(0)
    assert failed == []


class Counting(list[Any]):
    """Cards that count how often somebody goes through them."""

    rounds = 0

    def __iter__(self) -> Any:
        self.rounds += 1
        return super().__iter__()


def test_cards_are_gone_through_once_however_many_items_there_are() -> None:
    cards = Counting(a_contact(f"4477009{n:05}", None, f"Person {n}") for n in range(2000))
    messages = [a_message(AT, **{"from": f"4477009{n:05}"}) for n in reversed(range(2000))]
    records = split(of_messages(*messages, contacts=cards))
    assert [record.contact and record.contact["wa_id"] for record in records] == [one["from"] for one in messages]
    assert cards.rounds <= 2


def test_items_beside_one_that_is_nested_too_deeply_go_on_and_the_body_stays_too() -> None:
    deep = json.loads("[" * 400 + "]" * 400)
    one, other = a_message(AT, "1"), a_message(AT, "3")
    body = as_body(of_messages(one, a_message(AT, "2", deep=deep), other))
    records = [MetaWebhook.decode(record[1]) for record in meta.read(body, AT)]
    assert [record.item_kind for record in records] == ["message", "message", "body"]
    assert [record.item for record in records[:2]] == [one, other]
    assert zlib.decompress(base64.b64decode(records[2].item["zlib_base64"])) == body


def kept_whole(body: bytes) -> str:
    """The reason for which the one record holds all of the body."""
    (record,) = meta.read(body, AT)
    assert len(record[1]) < len(body)
    item = MetaWebhook.decode(record[1]).item
    assert zlib.decompress(base64.b64decode(item["zlib_base64"])) == body
    return str(item["reason"])


def test_a_body_of_more_items_than_a_webhook_ever_has_stays_whole() -> None:
    statuses = [a_status(f"wamid.{n}", "sent", AT) for n in range(meta.MAX_RECORDS + 1)]
    webhook = a_webhook(a_value(statuses=statuses))
    assert kept_whole(as_body(webhook)) == "too_many_items"
    webhook["entry"][0]["changes"][0]["value"]["statuses"].pop()
    assert len(meta.read(as_body(webhook), AT)) == meta.MAX_RECORDS


def test_a_body_that_would_grow_to_a_multiple_of_itself_stays_whole() -> None:
    assert kept_whole(b'{"entry":[{"changes":[' + b"1," * 4_000 + b"1]}]}") == "too_many_items"
    assert kept_whole(b'{"entry":[' + b"1," * 1_500_000 + b"1]}") == "too_many_items"


def test_what_names_nobody_is_spread_and_the_same_goes_to_the_same_place() -> None:
    (body,) = meta.read(b'{"entry": []}', AT)[:1]
    keys = [record[0] for record in meta.split([{"n": n} for n in range(50)], AT)]
    keys += [meta.split({"n": n}, AT)[0][0] for n in range(50)]
    assert len(set(keys)) > 40
    assert meta.read(b'{"entry": []}', AT)[0][0] == body[0]
