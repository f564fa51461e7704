"""Ids as parts of web addresses. Pure.

Rule 1: an address of a provider is built from its base, fixed words and ``segment(id)``, never from a bare id: an id with a slash, a dot or a
question mark would reach another endpoint with our token.
"""

from urllib.parse import quote


def segment(part: str) -> str:
    """The text as exactly one segment of a path. Raises ValueError for what a reader of addresses would take for a step: empty, ``.`` and ``..``."""
    if part in ("", ".", ".."):
        raise ValueError("no segment of an address")
    return quote(part, safe="")
