"""Instants, numbers and names as every page writes them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from libs.common.pages.values import initial, tel, utc, wa_me, written


def test_an_instant_is_written_in_utc_to_the_second() -> None:
    at = datetime(2026, 7, 1, 0, 30, 59, 999_999, tzinfo=ZoneInfo("Europe/Berlin"))
    assert (utc(at), utc(at.astimezone(UTC))) == ("2026-06-30T22:30:59Z", "2026-06-30T22:30:59Z")


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+447700900123", "+44 7700 900123"), ("+4930123456", "+49 30 123456"), ("07700900123", "07700900123"), ("", "")],
)
def test_a_number_is_written_in_the_international_form(number: str, shown: str) -> None:
    assert written(number) == shown


@pytest.mark.parametrize(
    ("name", "letter"),
    [("acme", "A"), ("  “élan”", "É"), ("24 hours", "2"), ("ßen", "S"), ("…", "•"), ("", "•"), ("李", "李")],
)
def test_a_mark_is_the_first_letter_of_a_name(name: str, letter: str) -> None:
    assert initial(name) == letter


@pytest.mark.parametrize("number", ["+447700900123", "447700900123", "+44 7700 900-123", "+44٣7700900123"])
def test_a_link_has_the_digits_alone(number: str) -> None:
    assert (wa_me(number), tel(number)) == ("https://wa.me/447700900123", "tel:+447700900123")
