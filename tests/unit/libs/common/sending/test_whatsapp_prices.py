"""What a WhatsApp message costs by Meta's words."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.countries import ANYWHERE
from libs.common.sending.whatsapp_prices import (
    SERVICE_BILLED_FROM,
    MetaWords,
    country_on_whatsapp,
    counts_towards_free,
    is_free,
    rate_categories,
)

BEFORE, SINCE = date(2026, 9, 30), SERVICE_BILLED_FROM


def words(
    type_: str | None = "regular", category: str = "service", *, billable: bool | None = None, day: date = SINCE
) -> MetaWords:
    return MetaWords(type_, category, billable, day)


@pytest.mark.parametrize(
    "said",
    [
        words(day=BEFORE),
        words("free_entry_point", "marketing"),
        words("free_customer_service", "utility"),
        words("free_on_sundays"),
        words(None, "utility", billable=False),
    ],
)
def test_what_meta_gives_away_is_free_and_free_form_was_until_the_first_of_october(said: MetaWords) -> None:
    assert is_free(said)


@pytest.mark.parametrize(
    "said",
    [
        words(),
        words(category="utility", day=BEFORE),
        words("paid_on_sundays"),
        words(None, "utility", billable=True),
        words("regular", "utility", billable=False),
    ],
)
def test_every_other_type_is_billed(said: MetaWords) -> None:
    assert not is_free(said)


def test_free_form_counts_towards_the_free_thousand_but_through_a_free_entry_point() -> None:
    assert counts_towards_free(words())
    assert counts_towards_free(words("free_customer_service"))
    assert not counts_towards_free(words("free_entry_point"))
    assert not counts_towards_free(words(category="utility"))
    assert not counts_towards_free(words(day=BEFORE))


@pytest.mark.parametrize(
    ("category", "asked"),
    [
        ("service", ("service", "utility")),
        ("marketing_lite", ("marketing_lite", "marketing")),
        ("authentication-international", ("authentication_international",)),
        ("utility", ("utility",)),
        ("general_purpose_ai", ("general_purpose_ai",)),
        (None, ()),
    ],
)
def test_a_category_is_priced_by_its_own_name_first_and_never_by_a_guess(
    category: str | None, asked: tuple[str, ...]
) -> None:
    assert rate_categories(category) == asked


@pytest.mark.parametrize(
    ("number", "bsuid", "country"),
    [
        ("+447700900999", None, "GB"),
        ("+447700900999", "BR.1", "GB"),
        ("", "BR.1", "BR"),
        (None, "BR.1", "BR"),
        (None, "BR.ENT.1", "BR"),
        *((None, bsuid, ANYWHERE) for bsuid in (None, "", "1", "B.1", "BRA.1", "44.1", ".BR")),
    ],
)
def test_a_customer_is_billed_by_their_number_else_by_what_their_id_begins_with(
    number: str | None, bsuid: str | None, country: str
) -> None:
    assert country_on_whatsapp(number, bsuid) == country


@given(st.builds(MetaWords, st.none() | st.text(), st.none() | st.text(), st.none() | st.booleans(), st.dates()))
def test_any_words_of_tomorrow_are_read(said: MetaWords) -> None:
    assert is_free(said) in {True, False}
    assert not (counts_towards_free(said) and said.category != "service")
