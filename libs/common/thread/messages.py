"""Outbound messages and their statuses: locked in one order, advanced, and written back in one round trip."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.errors import Permanent
from libs.common.events.outbound import Channel, NewStatus
from libs.common.ids import MessageKey
from libs.common.thread.conversations import current_conversation
from libs.common.thread.message_status import ECHO, Failed, MessageState, Status, advance

_CHANNELS, _STATUSES = frozenset(get_args(Channel)), frozenset(get_args(Status))


@dataclass(slots=True)
class LockedMessage:
    """An outbound message whose row this transaction has locked.

    ``state`` is replaced as statuses are applied; ``written`` is the row's.

    ``conversation_id`` is the standing conversation: the message may have been written under one that was merged since.
    ``read_channel``: where it was read, where that is another channel than its own. ``place``: where the row stands in
    its table, until the transaction writes or ends.
    """

    org_id: str
    message_id: UUID
    place: str
    conversation_id: UUID | None
    channel: Channel
    read_channel: Channel | None
    state: MessageState
    written: MessageState


_LOCK_MESSAGES = f"""
select u.n, m.ctid::text as place, {current_conversation("m")} as conversation_id, m.channel,
       m.read_channel, m.status, m.attempt, m.seq, m.reason, m.provider_code, m.sent_at, m.delivered_at, m.read_at,
       m.failed_at
  from unnest($1::text[], $2::uuid[]) with ordinality as u (org_id, message_id, n)
  join messages m using (org_id, message_id)
 where m.direction = 'out'
 order by m.org_id, m.message_id
   for update of m
"""  # noqa: S608 -- a constant

# The rows are locked, so they stand where they were found, and no index is asked again.
_WRITE_STATES = """
update messages m
   set status = u.status, seq = u.seq, reason = u.reason, provider_code = u.provider_code,
       sent_at = u.sent_at, delivered_at = u.delivered_at, read_at = u.read_at, failed_at = u.failed_at,
       read_channel = u.read_channel
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::text[],
              $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[])
    as u (org_id, message_id, place, read_channel, status, seq, reason, provider_code, sent_at, delivered_at, read_at,
          failed_at)
 where m.ctid = u.place::tid and m.org_id = u.org_id and m.message_id = u.message_id
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
    return {(key := wanted[n - 1]): _locked(key, columns) for n, *columns in rows}


async def write_states(db: Connection, messages: Iterable[LockedMessage]) -> None:
    """Write back the messages that moved."""
    rows = []
    for m in messages:
        if m.state is not m.written and m.state != m.written:
            status, _, *rest = m.state
            rows.append((m.org_id, m.message_id, m.place, m.read_channel, status, *rest))
    if rows:
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


async def fail_locally(db: Connection, failures: Sequence[LocalFailure]) -> list[NewStatus]:
    """End messages as failed. Returns the newest status of each, so that a repeat publishes the same again."""
    messages = await lock_messages(db, {(f.org_id, f.message_id) for f in failures})
    for failure in failures:
        message = messages.get((failure.org_id, failure.message_id))
        if message is not None:
            message.state = advance(message.state, Failed(failure.attempt, failure.reason, failure.code, failure.at))
    await write_states(db, messages.values())
    return [update for message in messages.values() if (update := delivery_update(message)) is not None]


def delivery_update(message: LockedMessage) -> NewStatus | None:
    """The update that publishes a message's newest status; None while it is pending.

    A failure that was disproved is not published.
    """
    status, attempt, seq, reason, code, *_ = message.state
    at = message.state.at
    if status == "pending" or at is None:
        return None
    channel = (message.read_channel if status == "read" else None) or message.channel
    if status != "failed":
        reason = code = None
    author: Literal["phone_app"] | None = "phone_app" if attempt == ECHO else None
    return NewStatus(
        message.message_id, message.org_id, message.conversation_id, channel, seq, status, reason, code, at, author
    )


def _locked(key: MessageKey, columns: Sequence[Any]) -> LockedMessage:
    """The message of a row of ``_LOCK_MESSAGES``, by the order of its columns."""
    place, conversation_id, channel, read_channel, *rest = columns
    state = MessageState(*rest)
    if channel not in _CHANNELS:
        raise Permanent("unknown_value", "a message is on a channel that is not known here")
    if state.status not in _STATUSES:
        raise Permanent("unknown_value", "a message has a status that is not known here")
    return LockedMessage(*key, place, conversation_id, channel, read_channel, state, state)
