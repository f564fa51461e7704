from base64 import b64encode
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Transient
from libs.common.redact import MASK, describe, provider_id, redact, scrub

CODES = ("abc12345", "a8Bc3dEf", "Zz9Yy8Xx7Ww")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("host", ["tflow.link", "Tflow.Link", "portal.acme-motors.co.uk", "127.0.0.1:8080", "10.0.0.7"])
def test_of_a_magic_link_without_a_scheme_the_host_stays_and_the_code_does_not(host: str, code: str) -> None:
    for told in (f"Portal: {host}/{code}", f"({host}/{code})", f"{host}/{code}?again=sms", f"'{host}/{code}'"):
        assert code not in scrub(told)
        assert host in scrub(told)


def test_what_moves_a_terminal_reaches_no_line() -> None:
    event = redact(
        None, "info", {"provider_code": "30\x1b]52;c;aGk=\x07", "reason": "a\u202eb", "detail": {"x\x1b": ["\x9b2J"]}}
    )
    assert "\x1b" not in str(event.values())
    assert event["provider_code"].isprintable()
    assert event["reason"] == "ab"
    assert event["detail"] == {"x\ufffd": ["\ufffd2J"]}


@pytest.mark.parametrize("name", ["event", "reason", "kind", "source", "status", "provider", "dependency", "detail"])
@pytest.mark.parametrize(
    "private",
    [
        "HBgLMTY1MDU1NTEyMzQVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA",
        "wamid.HBgLMTY1MDU1NTEyMzQVAgAR",
        "US.13491208655302741918",
        "EAABsbCS1iHgBAKLZCZCqZBdM0ZC",
        "abcdef0123456789abcdef0123456789",
        "token:0123456789ab",
        "code:a8Bc3dEf",
    ],
)
def test_what_is_written_like_a_word_and_is_private_is_masked_in_every_field(name: str, private: str) -> None:
    assert redact(None, "info", {name: private})[name] == MASK


def test_of_an_object_that_the_renderer_could_write_no_field_shows() -> None:
    @dataclass
    class Customer:
        phone: str = "+447700900999"

    class Named(Enum):
        PHONE = "+447700900999"

    event = redact(None, "info", {"detail": Customer(), "items": [{"one": Customer()}], "kind": Named.PHONE})
    assert event == {"detail": "<Customer>", "items": [{"one": "<Customer>"}], "kind": MASK}


def test_a_line_has_an_end_whatever_is_told() -> None:
    assert len(scrub("x" * 1_000_000)) < 3000
    assert len(scrub("a-" * 500_000)) < 3000
    assert len(redact(None, "info", {"provider_code": "9" * 100_000})["provider_code"]) < 3000


@given(st.text())
def test_scrubbing_never_fails_and_is_printable(text: str) -> None:
    assert scrub(text).isprintable()


def test_a_wamid_is_shown_as_a_digest_and_a_message_sid_as_it_is() -> None:
    one, two = "wamid.HBgMNDQ3NzAwOTAwOTk5FQIAEhg=", "wamid.HBgMNDQ3NzAwOTAwOTk5FQIAEhh="
    assert provider_id(one).startswith("wamid…")
    assert provider_id(one) != provider_id(two)
    assert "HBg" not in provider_id(one)
    assert provider_id("SM0123456789abcdef0123456789abcdef") == "SM0123456789abcdef0123456789abcdef"


def a_wamid(digits: str) -> str:
    """As WhatsApp writes one: the number with its length in front, then what tells the message."""
    raw = b"\x1c\x18" + bytes([len(digits)]) + digits.encode() + b"\x15\x02\x00\x12\x18\x14" + b"3A4A7B"
    return b64encode(raw).decode()


@given(st.text("0123456789", min_size=7, max_size=15), st.sampled_from(["wamid.", ""]))
def test_nothing_of_a_number_shows_in_a_wamid_of_any_country(digits: str, kind: str) -> None:
    told = kind + a_wamid(digits)
    shown = b64encode(b"\x1c\x18" + bytes([len(digits)]) + digits[:3].encode()).decode()[4:]
    for said in (scrub(f"no message {told} here"), provider_id(told)):
        assert shown not in said
        assert "HBg" not in said


DIGITS = st.text("0123456789", min_size=7, max_size=15)


@given(DIGITS, st.sampled_from(["", "+", "00"]), st.sampled_from([" ", "call ", "to:", "(", "'", '"']))
def test_a_phone_number_never_survives(digits: str, prefix: str, before: str) -> None:
    assert digits not in scrub(f"customer {before}{prefix}{digits} wrote")


