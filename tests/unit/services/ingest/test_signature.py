"""Signatures: the documented vectors, and that nothing in a header ever raises."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.signature import (
    is_meta_signature,
    is_twilio_signature,
    same_token,
    signed_by_meta,
    signed_by_twilio,
    signed_by_vonage,
    twilio_urls,
)

HELLO = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
SECRET = b"It's a Secret to Everybody"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
CALL = {
    "CallSid": ["CA1234567890ABCDE"],
    "Digits": ["1234"],
    "From": ["+14158675309"],
    "To": ["+18005551212"],
    "Caller": ["+14158675309"],
}


def test_the_documented_signature_is_good() -> None:
    assert signed_by_meta(b"Hello, World!", HELLO, [SECRET])


def test_only_the_raw_bytes_have_the_digest() -> None:
    raw = (
        rb'{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"messages":'
        rb'[{"text":{"body":"\u00e4\u00f6\u00e5 \ud83d\ude00 a\/b"}}]}}]}]}'
    )
    header = b"sha256=1edf6bfca6492160a48edb31f087a6b1264bc583232a9404a72a28019482ff75"
    assert signed_by_meta(raw, header, [b"app-secret"])
    assert not signed_by_meta(raw.replace(rb"\/", b"/"), header, [b"app-secret"])


def test_any_of_several_secrets_will_do() -> None:
    assert signed_by_meta(b"Hello, World!", HELLO, [b"old", SECRET])
    assert signed_by_meta(b"Hello, World!", HELLO, [SECRET, b"new"])
    assert not signed_by_meta(b"Hello, World!", HELLO, [b"old", b"new"])
    assert not signed_by_meta(b"Hello, World!", HELLO, [])


@given(st.none() | st.binary() | st.binary().map(b"sha256=".__add__))
def test_whatever_the_header_holds_the_answer_is_no(header: bytes | None) -> None:
    assert not signed_by_meta(b"Hello, World!", header, [SECRET, b"other"])
    assert not signed_by_twilio([URL], CALL, header, [b"12345"])


def test_the_documented_callback_is_good() -> None:
    assert signed_by_twilio([URL], CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"old", b"12345"])
    assert not signed_by_twilio([URL], CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"54321"])
    assert not signed_by_twilio([URL], CALL | {"Digits": ["12345"]}, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"12345"])


def test_values_of_one_field_are_signed_once_each_and_sorted() -> None:
    form = {"Sid": ["CA123"], "SidAccount": ["AC123"], "Digits": ["5678", "1234", "1234"]}
    assert signed_by_twilio([URL], form, b"IK+Dwps556ElfBT0I3Rgjkr1wJU=", [b"12345"])


@pytest.mark.parametrize(
    ("public_url", "query", "spellings"),
    [
        ("https://a.example", "", {"https://a.example/x", "https://a.example:443/x"}),
        ("https://a.example:443", "y=1", {"https://a.example/x?y=1", "https://a.example:443/x?y=1"}),
        ("http://a.example", "", {"http://a.example/x", "http://a.example:80/x"}),
        ("https://a.example:8443", "", {"https://a.example:8443/x"}),
        (
            "https://a.example",
            "ref=m%3a1",
            {
                *("https://a.example/x?ref=m%3a1", "https://a.example:443/x?ref=m%3a1"),
                *("https://a.example/x?ref=m:1", "https://a.example:443/x?ref=m:1"),
            },
        ),
        (
            "https://a.example",
            "ref=m%3A1",
            {
                *("https://a.example/x?ref=m%3A1", "https://a.example:443/x?ref=m%3A1"),
                *("https://a.example/x?ref=m:1", "https://a.example:443/x?ref=m:1"),
            },
        ),
    ],
)
def test_the_spellings_of_an_address_are_a_closed_list(public_url: str, query: str, spellings: set[str]) -> None:
    found = twilio_urls(public_url, "/x", query)
    assert (set(found), len(found)) == (spellings, len(spellings))


@given(st.text(), st.text())
def test_there_are_at_most_four(path: str, query: str) -> None:
    assert len(twilio_urls("https://a.example", path, query)) <= 4


VONAGE = {"param1": "value1", "param2": "value2", "timestamp": "1234567890"}
VONAGE_SECRET = b"signature_secret"
VONAGE_SIG = "280c4320703dbc98bfa22db676655ed2acfbfe8792b062ff7622e67f1183c287"
"""As Vonage's own client library has it."""


