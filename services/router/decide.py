"""How an intent may travel. The whole decision table, as one pure function.

Law 1: the first row that matches decides; ``docs/architecture/decision.md`` shows the same table with the same numbers.
Law 2: every intent, with any facts, gets exactly one decision; nothing here raises.
Law 3: the same intent, facts and instant always get the same decision, so a stored record can be decided again.
Law 4: an unknown credit state silences no intent, and staff are never silenced by AI credit.

No I/O, no clock: ``now`` is an argument. ``libs.common.window`` says when a window is open, ``libs.common.sms_reach``
when an SMS cannot go. How a reason to be silent is added: CONTRIBUTING.md.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from libs.common import content_limits
from libs.common.events.content import OutBridge, OutTemplate, OutText, TemplateFields
from libs.common.events.fields import ConsentPurpose
from libs.common.events.intents import LINK_WANTED, Actor, BadIntent, Intent
from libs.common.events.outbound import BridgeReason, Channel, Route
from libs.common.phone import normalise
from libs.common.sms_reach import MOST_SEGMENTS, SmsObstacle, cap_reached, obstacle, parts_of, too_long
from libs.common.template_parameters import Fault, faults
from services.router.facts import Facts

SilentReason = (
    SmsObstacle
    | Literal[
        "intent_expired",
        "conversation_held",
        "whatsapp_consent_off",
        "credit_exhausted",
        "bridge_already_sent",
    ]
)
TemplateFault = Literal["template_not_approved", "template_parameters"]
ConsentFault = Literal[
    "whatsapp_consent_off", "transactional_consent_off", "service_reminders_consent_off", "marketing_consent_off"
]
RejectedReason = (
    TemplateFault
    | ConsentFault
    | Literal[
        "customer_erased",
        "unknown_conversation",
        "unsupported_content",
        "invalid_intent",
        "not_permitted",
        "whatsapp_unreachable",
        "window_open",
    ]
)


@dataclass(frozen=True, slots=True)
class Session:
    """Free-form, as it is, on ``channel``."""

    channel: Channel
    reason: Literal["live_channel", "window_open"]
    route: ClassVar[Route] = "session"


@dataclass(frozen=True, slots=True)
class Template:
    """This template, on WhatsApp."""

    template: TemplateFields
    reason: Literal["template_requested", "fallback_template"]
    channel: ClassVar[Channel] = "whatsapp"
    route: ClassVar[Route] = "template"


@dataclass(frozen=True, slots=True)
class Bridge:
    """The message itself is not sent; an SMS tells the customer that there is one, and how to read it."""

    reason: BridgeReason = "window_expired"
    channel: ClassVar[Channel] = "sms"
    route: ClassVar[Route] = "bridge"


@dataclass(frozen=True, slots=True)
class Silent:
    """Not sent: it stays in the thread, marked as not delivered.

    ``slot_holder``: the intent whose bridge stands in for this one as well.
    """

    reason: SilentReason
    slot_holder: UUID | None = None
    channel: ClassVar[Channel | None] = None
    route: ClassVar[Route] = "silent"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Never sent as it is: the producer of the intent has to change it."""

    reason: RejectedReason
    channel: ClassVar[Channel | None] = None
    route: ClassVar[Route] = "rejected"


Decision = Session | Template | Bridge | Silent | Rejected

SEND_CAPABILITIES = frozenset({"messages.send", "*"})


def decide(intent: Intent | BadIntent, facts: Facts, now: datetime) -> Decision:  # noqa: PLR0911 -- one return per row
    """The decision on ``intent`` at ``now``. The numbers are the rows of the table."""
    if isinstance(intent, BadIntent):  # 1
        return Rejected(intent.reason)
    if (unanswerable := _unanswerable(intent, facts)) is not None:
        return Rejected(unanswerable)
    actor = intent.actor
    if actor.kind == "staff" and SEND_CAPABILITIES.isdisjoint(actor.capabilities):  # 2
        return Rejected("not_permitted")
    if intent.expires_at is not None and now >= intent.expires_at:  # 3
        return Silent("intent_expired")
    if actor.kind == "ai" and facts.held(now):  # 3b
        return Silent("conversation_held")
    if isinstance(intent.content, OutBridge):  # 3c
        return _ask_by_sms(intent, facts, now)
    if isinstance(intent.content, OutTemplate):
        return _as_template(intent, intent.content, facts, now)
    if (live := _live_channel(intent, facts, now)) is not None:  # 7
        return Session(live, "live_channel")
    if intent.channel == "sms" and (unusable := obstacle(facts.sms, now, sms_parts(intent))) is not None:  # 7b
        return Silent(unusable)
    return _on_whatsapp(intent, facts, now)


