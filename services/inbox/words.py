"""The words that the search finds, and what a query asks for. Pure.

Rule 1: text and query are broken into words alike: letters of every script become plain ones, in lower case.
Rule 2: a word begins with its organisation (``acme/golf``), so that one index serves all organisations and none of them
        waits for another's words.
Rule 3: a query finds a message, or a customer, that has all of its words. The last letters of a word may be missing.
Rule 4: a phone number is found by any four or more of its digits in a row. Its words begin with a plus sign, so no word
        of a text is taken for one, and a person who may not see numbers does not ask for them (``asks_for_number``).
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from anyascii import anyascii

from libs.common.pages.entries import entry_of

MOST_WORDS = 400
"""Words of one message."""
MOST_LETTERS = 40
"""Letters of a word; what is longer is found by its beginning."""
SHORTEST_QUERY, LONGEST_QUERY = 2, 100
_FEWEST_DIGITS = 4
_MOST_TEXT = 20_000
_PIECE = 256
"""Characters that are normalised at once: the time grows with the square of a run of combining marks."""
_WORD = re.compile(r"[a-z0-9]+")
# a writing system without spaces between words: each sign is a word
_IDEOGRAM = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af])")
_NUMBER = re.compile(r"[\d\s+()./\-\u2010-\u2015]+")
_SEPARATED_DIGITS = re.compile(r"\d(?:[\W_]*\d)*")


def words_in(text: str) -> list[str]:
    """The words of a text, each once, in their order."""
    found = dict.fromkeys(word[:MOST_LETTERS] for word in _WORD.findall(_plain(text[:_MOST_TEXT])))
    return list(found)[:MOST_WORDS]


def words_of_content(content: dict[str, Any]) -> list[str]:
    """The words of a message, as people read it. Codes and ids in it are no words."""
    entry = entry_of(content)
    said = [entry.name, entry.text, content.get("text"), content.get("caption"), *entry.options]
    if content.get("kind") == "template":
        parameters = content.get("parameters")
        said += [content.get("name"), *(parameters.values() if isinstance(parameters, dict) else parameters or ())]
    if content.get("kind") == "contacts":
        said = []  # their numbers are not for everybody
    return words_in("\n".join(text for text in said if isinstance(text, str)))


def words_of_customer(name: str | None, phones: Iterable[str]) -> list[str]:
    """The words of a customer: of their name, and of every end of their numbers (E.164, or digits alone)."""
    ends: dict[str, None] = {}
    for phone in phones:
        digits = _digits(phone)
        ends |= {f"+{digits[at:]}": None for at in range(len(digits) - _FEWEST_DIGITS + 1)}
    return [*words_in(name or ""), *ends]


def lexemes(org_id: str, words: Iterable[str]) -> list[str]:
    """The words as they stand in the index."""
    return [f"{org_id}/{word}" for word in words]


def asks_for_number(query: str) -> bool:
    """Whether a query may ask for a phone number: it has four digits, as words are read, with no letter between."""
    return any(len(_digits(found)) >= _FEWEST_DIGITS for found in _SEPARATED_DIGITS.findall(_plain(query)))


def text_query(org_id: str, query: str) -> str | None:
    """The query for words of messages and names, as text of a ``tsquery``; None where it has no word."""
    words = words_in(query)
    return " & ".join(_prefix(org_id, word) for word in words) if words else None


def number_query(org_id: str, query: str) -> str | None:
    """The query for numbers; None where it is no part of one. A trunk 0 at its beginning is left out."""
    if _NUMBER.fullmatch(unicodedata.normalize("NFKC", query).strip()) is None:
        return None
    digits = _digits(query).lstrip("0")
    return _prefix(org_id, f"+{digits}") if len(digits) >= _FEWEST_DIGITS else None


def _plain(text: str) -> str:
    """The text in plain small letters and digits, with spaces around signs that are words."""
    pieces = (text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
    spaced = _IDEOGRAM.sub(r" \1 ", "".join(unicodedata.normalize("NFKC", piece) for piece in pieces))
    return (spaced if spaced.isascii() else anyascii(spaced)).lower()


def _prefix(org_id: str, word: str) -> str:
    quoted = f"{org_id}/{word}".replace("\\", "\\\\").replace("'", "''")
    return f"'{quoted}':*"


def _digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(c)) for c in text if unicodedata.category(c) == "Nd")
