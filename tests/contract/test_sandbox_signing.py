"""The sandbox signs, and counts segments, as the providers document it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.sandbox.numbers import dialled
from deploy.local.sandbox.segments import BASIC, EXTENDED, segments
from deploy.local.sandbox.signing import meta_json, meta_signature, twilio_signature

URL = "https://mycompany.com/myapp.php?foo=1&bar=2"


def test_meta_signs_the_documented_example() -> None:
    signature = meta_signature("It's a Secret to Everybody", b"Hello, World!")
    assert signature == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_meta_writes_ascii_with_escaped_slashes_and_signs_those_bytes() -> None:
    value = {"messages": [{"text": {"body": "äöå 😀 a/b"}}]}
    entry = [{"id": "1", "changes": [{"field": "messages", "value": value}]}]
    raw = meta_json({"object": "whatsapp_business_account", "entry": entry})
    assert rb'"\u00e4\u00f6\u00e5 \ud83d\ude00 a\/b"' in raw
    signature = meta_signature("app-secret", raw)
    assert signature == "sha256=1edf6bfca6492160a48edb31f087a6b1264bc583232a9404a72a28019482ff75"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_what_meta_writes_is_ascii_and_reads_back_the_same(value: object) -> None:
    raw = meta_json({"value": value})
    assert raw.isascii()
    assert json.loads(raw) == {"value": value}


def test_twilio_signs_the_documented_example() -> None:
    params = {
        "CallSid": "CA1234567890ABCDE",
        "Digits": "1234",
        "From": "+14158675309",
        "To": "+18005551212",
        "Caller": "+14158675309",
    }
    assert twilio_signature("12345", URL, params.items()) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="


def test_twilio_takes_the_values_of_a_repeated_name_once_and_sorted() -> None:
    params = [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")]
    assert twilio_signature("12345", URL, params) == "IK+Dwps556ElfBT0I3Rgjkr1wJU="


def test_the_gsm_alphabet_has_its_128_places() -> None:
    assert len(BASIC) == 127  # the 128th is the escape itself
    assert not BASIC & EXTENDED


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 10, 2),
        ("a" * 152 + "€" + "a" * 151, 2),
        ("a" * 152 + "€" + "a" * 152, 3),
        ("ç" + "a" * 69, 1),
        ("ç" + "a" * 70, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),
        ("\u2019" + "a" * 66 + "😀" + "a" * 3, 2),
    ],
)
def test_segments_are_counted_as_operators_charge_them(body: str, count: int) -> None:
    assert segments(body) == count


@given(st.text(alphabet=st.sampled_from(sorted(BASIC | EXTENDED)), max_size=700))
def test_no_pair_is_split_and_no_segment_wasted(body: str) -> None:
    septets = sum(2 if c in EXTENDED else 1 for c in body)
    least = 1 if septets <= 160 else -(-septets // 153)
    assert least <= segments(body) <= -(-septets // 152) + 1


@pytest.mark.parametrize(
    ("to", "business", "reached"),
    [
        ("+447700900999", "447700900123", "447700900999"),
        ("447700900999", "447700900123", "447700900999"),
        ("447700900999", "911234567890", "91447700900999"),
        ("+44 (7700) 900-999", "911234567890", "447700900999"),
        ("Kim", "447700900123", None),
        ("", "447700900123", None),
    ],
)
def test_without_a_plus_meta_dials_at_home(to: str, business: str, reached: str | None) -> None:
    assert dialled(to, business) == reached
