"""Text of others, for a line that a person reads. Pure.

What a tenant or a customer typed may hold sequences that move a terminal's cursor, write its clipboard, or turn what stands behind them around.
"""

import unicodedata

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text in one line without anything that is not seen: control characters, bidirectional and other formats, halves of characters."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "" if unicodedata.category(character) == "Cf" else _UNKNOWN
