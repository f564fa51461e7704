"""What PostgreSQL can store of any JSON: everything but U+0000 and lone surrogates. Pure."""

import re
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def sanitize(value: Any) -> Any:
    """The same value with U+0000 and lone surrogates replaced by U+FFFD in every string, keys included.

    ``text`` and ``jsonb`` refuse both, and one customer's odd message must not fail a whole batch. What PostgreSQL can store
    comes back equal (containers are copied); nothing else is changed.
    """
    if type(value) is str and value.isascii() and "\x00" not in value:
        return value  # nearly every one, and this is the way of every message
    match value:
        case str():
            return _UNSTORABLE.sub(REPLACEMENT, value)
        case dict():
            return {sanitize(key): sanitize(item) for key, item in value.items()}
        case list():
            return [sanitize(item) for item in value]
        case tuple():
            return tuple(sanitize(item) for item in value)
        case _:
            return value
