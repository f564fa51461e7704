"""Whether a WhatsApp message may still go. The claim asks again, because the facts may have changed in the queue. Pure.

Rule 1: the window is judged by the same rule as at the router (``libs.common.window``), without the margin for
        queueing.
Rule 2: a message whose window is closed, whose consent is withdrawn or whose template is gone is rerouted: the router
        knows other ways.
Rule 3: a message is sent only to an address that is still the customer's. A number that was given up may be a
        stranger's, so the message is rerouted.
Rule 4: a message whose business number moved to another account is rerouted: Meta knows the old id no more. One whose
        number no longer belongs to the organisation ends.
Rule 5: a message whose address was marked as unreachable after the decision is rerouted, so the failure is not
        repeated.
"""

from dataclasses import dataclass
from datetime import datetime

from libs.common.directory.addressing import KnownAddresses, WhatsAppAddress, moved
from libs.common.events.outbound import RefusalReason
from libs.common.sending.outcomes import Accepted, Allowed, Confirmed, Refused, Rerouted, Verdict
from libs.common.window import Window


@dataclass(frozen=True, slots=True)
class WhatsappFacts:
    """The facts, read in the claim's transaction.

    ``template_*`` are None for free-form messages and unknown templates. ``known`` are the customer's addresses;
    ``to_is_theirs``, where the intent itself named the number: whether it is one of the customer's.

    ``callback`` is what Meta returns in every status of this send. ``token`` overrides the system user's. ``seen`` are
    wamids under which this send was accepted already: by a call whose answer was lost, or by one whose row a restored
    database lacks.
    """

    callback: str
    number_is_ours: bool
    known: KnownAddresses
    token: str | None
    window: Window
    whatsapp_allowed: bool
    marketing_allowed: bool
    template_status: str | None = None
    template_category: str | None = None
    purpose_allowed: bool = True
    """Whether the customer consents to what the template is sent for."""
    seen: tuple[Accepted, ...] = ()
    arrived: bool = False
    """Whether the message has reached the customer by an earlier attempt."""
    to_is_theirs: bool | None = None
    number_moved: bool = False
    """Whether the conversation goes on under another id of Meta's: the business number is in another account now."""
    unreachable: bool = False
    """Whether the address was marked since this was decided: nothing arrives there by WhatsApp."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The facts that the call needs beside the command."""

    callback: str
    token: str | None
    customer_at: datetime | None
    wa_id: str | None = None
    bsuid: str | None = None
    doubtful_since: datetime | None = None
    """When the send was made whose refusal this send confirms or disproves (``Window.doubtful_since``)."""


def judge(route: str, address: WhatsAppAddress, facts: WhatsappFacts, now: datetime) -> Verdict[Ready]:
    """The verdict on one row; ``route`` (session or template) and ``address`` are the command's."""
    if facts.seen:
        return Confirmed(facts.seen)
    if facts.arrived:
        return Refused(None, "already_delivered")
    if facts.number_moved:
        return Rerouted("address_changed")
    if not facts.number_is_ours:
        return Refused(None, "unknown_conversation")
    objection = _objection(route, address, facts, now)
    if objection is not None:
        return Rerouted(objection)
    known = facts.known
    return Allowed(
        Ready(
            *(facts.callback, facts.token, facts.window.last_customer_at),
            *(known.wa_id, known.bsuid, facts.window.doubtful_since),
        )
    )


def _objection(route: str, address: WhatsAppAddress, facts: WhatsappFacts, now: datetime) -> RefusalReason | None:
    named = facts.to_is_theirs is not None
    if facts.to_is_theirs is False or moved(facts.known, to=address.to, recipient=address.recipient, named=named):
        return "address_changed"
    if not facts.whatsapp_allowed:
        return "consent_off"
    if facts.unreachable:
        return "unreachable"
    if route != "template":
        return None if facts.window.is_open(now) else "window_closed"
    if facts.template_status != "APPROVED":
        return "template_not_approved"
    unwanted = facts.template_category == "MARKETING" and not facts.marketing_allowed
    return "consent_off" if unwanted or not facts.purpose_allowed else None
