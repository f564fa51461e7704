"""What staff wrote in the WhatsApp Business app, as Meta echoes it."""

from typing import Any

import orjson
import pytest

from services.ingest import meta
from services.ingest.items import Ignored, Sender, StaffEcho, StaffEchoes
from services.ingest.parse import parse
from tests.support.parsed import AT, all_of, the_reason
from tests.support.webhooks import (
    BSUID,
    NUMBER,
    OUR_NUMBER,
    WA_ID,
    a_contact,
    a_status,
    a_value,
    a_webhook,
    an_echo,
    of_echoes,
)

GROUP = "Y2FwaV9ncm91cDoxNzAzNTU6MTIwMzYz"


def the_echo(contacts: Any = None, **more: Any) -> StaffEcho:
    (found,) = all_of(of_echoes(an_echo(AT, **more), contacts=contacts))
    assert isinstance(found, StaffEchoes)
    (echo,) = found.echoes
    return echo


def the_key(contacts: Any = None, **more: Any) -> str:
    ((key, _),) = meta.split(of_echoes(an_echo(AT, **more), contacts=contacts), AT)
    return key.decode()


def test_an_echo_is_what_staff_wrote_to_a_customer() -> None:
    echo = the_echo(text="stop", id="wamid.1", context={"from": WA_ID, "id": "wamid.0"})
    assert echo.sender.ids == (WA_ID, None)
    assert (echo.phone_number_id, echo.provider_id, echo.at, echo.reply_to) == (NUMBER, "wamid.1", AT, "wamid.0")
    assert echo.content == {"kind": "text", "text": "stop"}  # the word is no customer's


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({}, (WA_ID, None)),
        ({"to_user_id": BSUID}, (WA_ID, BSUID)),
        ({"to": None, "to_user_id": BSUID}, (None, BSUID)),
        ({"from": WA_ID, "to": OUR_NUMBER}, (WA_ID, None)),
        ({"from": None, "from_user_id": BSUID, "to": OUR_NUMBER}, (None, BSUID)),
        ({"from": WA_ID, "to": None}, (WA_ID, None)),
        ({"from": "a number of nobody"}, (WA_ID, None)),
    ],
)
def test_the_customer_is_the_side_that_is_not_the_business(fields: dict[str, Any], ids: tuple[Any, Any]) -> None:
    assert the_echo(**fields).sender.ids == ids
    assert the_key(**fields) == f"{NUMBER}:{ids[0] or ids[1]}"


@pytest.mark.parametrize("shown", [f"+{OUR_NUMBER}", "+44 7700 900123", "(44) 7700-900-123", int(OUR_NUMBER)])
def test_the_number_of_the_business_may_be_written_in_any_way(shown: object) -> None:
    webhook = of_echoes(an_echo(AT, **{"from": WA_ID, "to": OUR_NUMBER}))
    webhook["entry"][0]["changes"][0]["value"]["metadata"]["display_phone_number"] = shown
    (found,) = all_of(webhook)
    assert isinstance(found, StaffEchoes)
    assert found.echoes[0].sender.ids == (WA_ID, None)


def test_a_card_completes_the_customer_of_its_echo_alone() -> None:
    other = "447700900998"
    cards = [a_contact(), a_contact(other, BSUID, "Pat")]
    webhook = of_echoes(an_echo(AT), an_echo(AT, to=other), contacts=cards)
    found = [item.echoes[0].sender for item in all_of(webhook) if isinstance(item, StaffEchoes)]
    assert found == [Sender(WA_ID, None, "Kim"), Sender(other, BSUID, "Pat")]


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (
            {"type": "image", "image": {"id": "1", "mime_type": "image/jpeg"}},
            {"kind": "image", "media_id": "1", "mime_type": "image/jpeg"},
        ),
        ({"type": "audio", "audio": {"id": "1", "voice": True}}, {"kind": "audio", "media_id": "1", "voice": True}),
        (
            {"type": "reaction", "reaction": {"message_id": "wamid.0", "emoji": "👍"}},
            {"kind": "reaction", "message_id": "wamid.0", "emoji": "👍"},
        ),
        (
            {"type": "revoke", "revoke": {"original_message_id": "wamid.0"}},
            {"kind": "unsupported", "type": "revoke", "raw": {"original_message_id": "wamid.0"}},
        ),
        ({"type": "hologram"}, {"kind": "unsupported", "type": "hologram"}),
    ],
)
def test_its_content_is_that_of_the_same_message_of_a_customer(
    message: dict[str, Any], content: dict[str, Any]
) -> None:
    assert the_echo(text=None, **message).content == content


@pytest.mark.parametrize("fields", [{"to": OUR_NUMBER}, {"group_id": GROUP}])
def test_what_staff_write_to_themselves_or_to_a_group_is_counted(fields: dict[str, Any]) -> None:
    assert all_of(of_echoes(an_echo(AT, **fields))) == [Ignored("echo")]


@pytest.mark.parametrize(
    ("webhook", "reason"),
    [
        (of_echoes(), "bad_change"),
        (a_webhook(a_value(message_echoes={}), field="smb_message_echoes"), "bad_change"),
        (of_echoes("no object"), "bad_item"),  # type: ignore[arg-type]  # it is none
        (of_echoes(an_echo(AT, id=None)), "no_id"),
        (of_echoes(an_echo(AT, to=None)), "no_sender"),
        (of_echoes(an_echo(AT, timestamp="never")), "bad_timestamp"),
        (of_echoes(an_echo(AT), number=None), "no_number"),  # type: ignore[arg-type]  # it is left out
    ],
)
def test_an_echo_that_cannot_be_read_is_a_dead_letter(webhook: Any, reason: str) -> None:
    assert the_reason(webhook) == reason


def test_a_record_of_an_older_edge_has_all_echoes_of_a_change() -> None:
    webhook = of_echoes(an_echo(AT), an_echo(AT, to="447700900998"), contacts=[a_contact()])
    (_, record), _ = meta.split(webhook, AT)
    whole = orjson.loads(record) | {"item": webhook["entry"][0]["changes"][0]["value"], "contact": None}
    found = parse(orjson.dumps(whole), reaction_opens=False)
    assert isinstance(found, StaffEchoes)
    assert [echo.sender for echo in found.echoes] == [Sender(WA_ID, None, "Kim"), Sender("447700900998", None)]


def test_what_stands_beside_echoes_is_not_lost() -> None:
    webhook = of_echoes(an_echo(AT))
    value = webhook["entry"][0]["changes"][0]["value"]
    value |= {"statuses": [a_status("wamid.2", "read", AT)], "errors": [{"code": 131000}]}
    found = [orjson.loads(record) for _, record in meta.split(webhook, AT)]
    assert [(one["item_kind"], one["field"]) for one in found] == [
        ("change", "smb_message_echoes"),
        ("status", "messages"),
        ("change", "messages"),
    ]
    assert found[2]["item"] == {"errors": value["errors"]}


def test_where_nothing_tells_the_business_from_the_customer_the_sender_is_none() -> None:
    webhook = of_echoes(an_echo(AT, to=None))
    del webhook["entry"][0]["changes"][0]["value"]["metadata"]["display_phone_number"]
    assert the_reason(webhook) == "no_sender"
