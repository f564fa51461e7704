"""Whether a template's parameters fit its body, by Meta's rules. Pure.

Source: Meta, message templates: a body names its places ``{{1}}`` … (POSITIONAL) or ``{{customer_name}}`` (NAMED); a
send with another number or other names is refused (132000, 132012), and so is a value with a newline, a tab or more
than four spaces in a row (132018).
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

_PLACE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_FORBIDDEN = re.compile(r"[\n\r\t]| {5}")


@lru_cache(maxsize=4096)
def places(body: str) -> frozenset[str]:
    """The names (or numbers) of the places in a template's body."""
    return frozenset(_PLACE.findall(body))


def match(body: str, parameter_format: str, parameters: Mapping[str, str] | Sequence[str]) -> bool:
    """Whether every place gets a sound value and nothing is left over."""
    wanted = places(body)
    if not wanted:
        return not parameters
    if parameter_format == "NAMED":
        if not isinstance(parameters, Mapping) or parameters.keys() != wanted:
            return False
        return all(map(_valid, parameters.values()))
    if isinstance(parameters, Mapping) or wanted != {str(n) for n in range(1, len(parameters) + 1)}:
        return False
    return all(map(_valid, parameters))


def _valid(value: str) -> bool:
    return bool(value.strip()) and not _FORBIDDEN.search(value)