def test_vonages_example_is_good_in_either_case() -> None:
    for sig in (VONAGE_SIG, VONAGE_SIG.upper()):
        assert signed_by_vonage(VONAGE | {"sig": sig}, [b"old", VONAGE_SECRET])
        assert not signed_by_vonage(VONAGE | {"sig": sig}, [b"old"])
        assert not signed_by_vonage(VONAGE | {"sig": sig, "param1": "value2"}, [VONAGE_SECRET])


def vonage_form(secret: bytes, digest: str, **fields: str) -> dict[str, str]:
    """Signed over ``&name=value`` of the fields as they stand."""
    signed = "".join(f"&{name}={value}" for name, value in sorted(fields.items()))
    return fields | {"sig": hmac.new(secret, signed.encode(), digest).hexdigest()}


@pytest.mark.parametrize(("digest", "good"), [("sha256", True), ("sha512", True), ("sha1", False), ("md5", False)])
def test_vonage_signs_by_one_of_two_digests(digest: str, *, good: bool) -> None:
    assert signed_by_vonage(vonage_form(VONAGE_SECRET, digest, **VONAGE), [VONAGE_SECRET]) is good


@pytest.mark.parametrize("name", ["text&to", "text=STOP&to", "a="])
def test_no_name_divides_the_fields_of_vonage_anew(name: str) -> None:
    assert not signed_by_vonage(vonage_form(VONAGE_SECRET, "sha256", **{name: "1"}), [VONAGE_SECRET])


def test_another_scheme_before_the_right_digest_is_no_signature_of_meta() -> None:
    for scheme in (b"sha512=", b"sha256:", b"SHA256="):
        assert not signed_by_meta(b"Hello, World!", scheme + HELLO.removeprefix(b"sha256="), [SECRET])
        assert not is_meta_signature(scheme + HELLO.removeprefix(b"sha256="))
    assert is_meta_signature(HELLO)
    assert not is_meta_signature(HELLO[:-1])
    assert not is_meta_signature(None)


@pytest.mark.parametrize(
    ("header", "good"),
    [(b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", True), (b"RSOYDt4T1cUTdK1PDd93/VVr8B8", False), (None, False)],
)
def test_a_header_of_another_form_is_no_signature_of_twilio(header: bytes | None, *, good: bool) -> None:
    assert is_twilio_signature(header) is good


def test_half_a_character_pair_is_no_reason_to_fail() -> None:
    assert not signed_by_twilio([URL], CALL | {"Body": ["\ud83d"]}, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"12345"])
    assert not signed_by_vonage(VONAGE | {"text": "\ud83d", "sig": VONAGE_SIG}, [VONAGE_SECRET])
    assert not signed_by_vonage(VONAGE | {"sig": "\ud83d" * 21 + "a"}, [VONAGE_SECRET])
    assert not same_token("\ud83d", b"the-token")


@given(st.dictionaries(st.text(), st.text(), max_size=4), st.text())
def test_whatever_a_form_of_vonage_holds_the_answer_is_no(form: dict[str, str], sig: str) -> None:
    assert not signed_by_vonage(form | {"sig": sig}, [VONAGE_SECRET])


@given(st.none() | st.text())
def test_only_our_token_shakes_hands(token: str | None) -> None:
    assert same_token(token, b"the-token") is (token == "the-token")
