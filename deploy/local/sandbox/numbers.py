"""Telephone numbers as far as a provider looks into them. No I/O."""

import re

_CALLING_CODE = re.compile(r"[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|\d{0,3}")
_COUNTRIES = {"1": "US", "27": "ZA", "31": "NL", "33": "FR", "34": "ES", "39": "IT", "44": "GB", "49": "DE"}
_COUNTRIES |= {"55": "BR", "91": "IN"}
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_DIGITS = re.compile(r"[1-9][0-9]{4,14}")


def calling_code(digits: str) -> str:
    """The calling code an international number (digits only) begins with."""
    found = _CALLING_CODE.match(digits)
    return found[0] if found else ""


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
