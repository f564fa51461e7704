"""JSON with each part of it replaced by every other type, as no sender should ever write it."""

from collections.abc import Iterator
from typing import Any

_ODD: tuple[Any, ...] = (None, True, 5, 0.5, "", "text", [], [[]], {}, {"a": [1]})


def with_odd_values(value: Any) -> Iterator[Any]:
    """The value with the whole, and each of its parts, replaced by one of each type; the rest stays as it is."""
    yield from _ODD
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        for odd in with_odd_values(part):
            changed = value.copy()
            changed[name] = odd
            yield changed
