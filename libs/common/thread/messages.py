"""Outbound messages and their statuses: locked in one order, advanced, and written back in one round trip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.errors import Permanent
from libs.common.events.outbound import Channel, DeliveryUpdate
from libs.common.ids import MessageKey
from libs.common.thread.conversations import current_conversation
from libs.common.thread.message_status import Failed, MessageState, Status, advance


@dataclass(slots=True)
class LockedMessage:
    """An outbound message whose row this transaction has locked.

    ``state`` is replaced as statuses are applied; ``written`` is the row's.

    ``conversation_id`` is the standing conversation: the message may have been written under one that was merged since.
    ``read_channel``: where it was read, where that is another channel than its own.
    """

    org_id: str
    message_id: UUID
    conversation_id: UUID | None
    channel: Channel
    kind: str
    notification_type: str | None
    state: MessageState
    written: MessageState
    read_channel: Channel | None = None


_LOCK_MESSAGES = f"""
select m.org_id, m.message_id, {current_conversation("m")} as conversation_id, m.channel, m.kind, m.notification_type,
       m.status, m.attempt, m.seq, m.reason, m.provider_code, m.sent_at, m.delivered_at, m.read_at, m.failed_at,
       m.read_channel
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m using (org_id, message_id)
 where m.direction = 'out'
 order by m.org_id, m.message_id
   for update of m
"""  # noqa: S608 -- a constant

_WRITE_STATES = """
update messages m
   set status = u.status, seq = u.seq, reason = u.reason, provider_code = u.provider_code,
       sent_at = u.sent_at, delivered_at = u.delivered_at, read_at = u.read_at, failed_at = u.failed_at,
       read_channel = u.read_channel
  from unnest($1::text[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::text[],
              $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::text[])
    as u (org_id, message_id, status, seq, reason, provider_code, sent_at, delivered_at, read_at, failed_at,
          read_channel)
 where m.org_id = u.org_id and m.message_id = u.message_id
"""


async def lock_messages(db: Connection, keys: set[MessageKey]) -> dict[MessageKey, LockedMessage]:
    """Lock the outbound messages of ``keys``, in key order, so that two transactions cannot wait for each other.

    Raises Permanent (``unknown_value``) where one has a status or a channel of a later release. The caller bisects its
    batch to find it.
    """
    if not keys:
        return {}
    wanted = sorted(keys)
    rows = await db.fetch(_LOCK_MESSAGES, [k[0] for k in wanted], [k[1] for k in wanted])
    return {(row["org_id"], row["message_id"]): _locked(row) for row in rows}


async def write_states(db: Connection, messages: Iterable[LockedMessage]) -> None:
    """Write back the messages that moved."""
    moved = [m for m in messages if m.state != m.written]
    if not moved:
        return
    rows = [
        (
            m.org_id,
            m.message_id,
            m.state.status,
            m.state.seq,
            m.state.reason,
            m.state.provider_code,
            m.state.sent_at,
            m.state.delivered_at,
            m.state.read_at,
            m.state.failed_at,
            m.read_channel,
        )
        for m in moved
    ]  # fmt: skip -- the order of the statement's columns
    await db.execute(_WRITE_STATES, *as_columns(rows))


@dataclass(frozen=True, slots=True)
class LocalFailure:
    """We end this message ourselves: ``reason`` as in the contract."""

    org_id: str
    message_id: UUID
    attempt: int
    reason: str
    code: str | None
    at: datetime


async def fail_locally(db: Connection, failures: Sequence[LocalFailure]) -> list[DeliveryUpdate]:
    """End messages as failed. Returns the newest status of each, so that a repeat publishes the same again."""
    messages = await lock_messages(db, {(f.org_id, f.message_id) for f in failures})
    for failure in failures:
        message = messages.get((failure.org_id, failure.message_id))
        if message is not None:
            message.state = advance(message.state, Failed(failure.attempt, failure.reason, failure.code, failure.at))
    await write_states(db, messages.values())
    return [update for message in messages.values() if (update := delivery_update(message)) is not None]


def delivery_update(message: LockedMessage) -> DeliveryUpdate | None:
    """The update that publishes a message's newest status; None while it is pending.

    A failure that was disproved is not published.
    """
    state = message.state
    if state.status == "pending" or state.at is None:
        return None
    return DeliveryUpdate(
        message_id=message.message_id,
        org_id=message.org_id,
        conversation_id=message.conversation_id,
        channel=(message.read_channel if state.status == "read" else None) or message.channel,
        seq=state.seq,
        status=state.status,
        reason=state.reason if state.status == "failed" else None,
        provider_code=state.provider_code if state.status == "failed" else None,
        at=state.at,
    )


def _locked(row: Any) -> LockedMessage:
    state = MessageState(
        **{name: row[name] for name in ("status", "attempt", "seq", "reason", "provider_code")},
        **{name: row[name] for name in ("sent_at", "delivered_at", "read_at", "failed_at")},
    )
    if row["channel"] not in get_args(Channel):
        raise Permanent("unknown_value", "a message is on a channel that is not known here")
    if row["status"] not in get_args(Status):
        raise Permanent("unknown_value", "a message has a status that is not known here")
    return LockedMessage(
        org_id=row["org_id"],
        message_id=row["message_id"],
        conversation_id=row["conversation_id"],
        channel=row["channel"],
        kind=row["kind"],
        notification_type=row["notification_type"],
        state=state,
        written=state,
        read_channel=row["read_channel"],
    )
