"""Values of an organisation's policy. Pure.

Rule 1: a platform types the policy, so anything may stand in it. A value that cannot be one counts as missing, and its
        name is added to ``faults``; it never stops a message or a partition.
"""

import json
from collections.abc import Mapping
from typing import Any


def policy_from(text: str | None) -> Mapping[str, Any]:
    """The policy in a JSON text; None, and whatever is no object, is an empty one."""
    try:
        found = {} if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def whole_number(
    policy: Mapping[str, Any], name: str, faults: list[str], *, default: int, least: int = 0, most: int
) -> int:
    """The whole number under ``name``, from ``least`` to ``most``."""
    value = policy.get(name)
    if value is None:
        return default
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    faults.append(name)
    return default
