"""Makes text of other parties safe for a line that a person reads. Pure.

Text of a tenant or a customer may hold control sequences. They can move a terminal's cursor, write its clipboard, or
reverse the text after them.
"""

import unicodedata

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text in one line without invisible characters.

    These are control characters, bidirectional and other formats, and surrogates.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else _UNKNOWN
