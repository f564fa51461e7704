"""Whether an SMS may still be sent, asked in the claim because facts change between decision and send. Pure.

Rule 1: a bridge that is no longer needed goes back to the router: the window is open (without a margin), WhatsApp is
        allowed, and the address is not marked. A message that has arrived by an earlier attempt needs no bridge.
Rule 2: a message that may no longer be sent by SMS ends with the reason of the decision table (rows 9, 12 and 13). That
        holds for bridges and for plain text. The rule is ``libs.common.sms_reach``, on fresh facts.
Rule 3: a bridge is sent only while no other bridge holds the slot of its conversation. Two customers who turn out to be
        one had a slot each.
Rule 4: only the number that the router decided for is written to, because a former number may be another person's.
        Where the customer has another number now, or the organisation another SMS number, the router decides again.
Rule 5: what passes is asked twice more: whether its country rests for the account or the number (``country_pauses``),
        and whether the organisation's day has room (``spend``), which the SMS of a batch share.
"""

from dataclasses import dataclass
from datetime import datetime

from libs.common.events.outbound import BridgeReason
from libs.common.phone import same_line
from libs.common.sending.outcomes import Refused, Rerouted
from libs.common.sms_policy import DAILY_SEGMENTS
from libs.common.sms_reach import SmsReach, obstacle
from libs.common.thread.failure_reasons import closed_by, failure_reason
from libs.common.window import Window


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What is stored, as read in the claim's transaction."""

    window: Window
    whatsapp_allowed: bool
    reach: SmsReach
    slot_taken: bool
    """Whether another message's bridge holds the slot of the conversation."""
    unreachable: bool = False
    """Whether the customer's address is marked: no WhatsApp message arrives there, even in an open window."""
    arrived: bool = False
    """Whether the message has reached the customer by an earlier attempt."""
    spent: int = 0
    """The segments of the organisation's day, those of the SMS that are to be claimed included."""
    daily_segments: int = DAILY_SEGMENTS

    def closed_by(self, now: datetime) -> BridgeReason:
        """What closes WhatsApp to the message: its reason begins with it."""
        return closed_by(window_open=self.window.is_open(now), unreachable=self.unreachable)


def refusal_reason(
    *, bridge: bool, sender: str, to: str, facts: GateFacts | None, now: datetime, named: bool = False
) -> Rerouted | Refused | None:
    """Why this SMS may not be sent; None when it may.

    ``facts`` is None when the conversation no longer exists. ``named``: the intent itself named ``to``.
    """
    if facts is None:
        return Refused(None, failure_reason("sms_unavailable"))
    if facts.arrived:
        return Refused(None, "already_delivered")
    is_open = facts.window.is_open(now)
    if bridge and facts.whatsapp_allowed and is_open and not facts.unreachable:
        return Rerouted("window_open")
    if bridge and not facts.whatsapp_allowed:
        return Refused(None, "whatsapp_consent_off")
    phone = facts.reach.phone
    reason: str | None = obstacle(facts.reach, now)
    moved = (named and phone is None) or (phone is not None and not same_line(phone, to))
    if moved or (reason is None and facts.reach.number != sender):
        return Rerouted("address_changed")
    if reason is None and bridge and facts.slot_taken:
        reason = "bridge_already_sent"
    return None if reason is None else Refused(None, failure_reason(reason, facts.closed_by(now)))
