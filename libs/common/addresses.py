"""Ids as path segments of URLs. Pure.

Rule 1: a provider's URL is built from its base, fixed words and ``segment(id)``, never from a bare id. An id with a
        slash, a dot or a question mark would reach another endpoint with our token.
"""

from urllib.parse import quote


def segment(part: str) -> str:
    """The text as exactly one path segment.

    Raises ValueError for an empty text, ``.`` and ``..``.
    """
    if part in ("", ".", ".."):
        raise ValueError("no segment of an address")
    return quote(part, safe="")
