"""What records are about: the rows that handling them may add or change, named by key. Pure.

A record that cannot be read has no subject.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from libs.common.ids import bridge_message_id, portal_provider_id


@dataclass(slots=True)
class Subjects:
    """The keys of what some records are about; the places of each set go together."""

    messages: set[tuple[str, UUID]] = field(default_factory=set)
    """org_id and message or intent."""
    provider_ids: set[tuple[str, str, str]] = field(default_factory=set)
    """Provider, account and the provider's id: of a customer's message, or of a send."""
    writers: set[tuple[str, str, str]] = field(default_factory=set)
    """The business number, and who wrote to it or reads from it: the kind of identity and its value."""
    conversations: set[tuple[str, UUID]] = field(default_factory=set)
    orgs: set[str] = field(default_factory=set)
    numbers: set[tuple[str, str]] = field(default_factory=set)
    customers: set[tuple[str, UUID]] = field(default_factory=set)
    templates: set[tuple[str, str, str]] = field(default_factory=set)
    """WhatsApp Business Account, name and language."""

    @classmethod
    def of(cls, values: Iterable[Any]) -> "Subjects":
        """Those of these records, by what their values say."""
        found = cls()
        for value in values:
            if isinstance(value, dict):
                found.add(value)
        return found

    def add(self, value: dict[str, Any]) -> None:
        match value:
            case {"type": str(kind), "form": dict(form)} if kind.startswith("webhook."):
                self._add_sms(kind.split(".")[1], form, value.get("verified_account"))
            case {"phone_number_id": str(number), "item": {"id": str(of), **item}}:
                self.provider_ids.add(("meta", number, of))
                contact = value.get("contact")
                person = (contact.get("user_id") if isinstance(contact, dict) else None) or item.get("from_user_id")
                for kind, one in (("wa_id", item.get("from")), ("bsuid", person)):
                    if isinstance(one, str):
                        self.writers.add((number, kind, one))
            case {"phone_number_id": str(number), "item": {"message_echoes": list(echoes)}}:
                self.provider_ids |= {("meta", number, of) for of in map(_echo_id, echoes) if of is not None}
            case {
                "waba_id": str(waba),
                "item": {"message_template_name": str(name), "message_template_language": str(language)},
            }:
                self.templates.add((waba, name, language))
            case {"org_id": str(org_id)}:
                self._add_event(org_id, value)

    def _add_sms(self, provider: str, form: dict[str, Any], account: Any) -> None:
        """A webhook of an SMS provider: ``provider`` is ``twilio_sms``, ``vonage_status`` and so on."""
        name, _, what = provider.partition("_")
        of = form.get("MessageSid") or form.get("messageId") or form.get("message-id")
        if not isinstance(of, str):
            return
        if what == "sms":
            called, sender = _e164(form.get("To") or form.get("to")), _e164(form.get("From") or form.get("msisdn"))
            self.provider_ids.add((name, called, of))
            self.writers.add((called, "phone", sender))
        else:
            self.provider_ids.add((name, str(form.get("AccountSid") or account or ""), of))

    def _add_event(self, org_id: str, value: dict[str, Any]) -> None:
        for name in ("message_id", "intent_id"):
            if (message := _uuid(value.get(name))) is not None:
                self.messages |= {(org_id, message), (org_id, bridge_message_id(message))}
        read = value.get("message_ids")
        self.messages |= {(org_id, one) for one in map(_uuid, read if isinstance(read, list) else ()) if one}
        if (conversation := _uuid(value.get("conversation_id"))) is not None:
            self.conversations.add((org_id, conversation))
            match value:
                case {"type": "portal.message.v1", "session": str(session), "client_id": str(form), "text": str(text)}:
                    provider_id = portal_provider_id(org_id, conversation, session, form, text)
                    self.provider_ids.add(("portal", org_id, provider_id))
        if (customer := _uuid(value.get("customer_id"))) is not None:
            self.customers.add((org_id, customer))
        match value:
            case {"type": str(kind)} if kind.startswith("org."):
                self.orgs.add(org_id)
            case {"type": str(kind), "phone_number_id": str(number)} if kind.startswith("number."):
                self.numbers.add((org_id, number))


def _echo_id(echo: Any) -> str | None:
    of = echo.get("id") if isinstance(echo, dict) else None
    return of if isinstance(of, str) else None


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None


def _e164(number: Any) -> str:
    return f"+{str(number).removeprefix('+')}"
