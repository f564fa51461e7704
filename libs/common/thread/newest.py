"""The conversation in which a customer continues, whatever the channel."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.thread import conversations
from libs.common.thread.conversations import ConversationAddress, Thread

_NEWEST_OF = """
select u.org_id, u.customer_id, c.conversation_id, c.identity_version
  from unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
 cross join lateral (
       select c.conversation_id, c.identity_version from conversations c
        where c.org_id = u.org_id and c.customer_id = u.customer_id
        order by c.last_inbound_at desc nulls last, c.created_at desc, c.conversation_id desc
        limit 1 offset 0
       ) c
"""

_TO_OPEN = """
select u.org_id, u.customer_id, n.phone_number_id
  from unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
  left join lateral (
       select n.phone_number_id from whatsapp_numbers n
        where n.org_id = u.org_id and n.replaced_by is null
        order by n.created_at, n.phone_number_id limit 1
       ) n on true
 order by u.customer_id
"""


async def newest_of(db: Connection, customers: Iterable[tuple[str, UUID]]) -> dict[tuple[str, UUID], Thread]:
    """The conversation in which each (organisation, customer) continues, whatever the channel.

    It is the one with the newest inbound message, else the newest, else a new one on the organisation's first number,
    else one without a WhatsApp number. Call inside a transaction that holds the customers.
    Raises Transient as ``ensure`` does.
    """
    asked = sorted(set(customers))
    found = await _newest_of(db, asked)
    if missing := [one for one in asked if one not in found]:
        rows = await db.fetch(_TO_OPEN, *as_columns(missing))
        await conversations.ensure(db, [ConversationAddress(**row) for row in rows])
        found |= await _newest_of(db, missing)
    return found


async def _newest_of(db: Connection, customers: Sequence[tuple[str, UUID]]) -> dict[tuple[str, UUID], Thread]:
    rows = await db.fetch(_NEWEST_OF, *as_columns(customers)) if customers else []
    return {
        (row["org_id"], row["customer_id"]): Thread(row["conversation_id"], row["identity_version"]) for row in rows
    }
