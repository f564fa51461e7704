"""Where a page that says what is wrong leads. Pure.

Rule 1: it leads to a path of the portal alone: ``//evil.example`` is a path, and as a link another site.
"""

import re

_LINK = re.compile(r"/[A-Za-z0-9]{11}")


def path_to_try_again(path: str) -> str | None:
    """Where a page that says what is wrong leads: the conversation, a link, or nowhere. ``path`` is decoded."""
    if path == "/conversation" or path.startswith("/conversation/"):
        return "/conversation"
    return path if _LINK.fullmatch(path) else None
