"""An organisation's name as its SMS begin with it: in GSM-7, short, without a link or a number of its own. Pure.

Rule 1: the two links of a bridge are the only ones that a phone makes of it. A name brings none: no ``/ : @ +``, no
        ``www``, no dot before a letter, and no seven digits in a row, however they are grouped.
Rule 2: the rule is applied after the transliteration, because a dot of another script becomes a dot by it.
Rule 3: the name has at most 40 septets.
"""

import re

from libs.common.gsm7 import shorten, transliterate

MOST_SEPTETS = 40

_MARKS = re.compile(r"[/:@+\\]")
_WWW = re.compile(r"\bwww\b\.?", re.IGNORECASE)
_DOT = re.compile(r"\.(?=[^ .])")
_NUMBER = re.compile(r"[0-9](?:[^0-9A-Za-z]*[0-9]){6,}")
_SPACES = re.compile(" +")


def sms_name(name: str) -> str:
    """The name as an SMS writes it; empty where nothing of it can be written."""
    return shorten(_without_links(transliterate(name)), MOST_SEPTETS)


def carries_a_link(name: str) -> bool:
    """Whether something of the name is left out or spaced because a phone could make a link of it."""
    written = transliterate(name)
    return _without_links(written) != written


def _without_links(written: str) -> str:
    spaced = _DOT.sub(". ", _WWW.sub(" ", _MARKS.sub(" ", written)))
    return _SPACES.sub(" ", _NUMBER.sub(" ", spaced)).strip(" ")
