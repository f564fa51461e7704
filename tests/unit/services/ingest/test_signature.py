"""Signatures: the documented vectors, and that nothing in a header ever raises."""

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.signature import same_token, signed_by_meta, signed_by_twilio

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
    assert not signed_by_twilio(URL, CALL, header, [b"12345"])


def test_the_documented_callback_is_good() -> None:
    assert signed_by_twilio(URL, CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"old", b"12345"])
    assert not signed_by_twilio(URL, CALL, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"54321"])
    assert not signed_by_twilio(URL, CALL | {"Digits": ["12345"]}, b"RSOYDt4T1cUTdK1PDd93/VVr8B8=", [b"12345"])


def test_values_of_one_field_are_signed_once_each_and_sorted() -> None:
    form = {"Sid": ["CA123"], "SidAccount": ["AC123"], "Digits": ["5678", "1234", "1234"]}
    assert signed_by_twilio(URL, form, b"IK+Dwps556ElfBT0I3Rgjkr1wJU=", [b"12345"])


@pytest.mark.parametrize(
    ("signed", "asked"),
    [
        ("https://a.example/x?y=1", "https://a.example:443/x?y=1"),
        ("https://a.example:443/x?y=1", "https://a.example/x?y=1"),
        ("http://a.example:80/x", "http://a.example/x"),
    ],
)
def test_the_default_port_makes_no_difference(signed: str, asked: str) -> None:
    header = base64.b64encode(hmac.digest(b"t", signed.encode(), "sha1"))
    assert signed_by_twilio(asked, {}, header, [b"t"])
    assert not signed_by_twilio(asked.replace("a.example", "b.example"), {}, header, [b"t"])


@given(st.none() | st.text())
def test_only_our_token_shakes_hands(token: str | None) -> None:
    assert same_token(token, b"the-token") is (token == "the-token")
