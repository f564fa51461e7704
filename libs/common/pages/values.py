"""Instants and numbers as every page writes them. Pure."""

from datetime import UTC, datetime

import phonenumbers


def utc(at: datetime) -> str:
    """An instant for ``<time datetime>``, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def written(number: str) -> str:
    """A number as people write it, in the international form. What is no number stays as it is."""
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def initial(name: str) -> str:
    """The letter of a mark: the first one of a name."""
    return next((letter.upper() for letter in name if letter.isalnum()), "•")[:1]


def wa_me(number: str) -> str:
    """The address that opens a chat with this number in WhatsApp."""
    return f"https://wa.me/{_digits(number)}"


def tel(number: str) -> str:
    """The address that calls this number."""
    return f"tel:+{_digits(number)}"


def _digits(number: str) -> str:
    return "".join(one for one in number if one in "0123456789")