def _as_template(intent: Intent, template: OutTemplate, facts: Facts, now: datetime) -> Decision:
    fault: RejectedReason | None = _template_fault(template, facts) or _consent_fault(intent, facts)  # 4, 5
    if fault is None and facts.unreachable(now) and (facts.nowhere or facts.marked_since):  # 5b
        fault = "whatsapp_unreachable"
    return Rejected(fault) if fault else Template(template, "template_requested")  # 6


def _on_whatsapp(intent: Intent, facts: Facts, now: datetime) -> Decision:
    """Rows 8 to 14: free-form, and no other channel is alive."""
    unreachable = facts.unreachable(now)
    if facts.whatsapp_consent and facts.open(now) and not unreachable:  # 8
        return Session("whatsapp", "window_open")
    if not facts.whatsapp_consent:  # 9
        return Silent("whatsapp_consent_off")
    if intent.actor.kind == "ai" and facts.credit_exhausted:  # 10
        return Silent("credit_exhausted")
    fallback = None if unreachable or facts.template_spent else intent.fallback_template
    if fallback is not None and _fallback_fault(intent, fallback, facts, now) is None:  # 11
        return Template(fallback, "fallback_template")
    return _bridge(intent, facts, now)


def _ask_by_sms(intent: Intent, facts: Facts, now: datetime) -> Decision:
    """Row 3c: a bridge that was asked for. Where WhatsApp reaches the customer there is nothing to bridge."""
    if facts.whatsapp_consent and facts.open(now) and not facts.unreachable(now):
        return Rejected("window_open")
    if not facts.whatsapp_consent:  # 9
        return Silent("whatsapp_consent_off")
    return _bridge(intent, facts, now)


def _bridge(intent: Intent, facts: Facts, now: datetime) -> Decision:
    """Rows 12 to 14."""
    if (unusable := obstacle(facts.sms, now)) is not None:  # 12
        return Silent(unusable)
    if facts.slot_holder is not None and facts.slot_holder != intent.intent_id:  # 13
        return Silent("bridge_already_sent", facts.slot_holder)
    return Bridge(facts.closed_by(now))  # 14


def _unanswerable(intent: Intent, facts: Facts) -> RejectedReason | None:  # noqa: PLR0911 -- one return per reason
    """Rows 0, 1 and 1b: what no actor may ask for.

    In row 1 a mistake of the producer is named before something that is unknown here. Of what is meant for a customer
    who was erased nothing is kept, so nothing else is said of it.
    """
    if facts.erased:
        return "customer_erased"  # 0
    if _wrong_address(intent, facts) is not None:
        return "invalid_intent"
    if content_limits.faults(intent.content):
        return "invalid_intent"
    if intent.channel == "sms" and not isinstance(intent.content, OutText | OutTemplate | OutBridge):
        return "unsupported_content"
    if facts.org_name is None or (facts.phone_number_id is None and not facts.without_number):
        return "unknown_conversation"
    if intent.conversation_id is not None and facts.conversation_id is None:
        return "unknown_conversation"
    if facts.reply_unknown:
        return "invalid_intent"
    return "unsupported_content" if _is_unsupported(intent) else None  # 1b


def _is_unsupported(intent: Intent) -> bool:
    """Row 1b: a text that no SMS can carry, and a bridge that is not for this actor to ask for."""
    content = intent.content
    if isinstance(content, OutBridge):
        return not _may_ask_for_bridge(intent.actor)
    return intent.channel == "sms" and isinstance(content, OutText) and too_long(content.text)


def _may_ask_for_bridge(actor: Actor) -> bool:
    """Staff ask for one, and ingest for the customer who wants a fresh link."""
    return actor.kind == "staff" or (actor.kind == "system" and LINK_WANTED in actor.capabilities)


def wrong_fields(  # noqa: PLR0911 -- one return per reason
    intent: Intent | BadIntent, facts: Facts, reason: str
) -> str | None:
    """Which fields of an intent are wrong that was rejected for this reason, and how; never their values."""
    if isinstance(intent, BadIntent):
        return None if reason == "customer_erased" else intent.detail
    match reason, intent.content:
        case "template_parameters", OutTemplate() as template:
            return _paths("content", _parameter_faults(template, facts))
        case "invalid_intent", content:
            return (
                _wrong_address(intent, facts)
                or _paths("content", content_limits.faults(content))
                or "reply_to: unknown"
            )
        case "unknown_conversation", _:
            return _unknown(intent, facts)
        case "template_not_approved", _:
            return f"content.name: {'unknown' if facts.template is None else 'not_approved'}"
        case "unsupported_content", OutBridge():
            return "content.kind: not_permitted"
        case "unsupported_content", content:
            return "content.text: too_long" if isinstance(content, OutText) else "content.kind: not_by_sms"
        case _:
            return None


