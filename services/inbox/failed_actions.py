"""The one action that helps with a message that failed. Pure.

Rule 1: a failure has at most one action, and it is one that is possible now: what the window or the organisation
        forbids is not offered.
Rule 2: a new send is a new intent. The failed message keeps its end.
Rule 3: a code that is not known here is a refusal like any other: it may be sent again.
"""

from dataclasses import dataclass
from typing import Literal

from services.inbox.composing import Offer, Situation

Help = Literal[
    "template",  # choose a template for the composer
    "again",  # the same content once more
    "again_twice",  # the same, but it may have arrived: ask before
    "by_sms",  # the text as an SMS
    "bridge",  # ask by SMS to come back
    "release",  # let the AI answer
    "edit",  # the text into the field
    "refill",  # the same template, with its fields
    "templates",  # the page of templates, where it can be synchronised
]
"""What the button under a failed message does."""

_OTHER_TEMPLATE = frozenset({"131049", "131050", "132001", "132015", "132016", "131063"})
_CHANGED_TEMPLATE = frozenset({"132000", "132012", "131008", "132018"})
_ABSENT = frozenset({"131026", "130403"})
_STAFF_CAN_EDIT = frozenset({"unsupported_content", "invalid_intent"})


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed message, as far as its help depends on it. ``kind`` is that of its content."""

    reason: str | None
    provider_code: str | None
    kind: str
    written_by_ai: bool = False


def help_for(failed: Failed, situation: Situation, offer: Offer) -> Help | None:
    """The action under this message, None where there is none for this person."""
    if offer.mode == "read" or failed.kind in ("bridge", "unsupported") or failed.reason == "not_permitted":
        return None
    wanted = _wanted(failed, situation)
    return None if wanted is None else _possible(wanted, failed, situation, offer)


def _wanted(failed: Failed, situation: Situation) -> Help | None:  # noqa: PLR0911 -- one return per row of the table
    reason, code = failed.reason or "", failed.provider_code or ""
    if reason == "provider_refused":
        return _of_code(code, failed)
    if reason == "whatsapp_consent_off" or reason.endswith("_whatsapp_consent_off"):
        return "by_sms"
    if reason.startswith("whatsapp_unreachable"):
        return "by_sms"
    if reason.startswith("window_expired"):
        return "again" if situation.by_whatsapp else "template"
    if reason in ("template_not_approved", "marketing_consent_off"):
        return "template"
    if reason == "template_parameters":
        return "refill"
    if reason == "conversation_held":
        return "release"
    if reason == "unknown_outcome":
        return "again_twice"
    if reason in _STAFF_CAN_EDIT:
        return "edit"
    return "again"


def _of_code(code: str, failed: Failed) -> Help | None:
    if code == "131047":
        return "template"
    if code == "130472":
        return "bridge"
    if code in _OTHER_TEMPLATE:
        return "template"
    if code in _CHANGED_TEMPLATE and failed.kind == "template":
        return "templates"
    if code in _ABSENT:
        return "by_sms"
    return "edit" if code == "131051" else "again"


def _possible(  # noqa: PLR0911 -- as above
    wanted: Help, failed: Failed, situation: Situation, offer: Offer
) -> Help | None:
    """The wanted action, or the next best one that this situation allows."""
    can_sms = situation.obstacle is None and failed.kind == "text"
    match wanted:
        case "template" if situation.by_whatsapp and failed.kind != "template":
            return "again"
        case "by_sms" if not can_sms:  # nothing goes by WhatsApp to people who are blocked, or who switched it off
            return "template" if situation.consent and failed.provider_code != "130403" else None
        case "bridge" if offer.ask is None or not offer.ask.is_possible:
            return "again" if situation.by_whatsapp else None
        case "release" if situation.hold is None:
            return None if failed.written_by_ai else "again"
        case "again" | "again_twice" if failed.kind != "template" and offer.mode == "pick":
            return "template"
        case "edit" if failed.kind != "text" or offer.mode == "pick":
            return None
        case _:
            return wanted
