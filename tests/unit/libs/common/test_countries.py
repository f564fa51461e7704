"""A number's country is the one whose calling code it begins with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.countries import ANYWHERE, country_of


@pytest.mark.parametrize(
    ("phone", "country"),
    [
        ("+447700900999", "GB"),
        ("+353861234567", "IE"),
        ("+4915112345678", "DE"),
        ("+12025550123", "US"),
        ("+14165550123", "CA"),
        ("+18765550123", "JM"),
        ("+17875550123", "PR"),
        ("+79161234567", "RU"),
        ("+77011234567", "KZ"),
        ("+998901234567", "UZ"),
        ("+393331234567", "IT"),
        ("+8613812345678", "CN"),
        ("+85291234567", "HK"),
        ("+881612345678", ANYWHERE),
        ("+80012345678", ANYWHERE),
        ("", ANYWHERE),
    ],
)
def test_the_longest_calling_code_decides(phone: str, country: str) -> None:
    assert country_of(phone) == country


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_every_number_has_a_country_or_none(phone: str) -> None:
    country = country_of(phone)
    assert country == ANYWHERE or (len(country) == 2 and country.isupper())
