"""A number as a provider shows it, against the one that it may be."""

import pytest

from services.sms_bridge.providers import may_show_number, shows_number

TO = "+447700900999"


@pytest.mark.parametrize(
    ("shown", "may"),
    [
        (None, True),
        ("", True),
        (TO, True),
        ("+44770090XXXX", True),
        ("+4477*******99", True),
        ("XXXX", True),
        ("+44770091XXXX", False),
        ("+447700900555", False),
        (f"whatsapp:{TO}", False),
    ],
)
def test_a_masked_number_may_be_every_number_that_agrees_with_what_is_left(shown: str | None, *, may: bool) -> None:
    assert may_show_number(shown, TO) is may


@pytest.mark.parametrize(
    ("shown", "number"),
    [("+525512345678", "+5215512345678"), ("+5491123456789", "+541123456789"), ("+551187654321", "+5511987654321")],
)
def test_a_number_is_the_same_however_it_is_dialled(shown: str, number: str) -> None:
    assert shows_number(shown, number)
    assert may_show_number(shown[:-4] + "XXXX", number)


def test_a_sender_that_is_a_name_is_no_number() -> None:
    assert may_show_number("AcmeMotors", "AcmeMotors")
    assert not may_show_number("AcmeCars", "AcmeMotors")
