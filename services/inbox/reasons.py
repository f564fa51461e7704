"""Why a message did not arrive, in sentences that an advisor understands. Pure.

Rule 1: a reason becomes whole sentences of the catalogue. Each stands for itself, so that a language may order its
        words as it likes; where two are joined, each is still whole.
Rule 2: what may be missing (a name, a time) has a sentence without it. No sentence names a number or a code.
Rule 3: a reason or a code that this build does not know has a sentence, too.
Rule 4: the API's ``reason_text`` and the pages use this module and no other words. What helps is another question, of
        ``services.inbox.failed_actions``: it depends on what is possible now.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from gettext import NullTranslations

from libs.common.faults import AccountFault, RecipientFault
from libs.common.pages.entries import N_
from libs.common.providers import meta, twilio, vonage


@dataclass(frozen=True, slots=True)
class Failure:
    """What is stored of a message that failed. ``channel``: where it was to go. ``reason`` is None where none is kept.

    ``name`` is how the customer is called here; None: they have no name. ``asked_at`` and ``next_at`` are times as they
    are shown: of the latest SMS that asked, and of the next that may. ``template_state`` is Meta's word for the
    template's state, ``user`` who holds the conversation.
    """

    reason: str | None
    provider_code: str | None = None
    channel: str = "whatsapp"
    name: str | None = None
    org: str | None = None
    user: str | None = None
    template: str | None = None
    language: str | None = None
    template_state: str | None = None
    asked_at: str | None = None
    next_at: str | None = None
    failed_at: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Sentences, as messages of the catalogue, and the values that they name."""

    sentences: tuple[str, ...]
    values: Mapping[str, str]

    def text(self, words: NullTranslations) -> str:
        """The sentences in a language, in one line."""
        return " ".join(self._sentence(words.gettext(sentence), words) for sentence in self.sentences)

    def _sentence(self, sentence: str, words: NullTranslations) -> str:
        begins = sentence.startswith("%(name)s")
        nobody = words.gettext(N_("This customer")) if begins else words.gettext(N_("this customer"))
        return sentence % {"name": nobody, "org": words.gettext(N_("The garage")), **self.values}


WINDOW_EXPIRED = "window_expired_"
WHATSAPP_UNREACHABLE = "whatsapp_unreachable_"

_CLOSED = N_("Not delivered: the window had closed.")
_UNREACHABLE = N_("Not delivered: WhatsApp could not reach %(name)s.")
_BY_SMS = N_("Not sent by SMS.")
_NOT_APPROVED = N_("Not sent: Meta has not approved “%(template)s” in %(language)s (it is %(state)s).")
_APPROVED_SINCE = N_("Not sent: Meta had not approved “%(template)s” in %(language)s then; now it has.")

_NO_BRIDGE: Mapping[str, str] = {
    "bridge_sent": N_(
        "We asked %(name)s by SMS to come back. The text waits here and is offered again when they write."
    ),
    "no_phone": N_("No SMS is possible: no number on file takes SMS at present."),
    "sms_opted_out": N_("%(name)s does not want SMS, so none was sent."),
    "sms_unavailable": N_("%(org)s has no active SMS number."),
    "country_not_allowed": N_("SMS to this country is switched off."),
    "spend_cap_reached": N_("The budget for SMS is used up for now."),
}
"""What stopped the SMS, or what became of it: the second sentence, by the end of the reason."""

_BRIDGE_REFUSED: Mapping[str, str] = {
    "no_phone": N_("The SMS to %(name)s did not go through either: this number takes no SMS."),
    "sms_opted_out": N_("The SMS to %(name)s did not go through either: they replied STOP."),
    "unreachable": N_("The SMS to %(name)s did not go through either: the phone is switched off or out of reach."),
}
"""Why the provider refused the bridge SMS, by the mark that its code sets."""

_ALONE: Mapping[str, str] = {
    "intent_expired": N_("Not sent: it was still waiting when its time was over."),
    "whatsapp_consent_off": N_("Not sent: %(name)s has switched WhatsApp off."),
    "whatsapp_unreachable": N_("Not sent: WhatsApp does not reach %(name)s at present."),
    "conversation_held": N_("The AI stayed silent: staff have taken over."),
    "template_not_approved": N_("Not sent: Meta has not approved this template."),
    "template_parameters": N_("Not sent: a field of the template is missing, too long or has a line break."),
    "marketing_consent_off": N_("Not sent: %(name)s has not agreed to marketing."),
    "service_reminders_consent_off": N_("Not sent: %(name)s has switched reminders off."),
    "transactional_consent_off": N_("Not sent: %(name)s has switched these messages off."),
    "window_open": N_("No SMS was sent: the window is open. Just write."),
    "unknown_conversation": N_("Not sent: this conversation or number is not known here."),
    "customer_erased": N_("Not sent: this customer was erased."),
    "unsupported_content": N_("Not sent: this kind of message cannot go this way."),
    "invalid_intent": N_("Not sent: something in it is not valid."),
    "not_permitted": N_("Not sent: your role may not send."),
    "unknown_outcome": N_("We do not know whether this arrived: the answer was lost. Ask before you send it twice."),
}

