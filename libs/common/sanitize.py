"""Makes any JSON storable for PostgreSQL: replaces U+0000 and lone surrogates. Pure."""

import re
from typing import Any

import orjson

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CONTAINERS = (dict, list)
REPLACEMENT = "\ufffd"


def sanitize(value: Any) -> Any:
    """The same value with U+0000 and lone surrogates replaced by U+FFFD in every string, keys included.

    ``text`` and ``jsonb`` refuse both, and one customer's message must not fail a whole batch. All else is
    returned equal.
    """
    if _is_storable(value):
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


def _is_storable(value: object) -> bool:
    """Whether this is storable for certain: written as JSON it has no U+0000. A lone surrogate cannot be written."""
    if type(value) is str:
        return value.isascii() and "\x00" not in value
    if type(value) not in _CONTAINERS:
        return False
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:
        return False
