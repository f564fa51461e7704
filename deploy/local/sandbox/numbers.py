"""Telephone numbers as far as a provider looks into them. No I/O."""

import re

_TWO_DIGITS = frozenset(
    [
        "20",
        "27",
        "30",
        "31",
        "32",
        "33",
        "34",
        "36",
        "39",
        "40",
        "41",
        "43",
        "44",
        "45",
        "46",
        "47",
        "48",
        "49",
        "51",
        "52",
        "53",
        "54",
        "55",
        "56",
        "57",
        "58",
        "60",
        "61",
        "62",
        "63",
        "64",
        "65",
        "66",
        "81",
        "82",
        "84",
        "86",
        "90",
        "91",
        "92",
        "93",
        "94",
        "95",
        "98",
    ]
)
_COUNTRIES = dict(
    pair.split(":")
    for pair in ["1:US", "27:ZA", "31:NL", "33:FR", "34:ES", "39:IT", "44:GB", "49:DE", "55:BR", "91:IN"]
)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_DIGITS = re.compile(r"[1-9][0-9]{4,14}")


def calling_code(digits: str) -> str:
    """The calling code an international number (digits only) begins with."""
    if digits[:1] in ("1", "7"):
        return digits[:1]
    return digits[:2] if digits[:2] in _TWO_DIGITS else digits[:3]


def country(digits: str) -> str:
    """The country of an international number as Meta prefixes ids with it; ``ZZ`` where the sandbox does not know."""
    return _COUNTRIES.get(calling_code(digits), "ZZ")


def is_e164(text: str) -> bool:
    """Whether the text is ``+`` and 7 to 15 digits."""
    return _E164.fullmatch(text) is not None


def dialled(to: str, business_digits: str) -> str | None:
    """The digits Meta dials for ``to``, or None when it is not a number.

    Spaces, dashes, dots and brackets are ignored. Without ``+`` the business number's own country is assumed: its
    calling code is put in front unless the digits begin with it already.
    """
    text = re.sub(r"[\s().-]", "", to)
    digits = text.removeprefix("+")
    if _DIGITS.fullmatch(digits) is None:
        return None
    code = calling_code(business_digits)
    return digits if text.startswith("+") or digits.startswith(code) else code + digits
