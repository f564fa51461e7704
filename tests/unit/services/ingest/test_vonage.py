"""Vonage's callbacks: receipts, SMS in one piece and in parts, and what no callback of theirs holds."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.common.errors import Undecodable
from services.ingest import vonage
from services.ingest.items import Ignored, InboundSms, Item, MessageStatus, SmsPart
from services.ingest.parse import parse

AT = datetime(2026, 11, 26, 10, tzinfo=UTC)
SENT = AT - timedelta(seconds=3)
KEY = "abcd1234"
RECEIPT = {
    "api-key": KEY,
    "client-ref": "m1:1:abcdefgh",
    "err-code": "0",
    "message-timestamp": "2026-11-26 09:59:57",
    "messageId": "0A0000001234567B",
    "msisdn": "447700900999",
    "network-code": "23410",
    "price": "0.03330000",
    "scts": "2611260959",
    "status": "delivered",
    "timestamp": str(int(SENT.timestamp())),
    "to": "447700900001",
}
SMS = {
    "api-key": KEY,
    "keyword": "IS",
    "message-timestamp": "2026-11-26 09:59:57",
    "messageId": "0A0000000123ABCD1",
    "msisdn": "447700900999",
    "nonce": "1b2c",
    "text": "Is my car ready?",
    "timestamp": str(int(SENT.timestamp())),
    "to": "447700900001",
    "type": "text",
}


def receipt(**changes: str) -> Item:
    return parse(vonage.status_record(RECEIPT | changes, AT, KEY)[1], reaction_opens=False)


def sms(**changes: str) -> Item:
    fields = {name.replace("_", "-"): told for name, told in changes.items()}
    return parse(vonage.sms_record(SMS | fields, AT, KEY)[1], reaction_opens=False)


@pytest.mark.parametrize(
    ("told", "code", "status", "ours"),
    [
        ("accepted", "0", "sent", None),
        ("buffered", "0", "sent", None),
        ("delivered", "0", "delivered", None),
        ("expired", "2", "failed", "dlr-2"),
        ("failed", "9", "failed", "dlr-9"),
        ("rejected", "6", "failed", "dlr-6"),
        ("failed", "0", "failed", None),
        ("Delivered", "0", "delivered", None),
        ("ACCEPTD", "0", "sent", None),
        ("DELIVRD", "0", "delivered", None),
        ("UNDELIV", "4", "failed", "dlr-4"),
        ("REJECTD", "6", "failed", "dlr-6"),
        ("EXPIRED", "2", "failed", "dlr-2"),
        ("DELETED", "0", None, None),
        ("submitted", "0", None, None),
        ("unknown", "1", None, None),
        ("tomorrows_word", "0", None, None),
    ],
)
def test_vonages_words_are_statuses_of_ours(told: str, code: str, status: str | None, ours: str | None) -> None:
    one = receipt(**{"status": told, "err-code": code})
    if status is None:
        assert one == Ignored("status", ("vonage", told) if told == "tomorrows_word" else None)
        return
    assert isinstance(one, MessageStatus)
    got = one.status
    assert (got.provider, got.account, got.provider_id) == ("vonage", KEY, RECEIPT["messageId"])
    assert (got.status, got.code, got.at, got.callback) == (status, ours, SENT, RECEIPT["client-ref"])
    assert (got.item["From"], got.item["To"]) == ("+447700900001", "+447700900999")


def test_a_text_has_the_numbers_as_we_store_them_and_vonages_time() -> None:
    assert sms() == InboundSms(
        provider="vonage",
        account=KEY,
        provider_id=SMS["messageId"],
        to="+447700900001",
        sender="+447700900999",
        text="Is my car ready?",
        received_at=AT,
        at=SENT,
    )


def test_a_part_of_a_concatenated_text_says_which_one_it_is() -> None:
    one = sms(concat="true", concat_ref="17", concat_total="3", concat_part="2")
    assert isinstance(one, InboundSms)
    assert one.part == SmsPart("17", 2, 3)


WHICH = {"concat": "true", "concat-ref": "17", "concat-total": "3", "concat-part": "2"}


@pytest.mark.parametrize(
    "part",
    [
        *({"concat-part": told} for told in ("0", "4", "", "two", "2 of 3")),
        *({"concat-total": told} for told in ("0", "", "256", "1000", "\x00")),
        *({"concat-ref": told} for told in ("", "a b", "r" * 65)),
        *({"concat": told} for told in ("True", "1", "")),
    ],
)
def test_a_text_whose_fields_name_no_part_is_a_message_of_its_own(part: dict[str, str]) -> None:
    one = sms(**{"text": "STOP"} | WHICH | part)
    assert isinstance(one, InboundSms)
    assert (one.text, one.part) == ("STOP", None)


@pytest.mark.parametrize("number", ["+447700900999", " 447700900999", "00447700900999", "+44 7700 900999"])
@pytest.mark.parametrize("side", ["msisdn", "to"])
def test_a_number_is_one_however_it_is_written(side: str, number: str) -> None:
    one = sms(**{side: number})
    assert isinstance(one, InboundSms)
    assert (one.sender if side == "msisdn" else one.to) == "+447700900999"


def test_a_binary_message_has_no_text() -> None:
    one = sms(type="binary", text="")
    assert isinstance(one, InboundSms)
    assert one.text is None


@pytest.mark.parametrize("field", ["type", "concat", "message-timestamp"])
@pytest.mark.parametrize("told", ["Unicode", "\x00", "?" * 100_000])
def test_a_text_counts_without_a_type_or_date_that_cannot_be_read(field: str, told: str) -> None:
    one = sms(text="STOP", **{field: told})
    assert isinstance(one, InboundSms)
    assert (one.text, one.part, one.at) == ("STOP", None, SENT)


@pytest.mark.parametrize("sender", ["78645", "AcmeMotors"])
def test_a_sender_that_is_no_number_stays_as_it_is(sender: str) -> None:
    one = sms(msisdn=sender)
    assert isinstance(one, InboundSms)
    assert one.sender == sender


def test_without_a_unix_time_the_written_one_counts_and_without_both_none() -> None:
    one, none = sms(timestamp=""), sms(**{"timestamp": "", "message-timestamp": ""})
    assert isinstance(one, InboundSms)
    assert isinstance(none, InboundSms)
    assert (one.at, none.at) == (SENT, None)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("client-ref", "r" * 101),
        ("messageId", "0" * 65),
        ("status", "delivered!"),
        ("api-key", "another1"),
        ("messageId", ""),
    ],
)
def test_a_field_that_cannot_be_vonages_makes_a_dead_letter(field: str, told: str) -> None:
    with pytest.raises(Undecodable) as caught:
        receipt(**{field: told})
    assert caught.value.reason == "bad_status"


@pytest.mark.parametrize(
    ("field", "told"),
    [
        *(("err-code", told) for told in ("", " ", "x", "-1", "1" * 7, "1" * 100_000, "\x00")),
        *(("network-code", "234 10"), ("price", "-0.0333"), ("scts", "today"), ("message-timestamp", "?")),
    ],
)
def test_a_failure_counts_without_a_code_price_or_date_that_cannot_be_read(field: str, told: str) -> None:
    one = receipt(**{"status": "failed", "err-code": "9"} | {field: told})
    assert isinstance(one, MessageStatus)
    assert (one.status.provider_id, one.status.status) == (RECEIPT["messageId"], "failed")
    assert one.status.code == (None if field == "err-code" else "dlr-9")


def test_the_key_is_the_business_number_and_the_customer() -> None:
    assert vonage.sms_record(SMS, AT, KEY)[0] == b"447700900001:447700900999"


def test_a_receipt_tells_its_price_in_euros() -> None:
    _, value = vonage.status_record(RECEIPT, AT, KEY)
    item = parse(value, reaction_opens=False)
    assert isinstance(item, MessageStatus)
    assert (item.status.item["price"], item.status.item["currency"]) == ("0.03330000", "EUR")
