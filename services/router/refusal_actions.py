"""The action that a refusal causes for its message. Pure.

Rule 1: a refusal counts only for the attempt that the message is at, and only while that attempt is unsettled.
        ``slot_freed`` counts only for a message that a bridge silenced. Any other refusal is late: the recorded
        decision is published again, or nothing.
Rule 2: the third refusal ends the message as ``failed``/``provider_refused``. Refusals for the account or for
        throttling use up no attempt; such a message ends when a day has passed since its first attempt.
Rule 3: after a transient fault of the provider the message is tried once more. A fallback template that failed so
        twice is spent, and the next attempt is the bridge. A requested template that Meta refuses fails with the
        code, because nothing else could be sent.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.events.outbound import OutboundRefused
from libs.common.thread.failure_reasons import BRIDGE_ALREADY_SENT
from libs.common.thread.message_status import PROVIDER_REFUSED

MAX_REFUSALS = 3
"""The refusal that counts as this number ends the message."""
FREE = frozenset({"account", "throttled", "portal_unread"})
"""Refusals that use up no attempt."""
LIFETIME = timedelta(hours=24)

RefusalAction = Literal["decide", "repeat", "end", "ignore"]
"""Decide the next attempt, publish what stands recorded of it, end the message, or do nothing."""


class RefusedMessage(NamedTuple):
    """A message that was refused, its row locked.

    ``route`` and ``record`` are of its latest decision, ``refusals`` are those of earlier attempts. ``arrived``: its
    provider said that it reached the customer.
    """

    org_id: str
    message_id: UUID
    attempt: int
    status: str
    reason: str | None
    sequence: int
    route: str
    record: dict[str, Any]
    refusals: Sequence[str]
    first_decided_at: datetime
    arrived: bool


def action_for(refusal: OutboundRefused, message: RefusedMessage, now: datetime) -> RefusalAction:
    """The action for a refusal, by the present state of the message."""
    if refusal.attempt < message.attempt:
        return "repeat"
    if refusal.attempt > message.attempt:
        return "ignore"
    last = _is_last(refusal, message, now)
    if refusal.reason == "slot_freed":
        silenced = message.status == "failed" and (message.reason or "").endswith(BRIDGE_ALREADY_SENT)
        return "decide" if silenced and not last else "ignore"
    unsettled = message.status in ("pending", "sent")
    if not last:
        return "decide" if unsettled else "ignore"
    ended = message.status == "failed" and message.reason == PROVIDER_REFUSED
    return "end" if unsettled or ended else "ignore"


def _is_last(refusal: OutboundRefused, message: RefusedMessage, now: datetime) -> bool:
    refusals = [*message.refusals, refusal.reason]
    if sum(reason not in FREE for reason in refusals) >= MAX_REFUSALS:
        return True
    match refusal.reason:
        case "account" | "throttled":
            return now >= message.first_decided_at + LIFETIME
        case "transient":
            return refusals.count("transient") > 1 and (message.route != "template" or _asked_for_template(message))
        case "template_refused":
            return _asked_for_template(message)
        case _:
            return False


def _asked_for_template(message: RefusedMessage) -> bool:
    intent = message.record.get("intent")
    return isinstance(intent, dict) and intent["content"]["kind"] == "template"