_META: Mapping[str, str] = {
    "131026": N_("WhatsApp could not deliver this. %(name)s may not use WhatsApp any more or has blocked the number."),
    "130403": N_("You have blocked %(name)s on WhatsApp. Unblock them there before you write."),
    "130497": N_("WhatsApp does not let this account write to this country."),
    "131047": N_("WhatsApp says the window is closed."),
    "131049": N_("%(name)s has had enough marketing messages for now; not before tomorrow."),
    "131050": N_("%(name)s stopped marketing messages in WhatsApp."),
    "130472": N_("Meta holds this template back from %(name)s for a test. Free text works when they write."),
    "132001": N_("This template does not exist in this language."),
    "132015": N_("Meta paused this template."),
    "132016": N_("Meta disabled this template."),
    **dict.fromkeys(
        ("132000", "132005", "132007", "132012", "132018", "131008"),
        N_("The template has changed at Meta; its placeholders no longer fit."),
    ),
    "131051": N_("WhatsApp cannot take this file."),
    "131053": N_(
        "WhatsApp did not take this file: it may be too large or of the wrong kind, or WhatsApp could not fetch it."
    ),
    **dict.fromkeys(("131042", "131044"), N_("The garage's WhatsApp account needs attention: payment.")),
    **dict.fromkeys(("368", "131031"), N_("The garage's WhatsApp account needs attention: Meta locked it.")),
    **dict.fromkeys(("0", "190"), N_("The garage's WhatsApp account needs attention: its sign-in ended.")),
}

_ATTENTION = N_("The garage's WhatsApp account needs attention.")
_MEND_FIRST = N_("Tell the person who manages the account at Meta, and send the message again once that is mended.")

_META_OF_ANY: Mapping[str, str] = {
    "130472": N_("Meta did not deliver this: the number of %(name)s is part of a test."),
    "131008": N_("WhatsApp refused this message: something in it is missing."),
}
"""Of codes that also come for other messages than templates: the sentence where no template is known."""

_SMS: Mapping[str, str] = {
    "no_phone": N_("The SMS did not arrive: this number takes no SMS."),
    "sms_opted_out": N_("The SMS did not arrive: %(name)s replied STOP."),
    "unreachable": N_("The SMS did not arrive: the phone is switched off or out of reach."),
}

OBSTACLES: Mapping[str, str] = {
    "no_phone": N_("No SMS is possible: no number on file takes SMS at present."),
    "sms_opted_out": N_("%(name)s does not want SMS."),
    "sms_unavailable": N_("%(org)s has no active SMS number."),
    "never_contacted": N_("%(name)s has never written to you, so no SMS may go."),
    "country_not_allowed": N_("SMS to this country is switched off."),
    "spend_cap_reached": N_("The budget for SMS is used up for now."),
    "bridge_already_sent": N_("%(name)s was already asked by SMS; the next SMS is possible %(next_at)s."),
    "whatsapp_consent_off": N_("%(name)s has switched WhatsApp off, so nobody is asked back to it."),
}
"""Why no SMS would go now (``libs.common.sms_reach``), beside the customer."""

ASKED = N_("We asked %(name)s by SMS to come back.")
"""Beside a wish for a bridge SMS that was sent: its message ends ``failed``, and what was wished is done."""
_WAITING: Mapping[str, str] = {
    "throttle": N_("WhatsApp is slowing us down; it goes out by itself."),
    "silence": N_("WhatsApp does not answer at the moment; it goes out by itself."),
}
"""Beside a message that is pending because its number rests, by the kind of the pause."""
READ_LATER = N_("Reported as not delivered, but read at %(read_at)s.")
"""Beside a message that failed by a provider's word, and was read later."""

_TWILIO_DIGITS = 5


