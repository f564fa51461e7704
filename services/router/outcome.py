"""What a decision means for the thread and for the senders: the rows to record, the command to give. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, assert_never
from uuid import UUID

import orjson

from libs.common.directory.addressing import address_of
from libs.common.events.content import OutTemplate, TemplateFields
from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import Channel, OutboundRefused, Route, SmsCommand, WhatsappCommand
from libs.common.phone import dialled, normalise
from libs.common.sanitize import sanitize
from services.router.decide import Bridge, Decision, Rejected, Session, Silent, Template, closed_by
from services.router.facts import Facts
from services.router.record import dumps, pack, stored


@dataclass(slots=True)
class Case:
    """One attempt of one intent, to be decided. ``facts`` are completed while gates are asked; ``sequence`` orders the thread.

    ``known_holder``: the intent that held the conversation's bridge slot when the facts were read.
    """

    intent: Intent | BadIntent
    facts: Facts
    attempt: int
    sequence: int
    refused: OutboundRefused | None = None
    known_holder: UUID | None = None

    @property
    def key(self) -> tuple[str, UUID]:
        return self.intent.org_id, self.intent.intent_id


class Outcome(NamedTuple):
    """One decision as it is recorded: a row of ``decisions`` and what it makes of the message. In the order of the SQL's columns."""

    org_id: str
    intent_id: UUID
    attempt: int
    conversation_id: UUID | None
    route: Route
    channel: Channel | None
    reason: str
    window: str | None
    slot_holder: UUID | None
    record: str
    command: str | None
    message_channel: Channel
    kind: str
    actor: str | None
    user_id: str | None
    sequence: int
    status: Literal["pending", "sent", "failed"]
    failure: str | None
    occurred_at: datetime
    content: str | None


def outcome(case: Case, decision: Decision, now: datetime) -> Outcome:
    """The row of a decision; ``case.facts.conversation_id`` is set wherever the message belongs into a thread."""
    intent, facts = case.intent, case.facts
    status, failure = _standing(decision, facts, now)
    window = facts.window_state(now)
    kind: str
    actor: str | None
    content: bytes | None
    if isinstance(intent, Intent):
        kind, actor, user_id = intent.content.kind, intent.actor.kind, intent.actor.user_id
        content = _json(intent.content)
        command = _command(case, intent, decision, content, now)
    else:
        kind, actor, user_id = "invalid", intent.actor_kind, intent.user_id
        content = command = None
    return Outcome(
        org_id=intent.org_id,
        intent_id=intent.intent_id,
        attempt=case.attempt,
        conversation_id=facts.conversation_id,
        route=decision.route,
        channel=decision.channel,
        reason=decision.reason,
        window=None if window is None else dumps(window).decode(),
        slot_holder=decision.slot_holder if isinstance(decision, Silent) else None,
        record=pack(intent, facts, now, case.refused),
        command=None if command is None else stored(dumps(command)),
        message_channel=_message_channel(intent, decision),
        kind=kind,
        actor=actor,
        user_id=user_id if user_id is None else sanitize(user_id),
        sequence=case.sequence,
        status=status,
        failure=failure,
        occurred_at=utc(intent.created_at or now),
        content=None if content is None else stored(content),
    )


def utc(instant: datetime) -> datetime:
    """The same instant in UTC; at the calendar's ends, where that cannot be said, the same reading of the clock."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return instant.replace(tzinfo=UTC)


def _standing(
    decision: Decision, facts: Facts, now: datetime
) -> tuple[Literal["pending", "sent", "failed"], str | None]:
    """The message's status and the reason of a failure."""
    match decision:
        case Session(channel="portal"):
            return "sent", None  # the portal shows it; there is nothing to send
        case Session() | Template() | Bridge():
            return "pending", None
        case Silent(reason="intent_expired" | "whatsapp_consent_off") | Rejected():
            return "failed", decision.reason
        case Silent():
            return "failed", f"{closed_by(facts, now)}_{decision.reason}"
        case _:
            assert_never(decision)


def _message_channel(intent: Intent | BadIntent, decision: Decision) -> Channel:
    """Where the thread shows it; a bridge is another message, the one it stands in for was meant for WhatsApp."""
    match decision:
        case Session():
            return decision.channel
        case Silent() | Rejected() if isinstance(intent, Intent) and intent.channel in ("sms", "portal"):
            return intent.channel
        case _:
            return "whatsapp"


def _command(case: Case, intent: Intent, decision: Decision, content: bytes, now: datetime) -> dict[str, Any] | None:
    """``content``: the intent's own, as JSON."""
    match decision:
        case Session(channel="whatsapp"):
            return _whatsapp(case, intent, decision.route, content, now)
        case Session(channel="sms"):
            return _sms(case, intent, "session") | {"text": getattr(intent.content, "text", None)}
        case Template():
            return _whatsapp(case, intent, decision.route, _json(_content(decision.template)), now)
        case Bridge():
            facts = case.facts
            return _sms(case, intent, "bridge") | {
                "reason": decision.reason,
                "org_name": facts.org_name,
                "whatsapp_number": facts.display_number,
                "portal_host": facts.portal_host,
            }
        case Session() | Silent() | Rejected():
            return None
        case _:
            assert_never(decision)


def _whatsapp(case: Case, intent: Intent, route: str, content: bytes, now: datetime) -> dict[str, Any]:
    facts = case.facts
    named = None if intent.to is None else normalise(intent.to.phone)
    address = address_of(facts.addresses, named)
    return {
        "type": WhatsappCommand.TYPE,
        **_common(case, intent, route),
        "phone_number_id": facts.phone_number_id,
        "to": address.to,
        "recipient": address.recipient,
        "named": named is not None,
        "content": orjson.Fragment(content),
        "not_before": now + facts.wait if facts.wait else None,
    }


def _sms(case: Case, intent: Intent, route: str) -> dict[str, Any]:
    facts = case.facts
    return {
        "type": SmsCommand.TYPE,
        **_common(case, intent, route),
        "from_number": facts.sms_number,
        "to": None if facts.phone is None else dialled(facts.phone),
        "named": intent.to is not None,
    }


def _common(case: Case, intent: Intent, route: str) -> dict[str, Any]:
    return {
        "message_id": intent.intent_id,
        "attempt": case.attempt,
        "org_id": intent.org_id,
        "conversation_id": case.facts.conversation_id,
        "sequence": case.sequence,
        "route": route,
        "created_at": utc(intent.created_at),
        "expires_at": None if intent.expires_at is None else utc(intent.expires_at),
    }


def _content(template: TemplateFields) -> TemplateFields:
    return template if isinstance(template, OutTemplate) else OutTemplate(**dict(template))


def _json(content: Any) -> bytes:
    """The content as commands and threads keep it: without what is not set."""
    found: bytes = content.__pydantic_serializer__.to_json(content, exclude_none=True)
    return found
