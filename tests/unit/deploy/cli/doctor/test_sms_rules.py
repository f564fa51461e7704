"""What Twilio's and Vonage's answers about accounts and numbers mean, and that none is too odd to be read."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from deploy.cli.doctor import sms_rules as rules
from deploy.cli.doctor.findings import Finding
from tests.support.odd_values import with_odd_values

NUMBER, HOOK = "+447700900001", "https://hooks.example.com/webhooks/twilio/sms"
OF_TWILIO: dict[str, Any] = {
    "phone_number": NUMBER,
    "capabilities": {"sms": True},
    "sms_url": HOOK,
    "sms_method": "POST",
}
OF_VONAGE: dict[str, Any] = {"msisdn": NUMBER[1:], "features": ["VOICE", "SMS"], "moHttpUrl": HOOK}


def codes(found: Iterable[Finding]) -> list[str]:
    return [one.code for one in found]


def of_twilio(wanted: str | None = HOOK, **changes: Any) -> list[str]:
    others = {"phone_number": "+447700900002", "sms_url": "https://other"}
    body = {"incoming_phone_numbers": [others, {**OF_TWILIO, **changes}]}
    return codes(rules.twilio_number(NUMBER, body, wanted))


def of_vonage(wanted: str | None = HOOK, **changes: Any) -> list[str]:
    body = {"numbers": [{"msisdn": "447700900002"}, {**OF_VONAGE, **changes}]}
    return codes(rules.vonage_number(NUMBER, body, wanted))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "active", "type": "Full"}, []),
        ({}, []),
        ({"status": "suspended"}, ["sms_account_not_active"]),
        ({"status": "odd", "type": "Trial"}, ["sms_account_not_active", "sms_account_trial"]),
    ],
)
def test_an_account_of_twilio_is_active_and_no_trial(body: dict[str, Any], expected: list[str]) -> None:
    assert codes(rules.twilio_account("x", body)) == expected


@pytest.mark.parametrize(
    ("status", "word"), [("suspended", "suspended"), ("closed", "closed"), ("+4477", "not active")]
)
def test_no_other_word_of_twilios_is_repeated(status: str, word: str) -> None:
    [one] = rules.twilio_account("x", {"status": status})
    assert one.problem == f"The account is {word}, so nothing is sent."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"sms_method": None, "phone_number": "+447700900003"}, ["sms_number_unknown"]),
        ({"capabilities": {"sms": False}}, ["sms_number_cannot_send"]),
        ({"capabilities": None}, []),
        ({"sms_url": "https://other"}, ["sms_webhook_elsewhere"]),
        ({"sms_method": "GET"}, ["sms_webhook_elsewhere"]),
        ({"sms_method": "post"}, []),
        ({"sms_url": "https://other", "sms_application_sid": "AP1"}, ["sms_webhook_unseen"]),
        ({"sms_url": "https://other", "sms_application_sid": "AP1", "wanted": None}, []),
        ({"capabilities": {"sms": False}, "wanted": None}, ["sms_number_cannot_send"]),
    ],
)
def test_a_number_of_twilio_sends_and_posts_to_ingest(changes: dict[str, Any], expected: list[str]) -> None:
    assert of_twilio(**changes) == expected


def test_the_method_is_post_where_twilio_names_none() -> None:
    one = {name: value for name, value in OF_TWILIO.items() if name != "sms_method"}
    assert codes(rules.twilio_number(NUMBER, {"incoming_phone_numbers": [one]}, HOOK)) == []


@pytest.mark.parametrize(
    ("body", "wanted", "expected"),
    [
        ({"use_inbound_webhook_on_number": False, "inbound_request_url": "https://other"}, HOOK, True),
        ({"use_inbound_webhook_on_number": False, "inbound_request_url": None}, HOOK, True),
        ({"use_inbound_webhook_on_number": False, "inbound_request_url": HOOK}, HOOK, False),
        ({"use_inbound_webhook_on_number": True, "inbound_request_url": "https://other"}, HOOK, False),
        ({"inbound_request_url": "https://other"}, HOOK, False),
        ({"use_inbound_webhook_on_number": False, "inbound_request_url": "https://other"}, None, False),
    ],
)
def test_a_messaging_service_that_keeps_sms_for_itself_posts_to_ingest(
    body: dict[str, Any],
    wanted: str | None,
    expected: bool,  # noqa: FBT001 -- a case
) -> None:
    assert codes(rules.twilio_service("x", body, wanted)) == ["sms_webhook_elsewhere"] * expected


@pytest.mark.parametrize(
    ("value", "reload", "low"),
    [
        (0.99, False, True),
        (0, None, True),
        (1.0, False, False),
        (0.99, True, False),
        ("0", False, False),
        (-3, 1, True),
    ],
)
def test_a_low_balance_of_vonage_is_told_unless_it_fills_itself_up(value: Any, reload: Any, low: bool) -> None:  # noqa: FBT001 -- a case
    found = codes(rules.vonage_balance("x", {"value": value, "autoReload": reload}))
    assert found == ["sms_balance_low"] * low


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"msisdn": int(NUMBER[1:])}, []),
        ({"msisdn": "447700900003"}, ["sms_number_unknown"]),
        ({"features": ["VOICE"]}, ["sms_number_cannot_send"]),
        ({"features": None}, []),
        ({"moHttpUrl": ""}, ["sms_webhook_unseen"]),
        ({"moHttpUrl": "https://other"}, ["sms_webhook_elsewhere"]),
        ({"moHttpUrl": "", "wanted": None}, []),
    ],
)
def test_a_number_of_vonage_sends_and_posts_to_ingest(changes: dict[str, Any], expected: list[str]) -> None:
    assert of_vonage(**changes) == expected


READERS: tuple[tuple[dict[str, Any], Callable[[Any], object]], ...] = (
    ({"status": "active", "type": "Full"}, lambda body: list(rules.twilio_account("x", body))),
    ({"incoming_phone_numbers": [OF_TWILIO]}, lambda body: list(rules.twilio_number(NUMBER, body, HOOK))),
    (
        {"use_inbound_webhook_on_number": False, "inbound_request_url": HOOK},
        lambda body: list(rules.twilio_service("x", body, HOOK)),
    ),
    ({"value": 0.5, "autoReload": False}, lambda body: list(rules.vonage_balance("x", body))),
    ({"numbers": [OF_VONAGE]}, lambda body: list(rules.vonage_number(NUMBER, body, HOOK))),
)


@pytest.mark.parametrize(("body", "read"), READERS)
def test_no_field_is_too_odd_to_be_read(body: dict[str, Any], read: Callable[[Any], object]) -> None:
    for odd in with_odd_values(body):
        if isinstance(odd, dict):
            read(odd)
