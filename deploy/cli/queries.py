"""What ``transom explain`` reads. Every row is a named tuple; its fields are the columns of the table that are read."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.ids import bridge_message_id
from libs.common.thread.conversations import current_conversation

RowT = TypeVar("RowT")


class Message(NamedTuple):
    """An outbound message. ``conversation_id`` is the one that its conversation was merged into, if it was.

    ``parent_id``: of a bridge SMS, the message of the intent that it stands for.
    ``attempt`` is ``ECHO`` where staff wrote it in the WhatsApp Business app.
    """

    org_id: str
    message_id: UUID
    conversation_id: UUID | None
    channel: str
    kind: str
    actor: str | None
    notification_type: str | None
    parent_id: UUID | None
    status: str
    reason: str | None
    provider_code: str | None
    attempt: int
    occurred_at: datetime
    received_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None


_MESSAGES = f"""
select m.org_id, m.message_id, {current_conversation("m")} as conversation_id, m.channel, m.kind,
       m.actor, m.notification_type, m.parent_id, m.status, m.reason, m.provider_code, m.attempt, m.occurred_at,
       m.received_at, m.sent_at, m.delivered_at, m.read_at, m.failed_at
  from messages m
 where m.message_id = any($1::uuid[]) and m.direction = 'out'
 order by m.sequence
"""  # noqa: S608 -- a constant


async def messages_of(db: Connection, intent_id: UUID) -> list[Message]:
    """The message of an intent and its bridge SMS, in every organisation that used the id."""
    return await _rows(db, Message, _MESSAGES, [intent_id, bridge_message_id(intent_id)])


class DecisionRow(NamedTuple):
    """A decision; ``record`` is what it was taken on."""

    attempt: int
    route: str
    channel: str | None
    reason: str
    slot_holder: UUID | None
    record: dict[str, Any]
    decided_at: datetime


async def decisions_of(db: Connection, org_id: str, intent_id: UUID) -> list[DecisionRow]:
    return await _read(
        db, DecisionRow, "decisions where org_id = $1 and intent_id = $2 order by attempt", org_id, intent_id
    )


class Send(NamedTuple):
    """A row of the senders' table. ``provider`` is the provider of its claim; without a claim it is the channel."""

    attempt: int
    provider: str
    state: str
    tries: int
    resends: int
    outcome: dict[str, Any] | None
    created_at: datetime
    claimed_at: datetime | None
    unknown_since: datetime | None
    due_at: datetime
    settled_at: datetime | None


_SENDS = """
select attempt, coalesce(provider, channel) as provider, state, tries, resends, outcome, created_at, claimed_at,
       unknown_since, due_at, settled_at
  from sends
 where org_id = $1 and message_id = $2
 order by attempt
"""


async def sends_of(db: Connection, org_id: str, intent_id: UUID) -> list[Send]:
    return await _rows(db, Send, _SENDS, org_id, intent_id)


class ProviderId(NamedTuple):
    """An id that a provider gave a send. It is not ``applied`` when it came after the claim was lost."""

    provider: str
    provider_id: str
    attempt: int
    applied: bool
    recorded_at: datetime


async def provider_ids_of(db: Connection, org_id: str, intent_id: UUID) -> list[ProviderId]:
    return await _read(
        db, ProviderId, "provider_ids where org_id = $1 and send_id = $2 order by recorded_at", org_id, intent_id
    )


class Charge(NamedTuple):
    """What a message cost; without a price none is known.

    The price is the ``estimate`` by the rate card while it is ``estimated``, else what the provider asks.
    """

    channel: str
    category: str
    segments: int | None
    currency: str | None
    price: Decimal | None
    estimated: bool
    estimate: Decimal | None
    estimate_currency: str | None
    at: datetime


async def charges_of(db: Connection, org_id: str, message_ids: Sequence[UUID]) -> list[Charge]:
    return await _read(
        db, Charge, "charges where org_id = $1 and message_id = any($2::uuid[])", org_id, list(message_ids)
    )


class StaleAttempt(NamedTuple):
    """A decision from which nothing followed in time; the router looks again at ``due_at``."""

    attempt: int
    tries: int
    due_at: datetime
    deadline: datetime


async def stale_attempts_of(db: Connection, org_id: str, intent_id: UUID) -> list[StaleAttempt]:
    return await _read(
        db, StaleAttempt, "stale_attempts where org_id = $1 and message_id = $2 order by attempt", org_id, intent_id
    )


class Refusal(NamedTuple):
    """A refusal that the router has not decided on yet."""

    attempt: int
    reason: str
    waits_since: datetime


_REFUSALS = """
select attempt, event ->> 'reason' as reason, waits_since
  from refusals
 where org_id = $1 and intent_id = $2
 order by attempt
"""


async def refusals_of(db: Connection, org_id: str, intent_id: UUID) -> list[Refusal]:
    return await _rows(db, Refusal, _REFUSALS, org_id, intent_id)


async def _read(db: Connection, row: type[RowT], of: str, *arguments: object) -> list[RowT]:
    return await _rows(db, row, f"select {', '.join(row.__annotations__)} from {of}", *arguments)  # noqa: S608 -- constants


async def _rows(db: Connection, row: type[RowT], statement: str, *arguments: object) -> list[RowT]:
    return [row(**record) for record in await db.fetch(statement, *arguments)]


_CURRENT_ID = f"""
select c.conversation_id
  from (values ($1::text, $2::uuid)) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
"""  # noqa: S608 -- a constant


async def current_id(db: Connection, org_id: str, conversation_id: UUID) -> UUID | None:
    """The id of the conversation as it is now, also after a merge. None: the organisation has no such conversation."""
    found: UUID | None = await db.fetchval(_CURRENT_ID, org_id, conversation_id)
    return found