def explain(failure: Failure) -> Explanation:
    """The sentences for a message that failed."""
    values = {
        "name": failure.name,
        "org": failure.org,
        "user": failure.user,
        "template": failure.template,
        "language": failure.language,
        "state": failure.template_state,
        "asked_at": failure.asked_at,
        "next_at": failure.next_at,
        "failed_at": failure.failed_at,
    }
    return Explanation(_sentences(failure), {name: value for name, value in values.items() if value})


def waiting(kind: str, code: str) -> Explanation:
    """Why a message is pending while its number rests: the kind and the code of the pause."""
    if kind in _WAITING:
        return Explanation((_WAITING[kind],), {})
    return Explanation((_META.get(code, _ATTENTION), N_("It goes out by itself once that is mended.")), {})


def obstacle_text(
    reason: str, words: NullTranslations, *, name: str | None, org: str | None, next_at: str | None = None
) -> str:
    """Why no SMS would go now, in a language."""
    sentence = OBSTACLES.get(reason, N_("No SMS is possible at present."))
    if reason == "bridge_already_sent" and next_at is None:
        sentence = N_("%(name)s was already asked by SMS.")
    values = {"name": name, "org": org, "next_at": next_at}
    return Explanation((sentence,), {key: value for key, value in values.items() if value}).text(words)


def _sentences(failure: Failure) -> tuple[str, ...]:
    reason = failure.reason or ""
    for prefix, closed in ((WINDOW_EXPIRED, _CLOSED), (WHATSAPP_UNREACHABLE, _UNREACHABLE)):
        if reason.startswith(prefix):
            return _not_on_whatsapp(reason.removeprefix(prefix), closed, failure)
    match reason:
        case "conversation_held" if failure.user:
            return (N_("The AI stayed silent: %(user)s has taken over."),)
        case "intent_expired" if failure.failed_at:
            return (N_("Not sent: it was still waiting at %(failed_at)s, the end of its time."),)
        case "template_not_approved" if failure.template and failure.language and failure.template_state:
            return (_APPROVED_SINCE if failure.template_state == "APPROVED" else _NOT_APPROVED,)
        case "provider_refused":
            return _refused(failure)
        case _:
            return (_ALONE.get(reason, N_("Not delivered.")),)


def _not_on_whatsapp(end: str, closed: str, failure: Failure) -> tuple[str, ...]:
    """The window was closed, or WhatsApp did not reach the customer: what became of the SMS in its place."""
    unreachable = closed is _UNREACHABLE
    if failure.channel == "sms":  # SMS was asked for, so neither the window nor WhatsApp stopped it
        closed = _BY_SMS
    match end:
        case "credit_exhausted":
            return (
                N_("The AI stayed silent: the AI credit is used up and the window had closed. %(name)s got nothing."),
            )
        case "never_contacted":
            return (N_("%(name)s has never written to you. Only a template can start this conversation."),)
        case "whatsapp_consent_off" | "intent_expired":
            return (_ALONE[end],)
        case "bridge_already_sent" if failure.asked_at and failure.next_at:
            second = N_("%(name)s was already asked by SMS at %(asked_at)s; the next SMS is possible %(next_at)s.")
        case "bridge_already_sent":
            second = N_("%(name)s was already asked by SMS.")
        case "bridge_sent" if unreachable:
            second = N_("We asked by SMS; the text can be read in the portal.")
        case "bridge_failed":
            mark = _mark(failure.provider_code)
            second = _BRIDGE_REFUSED.get(mark or "", N_("The SMS to %(name)s did not go through either."))
        case _:
            second = _NO_BRIDGE.get(end, N_("No SMS was sent."))
    return closed, second


def _refused(failure: Failure) -> tuple[str, ...]:
    """A provider reported the failure."""
    code = failure.provider_code or ""
    if failure.channel == "sms":
        return (_SMS.get(_mark(code) or "", N_("The SMS did not arrive.")),)
    if failure.template is None and code in _META_OF_ANY:
        return (_META_OF_ANY[code],)
    match meta.fault_of(code):
        case AccountFault(scope="all"):
            return _META.get(code, _ATTENTION), _MEND_FIRST
        case _:
            return (_META.get(code, N_("WhatsApp refused this message.")),)


def _mark(code: str | None) -> str | None:
    """What an SMS provider's code says about the recipient. Twilio's codes have five digits, Vonage's do not."""
    if not code:
        return None
    is_twilio = code.isdigit() and len(code) >= _TWILIO_DIGITS
    fault = twilio.fault_of(code) if is_twilio else vonage.fault_of(code)
    return fault.mark if isinstance(fault, RecipientFault) else None
