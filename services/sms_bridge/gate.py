"""Whether an SMS may still go, asked once more in the claim: queues take time. Pure.

Rule 1: a bridge that is not needed any more goes back to the router: the window is open (no margin here), WhatsApp is
        allowed, and nothing says that it does not reach the customer. What turned out to have arrived needs none.
Rule 2: a message that may not go by SMS any more ends with the reason that the decision table has for it (rows 9, 12
        and 13), for the bridge and for plain text on the SMS channel alike. The rule is one
        (``libs.common.sms_reach``), its facts are read afresh.
Rule 3: a bridge may go only while no other one holds its conversation's slot: two customers who turned out to be one
        had a slot each.
Rule 4: only the number that the router decided for is written to; a number that is the customer's no more may be a
        stranger's. Where they have another one now, the router decides anew.
"""

from dataclasses import dataclass
from datetime import datetime

from libs.common.phone import same_line
from libs.common.sending.outcomes import Refused, Returned
from libs.common.sms_reach import SmsReach, obstacle
from libs.common.window import Window


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What the database says in the claim's transaction."""

    window: Window
    whatsapp_allowed: bool
    reach: SmsReach
    slot_taken: bool
    """Whether another message's bridge holds the slot of the conversation."""
    unreachable: bool = False
    """Whether the customer's address is marked: nothing arrives there by WhatsApp, open window or not."""
    arrived: bool = False
    """Whether the message turned out to have reached the customer by an earlier attempt."""


def refusal_reason(
    *, bridge: bool, sender: str, to: str, facts: GateFacts | None, now: datetime, named: bool = False
) -> Returned | Refused | None:
    """Why this SMS may not go; None when it may.

    ``facts`` is None when the conversation is there no more. ``named``: the intent itself named ``to``.
    """
    if facts is None:
        return Refused(None, "window_expired_sms_unavailable")
    if facts.arrived:
        return Refused(None, "already_delivered")
    is_open = facts.window.is_open(now)
    if bridge and facts.whatsapp_allowed and is_open and not facts.unreachable:
        return Returned("window_open")
    if bridge and not facts.whatsapp_allowed:
        return Refused(None, "whatsapp_consent_off")
    phone = facts.reach.phone
    if (named and phone is None) or (phone is not None and not same_line(phone, to)):
        return Returned("address_changed")
    reason = _reason(bridge=bridge, sender=sender, facts=facts, now=now)
    closed_by = "whatsapp_unreachable" if is_open and facts.unreachable else "window_expired"
    return None if reason is None else Refused(None, f"{closed_by}_{reason}")


def _reason(*, bridge: bool, sender: str, facts: GateFacts, now: datetime) -> str | None:
    if (reason := obstacle(facts.reach, now)) is not None:
        return reason
    if facts.reach.number != sender:
        return "sms_unavailable"
    return "bridge_already_sent" if bridge and facts.slot_taken else None
