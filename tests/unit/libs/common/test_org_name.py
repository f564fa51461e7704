"""The name of an organisation in an SMS: what a phone could make a link of is left out, and that is told."""

# ruff: noqa: RUF001 -- look-alikes are the subject

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.gsm7 import transliterate
from libs.common.org_name import carries_a_link, sms_name

names = st.lists(st.sampled_from([*"ab7 ./:@+\\-(wW{ü．７", "www", "www."]), max_size=90).map("".join)
"""Of what makes links, in several scripts."""


@pytest.mark.parametrize(
    "name",
    [
        *("acme.example", "acme．example", "acme .EXAMPLE", "acme.7", "www acme", "Www acme", "acme/", "kim@acme"),
        *("+44", "a:b", "a\\b", "0207946", "020 79 46", "0-2-0-7-9-4-6", "０２０７９４６", "1{2}3(4)5_6!7"),
    ],
)
def test_what_a_phone_could_make_a_link_of_is_told(name: str) -> None:
    assert carries_a_link(name)


@pytest.mark.parametrize(
    "name",
    [
        *("Acme Motors Ltd.", "Acme... Motors", "St. Pauli", "Müller & Söhne", "awww", "wwwx", "020794", "A1 2B 3C 4D"),
        *("12 34 56 a 78", "", "🚗"),
    ],
)
def test_a_name_without_any_is_written_as_it_is(name: str) -> None:
    assert not carries_a_link(name)
    assert sms_name(name) == transliterate(name)


@given(names | st.text(max_size=60))
def test_what_is_written_carries_no_link_and_is_written_the_same_again(name: str) -> None:
    written = sms_name(name)
    assert not carries_a_link(written)
    assert sms_name(written) == written


def test_a_name_has_at_most_forty_septets() -> None:
    assert sms_name("x" * 41) == "x" * 40
    assert sms_name("{" * 41) == "{" * 20