def _wrong_address(intent: Intent, facts: Facts) -> str | None:
    """What is wrong with an intent's own id, or with the number that it is for."""
    if facts.id_taken:
        return "intent_id: taken"
    return "to.phone: format" if intent.to is not None and normalise(intent.to.phone) is None else None


def _unknown(intent: Intent, facts: Facts) -> str:
    """What is not known of whom an intent is for. A conversation may be, and its number no longer."""
    if facts.org_name is None:
        return "org_id: unknown"
    if intent.to is not None:
        return "to.phone_number_id: unknown"
    return f"conversation_id: {'unknown' if facts.conversation_id is None else 'number_unknown'}"


def unusable_fallback(intent: Intent | BadIntent, facts: Facts, now: datetime) -> str | None:
    """Why the fallback template of an intent cannot be sent, with the fields that are wrong; never their values."""
    if isinstance(intent, BadIntent) or intent.fallback_template is None or isinstance(intent.content, OutTemplate):
        return None
    fault = _fallback_fault(intent, intent.fallback_template, facts, now)
    if fault == "template_parameters":
        return _paths("fallback_template", _parameter_faults(intent.fallback_template, facts))
    return None if fault is None else f"fallback_template: {fault}"


def used_up(intent: Intent | BadIntent, facts: Facts) -> str | None:
    """Which cap a decision ``spend_cap_reached`` met, and how much of it is used."""
    parts = sms_parts(intent) if isinstance(intent, Intent) and intent.channel == "sms" else 1
    return cap_reached(facts.sms, parts)


def _paths(part: str, found: Iterable[Fault | content_limits.Fault]) -> str:
    """The wrong fields of a part of an intent, with what is wrong: the ``detail`` of the contract."""
    return "; ".join(f"{part}.{fault.field}: {fault.code}" for fault in found)


def _fallback_fault(
    intent: Intent, fallback: TemplateFields, facts: Facts, now: datetime
) -> TemplateFault | ConsentFault | Literal["marketing_limited"] | None:
    fault = _template_fault(fallback, facts) or _consent_fault(intent, facts)
    return "marketing_limited" if fault is None and facts.marketing_limited(now) else fault


def _template_fault(template: TemplateFields, facts: Facts) -> TemplateFault | None:
    """Row 4."""
    found = facts.template
    if found is None or found.status != "APPROVED":
        return "template_not_approved"
    return "template_parameters" if _parameter_faults(template, facts) else None


def _parameter_faults(template: TemplateFields, facts: Facts) -> list[Fault]:
    """What is wrong with the values of a template that is known."""
    if facts.template is None:
        return []
    return faults(facts.template.asked, template.parameters, template.header, template.buttons)


_PURPOSE_OFF: dict[ConsentPurpose, ConsentFault] = {
    "transactional": "transactional_consent_off",
    "service_reminders": "service_reminders_consent_off",
    "marketing": "marketing_consent_off",
}


def _consent_fault(intent: Intent, facts: Facts) -> ConsentFault | None:
    """Row 5. A template that is sent for a purpose needs its consent, whatever its category."""
    if not facts.whatsapp_consent:
        return "whatsapp_consent_off"
    if intent.purpose is not None and not facts.consents_to(intent.purpose):
        return _PURPOSE_OFF[intent.purpose]
    if facts.template is not None and facts.template.category == "MARKETING" and not facts.marketing_consent:
        return "marketing_consent_off"
    return None


def _live_channel(intent: Intent, facts: Facts, now: datetime) -> Channel | None:
    """Row 7: the channel that was asked for, or on which the customer wrote last and lately, if it can carry this."""
    wanted: Channel | None = None
    match intent.channel:
        case "sms" | "portal":
            wanted = intent.channel
        case "auto" if facts.last_inbound_at is not None and now < facts.last_inbound_at + facts.window_length:
            wanted = facts.last_inbound_channel
        case _:
            return None
    match wanted:
        case "portal" if not facts.unread_in_portal:
            return "portal"
        case "sms" if isinstance(intent.content, OutText) and _goes_by_sms(intent, facts, now):
            return "sms"
        case _:
            return None


def _goes_by_sms(intent: Intent, facts: Facts, now: datetime) -> bool:
    parts = sms_parts(intent)
    return parts <= MOST_SEGMENTS and obstacle(facts.sms, now, parts) is None


def sms_parts(intent: Intent) -> int:
    """The segments of the intent's text as an SMS; of a text that cannot be one, one."""
    return parts_of(intent.content.text) if isinstance(intent.content, OutText) else 1
