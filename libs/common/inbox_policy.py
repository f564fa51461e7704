"""What an organisation's policy says about its inbox: when unread conversations are told, holds, releases. Pure.

Rule 1: a value that cannot be one has its default and is named in ``faults`` (``libs.common.policy_values``).
Rule 2: without a policy nothing is sent by itself: parked texts are offered.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from libs.common.policy_values import policy_from, whole_number

ESCALATE_MINUTES, LEAST_ESCALATE, MOST_ESCALATE = 30, 5, 1440
HOLD_MINUTES, LEAST_HOLD, MOST_HOLD = 60, 1, 7 * 1440

Release = Literal["offer", "send"]


class InboxPolicy(NamedTuple):
    """What an organisation wants of its inbox."""

    escalate_after: timedelta
    """How long a conversation may be unread before it is told."""
    hold: timedelta
    """How long staff hold the AI back, where they do not say so."""
    release: Release
    """What becomes of parked texts when the window opens."""


def read_inbox_policy(policy: Mapping[str, Any]) -> tuple[InboxPolicy, tuple[str, ...]]:
    """The policy of the inbox, and the names of the fields that have a default because their value cannot be one."""
    faults: list[str] = []
    escalate = whole_number(
        policy, "escalate_minutes", faults, default=ESCALATE_MINUTES, least=LEAST_ESCALATE, most=MOST_ESCALATE
    )
    hold = whole_number(policy, "hold_minutes", faults, default=HOLD_MINUTES, least=LEAST_HOLD, most=MOST_HOLD)
    release = _release(policy, faults)
    return InboxPolicy(timedelta(minutes=escalate), timedelta(minutes=hold), release), tuple(faults)


@lru_cache(maxsize=1 << 13)
def inbox_policy_of(policy: str | None) -> InboxPolicy:
    """The policy of the inbox by the organisation's policy as JSON text; None is an empty one."""
    return read_inbox_policy(policy_from(policy))[0]


def _release(policy: Mapping[str, Any], faults: list[str]) -> Release:
    match policy.get("release"):
        case "send":
            return "send"
        case None | "offer":
            return "offer"
        case _:
            faults.append("release")
            return "offer"
