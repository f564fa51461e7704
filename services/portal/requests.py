"""Where a page that says what is wrong leads. Pure.

Rule 1: it leads to a path of the portal alone: ``//evil.example`` is a path, and as a link another site.
"""

from libs.common.bridge.link_codes import is_code


def path_to_try_again(path: str) -> str | None:
    """Where a page that says what is wrong leads: the conversation, a link, or nowhere. ``path`` is decoded."""
    if path == "/conversation" or path.startswith("/conversation/"):
        return "/conversation"
    return path if is_code(path.removeprefix("/")) else None
