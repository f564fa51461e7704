"""Meta's refusals of free-form sends, kept with the conversation; what they mean is said by ``libs.common.window``."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.thread.conversations import current_conversation

# A refusal counts from its send. The first since the customer's last message is kept beside the newest; one from before
# that message is neither.
_REFUSE = f"""
with refused as (
    select t.org_id, {current_conversation("t")} as conversation_id, array_agg(t.at) as ats, max(t.at) as newest
      from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as t (org_id, conversation_id, at)
     group by 1, 2
), held as (
    select c.org_id, c.conversation_id, c.last_customer_at, t.ats, t.newest
      from refused t
      join conversations c on c.org_id = t.org_id and c.conversation_id = t.conversation_id
     order by c.conversation_id
       for no key update of c
)
update conversations c
   set last_refused_at = greatest(c.last_refused_at, h.newest),
       first_refused_at = coalesce(
           (select min(at) from unnest(h.ats || c.first_refused_at) as at where at >= h.last_customer_at),
               c.first_refused_at)
  from held h
 where c.org_id = h.org_id and c.conversation_id = h.conversation_id
"""  # noqa: S608 -- a constant


async def refuse_windows(db: Connection, refused: Iterable[tuple[str, UUID, datetime]]) -> None:
    """Meta refused free-form messages of these conversations (org, conversation) that were sent at that time.

    Idempotent, in any order.
    """
    rows = sorted(set(refused))
    if rows:
        await db.execute(_REFUSE, *([row[n] for row in rows] for n in range(3)))