@pytest.mark.parametrize(
    "private",
    [
        "+44 7700 900999",
        "+44-7700-900-999",
        "(0044) 7700 900999",
        "Bearer EAAGm0PX4ZCpsBAKZ",
        "bearer abc.def-ghi",
        "Basic QUM6c2VjcmV0",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sflKxwRJSMeKKF2QT4",
        "EAAJZCYxkZAcsBO1234567890abcdef",
        "sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "wa.me/447700900123",
        "wamid.HBgMNDQ3NzAwOTAwOTk5FQIAEhg=",
        "0123456789abcdef0123456789abcdef",
        "https://tflow.link/a8Bc3dEf",
        "token=hush-hush",
        "secret: hush-hush",
        "kim.o-neill+garage@mail.example.co.uk",
        "hub.verify_token=hush-hush",
        "'hub.verify_token': 'hush-hush'",
        '"app_secrets": "hush-hush"',
        "X-Twilio-Signature: 0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
        "password hunter2",
        "passphrase is hunter2",
        "api_key=hush-hush",
        "GB.13491208655302741918",
        "US.ENT.11815799212886844830",
        "wacid.HBgMNDQ3NzAwOTAwOTk5FQIAEhg=",
        "HBgMNDQ3NzAwOTAwOTk5FQIAERgSOUEzQkY2",
        "+44\u200b7700\u2060900\u00ad999",
        "+44\xa07700\xa0900\xa0999",
        "+\uff14\uff14\uff17\uff17\uff10\uff10\uff19\uff10\uff10\uff19\uff19\uff19",
    ],
)
def test_what_looks_private_is_masked_wherever_it_stands(private: str) -> None:
    scrubbed = scrub(f"it failed for {private} at last")
    assert private not in scrubbed
    assert MASK in scrubbed
    assert scrubbed.startswith("it failed for ")
    assert scrubbed.endswith(" at last")


def test_of_an_address_only_the_host_stays() -> None:
    assert (
        scrub("GET https://graph.facebook.com/v26.0/1064/messages?access_token=x")
        == f"GET https://graph.facebook.com/{MASK}"
    )
    assert "pw" not in scrub("postgresql://user:pw@db.internal:5432/transom")


@pytest.mark.parametrize(
    "harmless",
    [
        "7e3f0c7a-5e8a-4b39-9d0b-0d6b3c5f1a11",
        "12345678-1234-1234-1234-123456789012",
        "2026-11-22T10:00:00Z",
        "2026-11-22",
        "127.0.0.1:5432",
        "10.0.0.17",
        "window_expired_bridge_sent",
        "131047",
    ],
)
def test_ids_times_and_addresses_of_servers_stay(harmless: str) -> None:
    assert scrub(harmless) == harmless
    assert scrub(f"see {harmless}, please") == f"see {harmless}, please"


@pytest.mark.parametrize(
    "name",
    [
        "text",
        "body",
        "phone",
        "to",
        "from",
        "access_token",
        "x_hub_signature_256",
        "Authorization",
        "app_secret",
        "password",
        "query",
        "customer_phone",
    ],
)
@pytest.mark.parametrize("value", ["hello", 447700900999, {"a": 1}, ["x"], b"x"])
def test_a_private_name_hides_whatever_it_holds(name: str, value: object) -> None:
    assert redact(None, "info", {name: value})[name] == MASK


def test_private_names_are_found_inside_values() -> None:
    event = redact(None, "info", {"detail": {"message": [{"text": "hi", "kind": "text"}], "n": 3}})
    assert event["detail"] == {"message": [{"text": MASK, "kind": "text"}], "n": 3}


def test_a_phone_number_in_an_id_field_is_masked() -> None:
    assert redact(None, "info", {"conversation_id": "+447700900999"})["conversation_id"] == MASK


@pytest.mark.parametrize("name", ["phone_number_id", "waba_id"])
def test_metas_id_of_a_number_or_of_an_account_is_no_phone_number(name: str) -> None:
    assert redact(None, "info", {name: "106400000000001"})[name] == "106400000000001"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301 -- what is raised is the argument
    except BaseException as caught:  # noqa: BLE001 -- any exception is to be described
        return caught


def test_the_words_of_an_unknown_exception_stay_inside() -> None:
    described = describe(raised(ValueError("invalid literal: 'my car is broken'")))
    assert described[0]["type"] == "ValueError"
    assert "message" not in described[0]
    assert described[0]["at"][0].endswith(" raised")


def test_our_own_words_are_told_scrubbed_with_their_cause() -> None:
    described = describe(raised(Transient("no answer about +447700900999"), ConnectionRefusedError(111, "refused")))
    assert described[0]["message"] == f"no answer about {MASK}"
    assert described[1] == {"type": "ConnectionRefusedError", "at": [], "message": "[Errno 111] refused"}


def test_a_group_tells_its_members() -> None:
    described = describe(ExceptionGroup("two", [ValueError("a"), KeyError("b")]))
    assert [one["type"] for one in described] == ["ExceptionGroup", "ValueError", "KeyError"]
