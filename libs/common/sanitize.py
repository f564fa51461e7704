"""Makes any JSON storable for PostgreSQL: replaces U+0000 and lone surrogates. Pure."""

import re
from typing import Any

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def sanitize(value: Any) -> Any:
    """The same value with U+0000 and lone surrogates replaced by U+FFFD in every string, keys included.

    ``text`` and ``jsonb`` refuse both, and one customer's message must not fail a whole batch. All else is
    returned equal (containers are copied).
    """
    if type(value) is str and value.isascii() and "\x00" not in value:
        return value  # the common case, on the path of every message
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
