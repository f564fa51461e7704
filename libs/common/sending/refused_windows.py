"""What becomes of a customer service window when Meta refuses a free-form send in it, or the send arrives after all.

Rule 1: a refusal closes the window from the time of the send. The customer's last message, as the decision knew it, may
        lie ahead of our clock, and the second send of a doubt ends it.
Rule 2: a send that reached the customer disproves its own refusal, and each of an earlier send. A template needs no
        window, so its arrival says nothing of one.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.thread.conversations import disprove_refusals, refuse_windows
from libs.common.window import DOUBT_WAIT


class RefusedSend(NamedTuple):
    """A send on WhatsApp. ``called_at``: when it was called; None: its row tells, or it was none."""

    org_id: str
    conversation_id: UUID
    message_id: UUID
    attempt: int
    called_at: datetime | None = None


_REFUSED_AT = """
select u.org_id, u.conversation_id, greatest(coalesce(u.called_at, s.claimed_at), f.customer_at,
       case when u.attempt > 1 and f.first_refused_at >= f.customer_at then f.first_refused_at + $6::interval end)
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[], $5::timestamptz[])
       as u (org_id, conversation_id, message_id, attempt, called_at)
  left join sends s
    on s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
   and s.channel = 'whatsapp' and not s.template
  left join lateral (
       select (d.record -> 'facts' ->> 'last_customer_at')::timestamptz as customer_at,
              (d.record -> 'facts' ->> 'first_refused_at')::timestamptz as first_refused_at
         from decisions d
        where d.org_id = u.org_id and d.intent_id = u.message_id and d.attempt = u.attempt offset 0) f on true
 where coalesce(u.called_at, s.claimed_at) is not null
"""


async def close(db: Connection, refused: Sequence[RefusedSend]) -> None:
    """Meta refused these free-form sends because the window was closed."""
    if refused:
        await refuse_windows(db, await _counted(db, refused))


async def reopen(db: Connection, arrived: Sequence[RefusedSend]) -> None:
    """These sends reached the customer."""
    if arrived:
        await disprove_refusals(db, await _counted(db, arrived))


async def _counted(db: Connection, sends: Sequence[RefusedSend]) -> list[tuple[str, UUID, datetime]]:
    """The conversations of these sends, with the time from when a refusal of each counts."""
    return [tuple(row) for row in await db.fetch(_REFUSED_AT, *as_columns(sends), DOUBT_WAIT)]
