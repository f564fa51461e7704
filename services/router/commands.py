"""The command that a decision gives a sender. Pure."""

from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, assert_never

from libs.common.directory.addressing import address_of
from libs.common.events.base import Part
from libs.common.events.content import OutTemplate
from libs.common.events.fields import EARLIEST, LATEST
from libs.common.events.intents import Intent
from libs.common.events.outbound import BridgeReason, SmsCommand, WhatsappCommand
from libs.common.phone import dialled, normalise
from services.router.decide import Bridge, Decision, Rejected, Session, Silent, Template
from services.router.facts import Attempt

FactT = TypeVar("FactT")


def command_of(attempt: Attempt, intent: Intent, decision: Decision, now: datetime) -> bytes | None:
    """The value of the command; None where nothing is to be sent."""
    match decision:
        case Session(channel="whatsapp"):
            return _whatsapp(attempt, intent, "session", intent.content, now)
        case Template(template=template):
            content = template if isinstance(template, OutTemplate) else OutTemplate(**dict(template))
            return _whatsapp(attempt, intent, "template", content, now)
        case Session(channel="sms"):
            return _sms(attempt, intent, None).encode()
        case Bridge(reason=reason):
            return _sms(attempt, intent, reason).encode()
        case Session() | Silent() | Rejected():
            return None
        case _:
            assert_never(decision)


def utc(instant: datetime) -> datetime:
    """The instant in UTC, brought between 1970 and 9000, as its readers take it (``fields.Instant``)."""
    return max(min(instant, LATEST), EARLIEST).astimezone(UTC)


def _whatsapp(
    attempt: Attempt, intent: Intent, route: Literal["session", "template"], content: Any, now: datetime
) -> bytes:
    facts = attempt.facts
    named = None if intent.to is None else normalise(intent.to.phone)
    address = address_of(facts.addresses, named)
    waits = [at for at in (now + facts.wait if facts.wait else None, attempt.not_before) if at is not None]
    return WhatsappCommand.encode_fields(
        {
            "message_id": intent.intent_id,
            "attempt": attempt.number,
            "org_id": intent.org_id,
            "conversation_id": str(_present(facts.conversation_id)),
            "sequence": attempt.sequence,
            "route": route,
            "phone_number_id": _present(facts.phone_number_id),
            "to": address.to,
            "recipient": address.recipient,
            "named": named is not None,
            "content": given(content),
            "quotes": facts.quoted,
            "purpose": intent.purpose if route == "template" else None,
            "created_at": utc(intent.created_at),
            "expires_at": None if intent.expires_at is None else utc(intent.expires_at),
            "not_before": max(waits, default=None),
        }
    )


def _sms(attempt: Attempt, intent: Intent, bridge: BridgeReason | None) -> SmsCommand:
    """The SMS command: a bridge where ``bridge`` is given, otherwise plain text."""
    facts = attempt.facts
    return SmsCommand(
        message_id=intent.intent_id,
        attempt=attempt.number,
        org_id=intent.org_id,
        conversation_id=_present(facts.conversation_id),
        sequence=attempt.sequence,
        route="session" if bridge is None else "bridge",
        from_number=_present(facts.sms_number),
        to=dialled(_present(facts.phone)),
        named=intent.to is not None,
        text=getattr(intent.content, "text", None) if bridge is None else None,
        reason=bridge,
        org_name=None if bridge is None else facts.org_name,
        whatsapp_number=None if bridge is None else facts.display_number,
        portal_host=None if bridge is None else facts.portal_host,
        segments=1 if attempt.counted is None else attempt.counted.segments,
        day=None if attempt.counted is None else attempt.counted.day,
        created_at=utc(intent.created_at),
        expires_at=None if intent.expires_at is None else utc(intent.expires_at),
    )


def given(part: Part) -> dict[str, Any]:
    """The fields of an intent, or of a part of it, that are not null."""
    return {name: value for name, value in vars(part).items() if value is not None}


def _present(fact: FactT | None) -> FactT:
    if fact is None:
        raise ValueError("an intent that is sent has a conversation, a number and an address")
    return fact
