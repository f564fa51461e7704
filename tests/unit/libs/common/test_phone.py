import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.phone import digits, from_wa_id, normalise

KIM = "+447700900999"


@pytest.mark.parametrize(
    "raw",
    [
        "+447700900999",
        "+44 7700 900-999",
        "0044 (7700) 900999",
        "+44 (0)7700 900999",
        "+44 ( 0 ) 7700.900/999",
        "(+44) 7700 900999",
        "+440 7700 900999",
        "'+447700900999",
        "\u202a+44 7700 900999\u202c",
        "\u2068+44 7700 900999\u2069",
        "\u200e+447700900999\u200f",
        "\ufeff+447700900999\u200b",
        "+44\u00ad7700\u2060900999",
        "+44\u034f7700\u3164900\u2800999\ufe0f",
        "+44\u20117700\u2013900\u2014999",
        "+44\u22127700\u2012900\u2015999",
        "+44\u202f7700\u00a0900\u2009999",
        "+44\t7700\n900999",
        "\uff0b447700900999",
        "\uff0b\uff14\uff14\uff17\uff17\uff10\uff10\uff19\uff10\uff10\uff19\uff19\uff19",
        "\uff0b\uff14\uff14\uff08\uff10\uff09\uff17\uff17\uff10\uff10\uff0d\uff19\uff10\uff10\uff19\uff19\uff19",
        "+\u0664\u0664\u0667\u0667\u0660\u0660\u0669\u0660\u0660\u0669\u0669\u0669",
        "+\u06f4\u06f4\u06f7\u06f7\u06f0\u06f0\u06f9\u06f0\u06f0\u06f9\u06f9\u06f9",
        "tel:+44-7700-900999",
        "TEL:+447700900999;isub=1411;x=y",
        "tel:%2B44%207700%20900999",
        "tel:7700-900999;phone-context=+44",
        "\u200etel:\u202a+44 7700 900999\u202c",
    ],
)
def test_what_is_written_around_a_number_is_forgiven(raw: str) -> None:
    assert normalise(raw) == KIM


@pytest.mark.parametrize(
    "raw",
    [
        "07700900999",
        "(0)7700 900999",
        "447700900999",
        "+1 800 FLOWERS",
        "+44 7700 900999 ext. 5",
        "+44 7700 900999 x5",
        "+44 7700 900999 #5",
        "tel:+447700900999;ext=5",
        "+44 7700 900999\u00b2",
        "+44 7700 900999, +44 7700 900998",
        "+44 7700 900999 / +44 7700 900998",
        "++447700900999",
        "+447700900999\x00",
        "+4477",
        "+44770090099900",
        "+999123456789",
        "+0447700900999",
        "+",
        "",
        "9" * 1_000_000,
        None,
        447700900999,
    ],
)
def test_what_is_no_possible_international_number_is_refused(raw: object) -> None:
    assert normalise(raw) is None


def test_numbers_of_examples_and_tests_are_as_good_as_others() -> None:
    assert [normalise(n) for n in ("+12025550123", "+447700900000", "+61491570156")] == [
        "+12025550123",
        "+447700900000",
        "+61491570156",
    ]


def test_a_zero_in_brackets_stays_where_it_is_dialled_from_abroad() -> None:
    assert normalise("+39 (0)6 1234 5678") == "+390612345678"


def test_a_number_of_the_plan_before_is_still_a_number() -> None:
    assert [
        normalise(n) for n in ("+521 55 0000 0001", "+225 07 00 00 01", "+229 61 23 45 67", "+84 162 123 4567")
    ] == [
        "+5215500000001",
        "+22507000001",
        "+22961234567",
        "+841621234567",
    ]


@pytest.mark.parametrize(
    "raw", ["+310000000", "+31000000", "+31 0000 20 123 4567", "+49 00 30 1234567", "+44000 7700 900999"]
)
def test_a_number_that_is_kept_is_read_again_as_itself(raw: str) -> None:
    found = normalise(raw)
    assert found is None or normalise(found) == found


def test_a_wa_id_is_a_phone_without_the_plus_and_a_bsuid_is_none() -> None:
    assert from_wa_id("447700900999") == KIM
    assert from_wa_id("551190000001") == "+551190000001"
    assert from_wa_id("GB.13491208655302741918") is None
    assert from_wa_id("0447700900999") is None
    assert digits("+44 7700 900999") == "447700900999"


@given(st.text() | st.from_regex(r"\A\+[0-9() -]{6,18}\Z"))
def test_any_text_is_a_phone_or_none(raw: str) -> None:
    found = normalise(raw)
    assert found is None or normalise(found) == found
