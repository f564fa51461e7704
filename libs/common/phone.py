"""Phone numbers as Transom stores them: E.164 with the plus sign. Pure.

Rule 1: a *possible* number is enough. Which numbers are in use changes by the week, and numbers for examples and tests
        are never in use.
Rule 2: decoration around a number is dropped: ``_DROPPED``, ``tel:``, a trunk 0 in brackets, a
        leading 00, digits of other scripts. A letter is not: it makes a vanity number, or an extension of a
        switchboard, which no message reaches.
Rule 3: a number is stored as its owner gave it. Numbers are compared by ``canonical``, the one number of a line.

Meta's ``wa_id`` is the same number without the plus. ``wa.me`` links want the digits alone. Meta puts the business
number's country code before a number without the plus, so a send may reach a stranger.
"""

import re
import unicodedata
from functools import lru_cache
from urllib.parse import unquote

import phonenumbers

from libs.common.numbering import canonical, dialled, same_line, spellings

__all__ = ["canonical", "dialled", "digits", "from_wa_id", "normalise", "same_line", "spellings"]

MAX_RAW = 200
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_TEL = re.compile(r"\W*tel:", re.IGNORECASE)
_TRUNK = re.compile(r"\(0\)")  # "+44 (0)7700 …": dialled at home only
_FILLERS = "\u034f\u115f\u1160\u2800\u3164\uffa0"  # invisible, though Unicode calls them letters and marks
# dots, slashes, and signs that look like a dash and have another name
_SIGNS = "./·\u2024\uff0e\u30fb\uff0f\u2212\u02d7\u2043\u30fc\uff70\u00a8"
_DROPPED = frozenset({"Cf", "Zs", "Zl", "Zp", "Pd"})  # invisible, spaces, dashes
_OPENING, _CLOSING = "([\uff08\uff3b", ")]\uff09\uff3d"
_PLUS = "+\uff0b\ufe62"


def normalise(raw: object) -> str | None:
    """``+447700900999`` from any way of writing it; None when it is no possible international number.

    A number without its country code is none.
    """
    if not isinstance(raw, str) or len(raw) > MAX_RAW:
        return None
    return _normalise(raw)


def from_wa_id(wa_id: object) -> str | None:
    """The phone number of a ``wa_id`` (digits without a plus); None for a BSUID or anything else.

    Meta's numbers are not checked further.
    """
    if not isinstance(wa_id, str):
        return None
    number = f"+{wa_id}"
    return number if _E164.fullmatch(number) else None


def digits(phone: str) -> str:
    """The digits alone, as ``wa.me`` and Vonage want them."""
    return "".join(c for c in phone if c.isascii() and c.isdigit())


@lru_cache(maxsize=1 << 14)
def _normalise(raw: str) -> str | None:
    if _TEL.match(raw):
        raw = _of_uri(raw)
    bare = _bare(raw)
    if bare is None:
        return None
    # Italy and a few others keep the 0 also from abroad, and some write it in brackets as well
    readings = dict.fromkeys((_TRUNK.sub("", bare), _TRUNK.sub("0", bare)))
    found = [number for reading in readings if (number := _read(reading.translate(_NO_BRACKETS))) is not None]
    return next((n for n in found if len(found) > 1 and _is_in_use(n)), found[0] if found else None)


def _of_uri(raw: str) -> str:
    """The number in a ``tel:`` URI (RFC 3966).

    An extension makes it unreadable; other parameters do not belong to the number.
    """
    number, *parameters = unquote(raw.split(":", 1)[1]).split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        match name.strip().lower():
            case "ext" if value.strip():
                return ""
            case "phone-context" if value.strip().startswith("+") and "+" not in number:
                number = value.strip() + number
    return number


def _bare(raw: str) -> str | None:
    """Digits, a plus at the start, and brackets; None when the text holds anything else that is no decoration."""
    kept: list[str] = []
    for character in raw.strip("'\"\u2018\u2019\u201c\u201d\u00b4` \t\r\n"):
        if "0" <= character <= "9":
            kept.append(character)
        elif character in _PLUS:
            kept.append("+")
        elif character in _OPENING:
            kept.append("(")
        elif character in _CLOSING:
            kept.append(")")
        elif (category := unicodedata.category(character)) == "Nd":
            kept.append(str(unicodedata.decimal(character)))
        elif not (
            category in _DROPPED
            or character.isspace()
            or character in _SIGNS
            or character in _FILLERS
            or "\ufe00" <= character <= "\ufe0f"
        ):
            return None
    return "".join(kept)


_NO_BRACKETS = str.maketrans("", "", "()")


def _read(bare: str) -> str | None:
    if bare.startswith("00"):
        bare = "+" + bare[2:]
    if bare.rfind("+") != 0:
        return None
    try:
        found = phonenumbers.parse(bare)
    except phonenumbers.NumberParseException:
        return None
    e164 = phonenumbers.format_number(found, phonenumbers.PhoneNumberFormat.E164)
    if not _E164.fullmatch(e164):
        return None
    if e164 != bare and (again := _read(e164)) != e164:
        return again  # several trunk zeros: a stored number must be read again as itself
    if phonenumbers.is_possible_number_with_reason(found) == phonenumbers.ValidationResult.IS_POSSIBLE:
        return e164
    return e164 if canonical(e164) != e164 else None  # a number of the previous plan


def _is_in_use(e164: str) -> bool:
    return phonenumbers.is_valid_number(phonenumbers.parse(e164))
