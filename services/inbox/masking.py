"""What a person sees of numbers and ids. Pure.

Rule 1: without the capability ``customers.contact.view`` phone numbers and WhatsApp ids are masked everywhere: in the
        contact, in names, texts, file names, places and contact cards. A card keeps its name alone.
Rule 2: a provider's message id is shown to no person at all: a wamid holds the customer's number. Neither is Meta's own
        object of a message that Transom does not know.
Rule 3: a number is told by its form: after a plus sign, or ten digits and more. A date, with its time or with another
        date, and a shorter number of a document stay. The customer's own numbers are masked however they are written:
        in digits of any script, with any signs between them.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

import phonenumbers

HIDDEN = "•••• •••"
_SHOWN_DIGITS = 3
_UNSEEN = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_BETWEEN = rf"[\s().\-/_~|*\u00b7\u2010-\u2015\u2022{_UNSEEN}]{{0,3}}"
_RUN = re.compile(rf"\+?\d(?:{_BETWEEN}\d){{6,19}}")
_ANY_SIGNS = r"[\W_]{0,6}"
_BEFORE_OWN = rf"\+?(?:\d{_ANY_SIGNS}){{0,7}}"
_DAY, _MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_ONE_DATE = rf"(?:\d{{4}}-{_MONTH}-{_DAY}|{_DAY}[./]{_DAY}[./](?:\d{{4}}|\d{{2}}))"
_TIME = r"(?:[01]?\d|2[0-3])(?:\.[0-5]\d)?"
_DATE = re.compile(rf"{_ONE_DATE}(?:\s{_TIME}|\s?[-\u2010-\u2015]?\s?{_ONE_DATE})?")
_FEWEST_DIGITS = 10
_LEAST_NUMBER = 10 ** (_SHOWN_DIGITS * 2)

_NO_TEXT = frozenset(
    {"kind", "type", "media_id", "sha256", "mime_type", "message_id", "catalog_id", "product_retailer_id"}
)
"""Fields of a content that hold no words of anybody."""
_INTERNAL = frozenset({"raw"})


def masked_number(number: str | None) -> str | None:
    """``+44 •••• ••• 888``: the country and the last digits."""
    if number is None:
        return None
    digits = "".join(c for c in number if c.isdigit())
    if len(digits) <= _SHOWN_DIGITS * 2:
        return HIDDEN
    try:
        country = f"+{phonenumbers.parse(f'+{digits}').country_code} "
    except phonenumbers.NumberParseException:
        country = ""
    return f"{country}{HIDDEN} {digits[-_SHOWN_DIGITS:]}"


def masked_text(text: str, own: Collection[str]) -> str:
    """The text with the numbers in it masked. ``own``: the customer's numbers."""
    if sum(c.isdigit() for c in text) <= _SHOWN_DIGITS * 2:
        return text
    plain = text if text.isascii() else "".join(map(_plain, text))
    spans = [found.span() for found in _RUN.finditer(plain) if _is_number(found[0])]
    for number in own:
        if len(digits := _digits(number)) >= _FEWEST_DIGITS - 2:
            tail = _ANY_SIGNS.join(digits[-_FEWEST_DIGITS + 2 :])
            spans += [found.span() for found in re.finditer(_BEFORE_OWN + tail, plain)]
    shown, at = list[str](), 0
    for start, end in _joined(spans):
        shown += [text[at:start], f"{HIDDEN} {_digits(plain[start:end])[-_SHOWN_DIGITS:]}"]
        at = end
    return "".join([*shown, text[at:]])


def _is_number(run: str) -> bool:
    return run.startswith("+") or (len(_digits(run)) >= _FEWEST_DIGITS and _DATE.fullmatch(run) is None)


def _joined(spans: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans in their order, those that overlap as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _plain(letter: str) -> str:
    """A digit of any script as one of 0 to 9, a plus sign as ``+``; any other character as it is."""
    digit = unicodedata.digit(letter, None)
    return str(digit) if digit is not None else "+" if letter in "\uff0b\ufe62\u207a" else letter


def shown_content(
    content: Mapping[str, Any], *, contact: bool, own: Collection[str], target: UUID | None
) -> dict[str, Any]:
    """The content as a person sees it. ``target``: the message that a reaction is on, None where it is not known.

    ``contact``: the person may see numbers.
    """
    found = {name: value for name, value in content.items() if name not in _INTERNAL}
    if content.get("kind") == "reaction":
        found["message_id"] = None if target is None else str(target)
    if contact:
        return found
    if content.get("kind") == "contacts":
        cards = content.get("contacts")
        return {
            "kind": "contacts",
            "contacts": [_card(card, own) for card in cards] if isinstance(cards, list) else [],
        }
    masked: dict[str, Any] = _masked(found, own)
    return masked


def _card(card: Any, own: Collection[str]) -> dict[str, Any]:
    match card:
        case {"name": {"formatted_name": str(name)}}:
            return {"name": {"formatted_name": masked_text(name, own)}}
        case _:
            return {"name": {"formatted_name": HIDDEN}}


def _masked(value: Any, own: Collection[str]) -> Any:
    match value:
        case str():
            return masked_text(value, own)
        case dict():
            return {
                masked_text(key, own): inner if key in _NO_TEXT else _masked(inner, own) for key, inner in value.items()
            }
        case list():
            return [_masked(inner, own) for inner in value]
        case int() | float() if abs(value) >= _LEAST_NUMBER:  # places and amounts are smaller
            written = f"{value:.0f}"
            shown = masked_text(written, own)
            return value if shown == written else shown
        case _:
            return value


def _digits(text: str) -> str:
    return "".join(c for c in map(_plain, text) if c.isdecimal())
