"""First contacts: a customer and a conversation for whoever is written to before they wrote.

A number belongs to whoever has its line, under any spelling. It is settled alone (``IDENTITIES``), as ingest does.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.locks import IDENTITIES, lock
from libs.common.db.pool import Connection
from libs.common.ids import identity_lock
from libs.common.phone import canonical

_NEW_CUSTOMERS = """
with named as materialized (
    select distinct on (org_id, line) org_id, line, phone
      from unnest($1::text[], $2::text[], $3::text[]) as u (org_id, line, phone)
     order by org_id, line
), fresh as (
    insert into customer_identities (org_id, kind, value, customer_id, since, source)
    select org_id, 'phone', line, uuidv7(), $4, 'intent' from named
    on conflict do nothing
    returning org_id, value, customer_id
)
insert into customers (customer_id, org_id, phone, origin)
select f.customer_id, f.org_id, n.phone, 'outbound' from fresh f join named n on n.org_id = f.org_id and n.line = f.value
"""

_NEW_CONVERSATIONS = """
insert into conversations (org_id, customer_id, phone_number_id)
select distinct u.org_id, coalesce(u.customer_id, i.customer_id), u.number
  from unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) as u (org_id, number, line, customer_id)
  left join customer_identities i on i.org_id = u.org_id and i.kind = 'phone' and i.value = u.line
 order by 2, 3
on conflict (phone_number_id, customer_id) do nothing
"""

_CONTACTED = """
select c.conversation_id, c.customer_id
  from unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) with ordinality as u (org_id, number, line, customer_id, ord)
  left join customer_identities i on i.org_id = u.org_id and i.kind = 'phone' and i.value = u.line
  join conversations c on c.org_id = u.org_id and c.phone_number_id = u.number and c.customer_id = coalesce(u.customer_id, i.customer_id)
 order by u.ord
"""


class Contact(NamedTuple):
    """Somebody to be written to for the first time from this number; ``customer_id`` where the directory knows them."""

    org_id: str
    phone_number_id: str
    phone: str
    customer_id: UUID | None


async def open_conversations(db: Connection, contacts: Sequence[Contact], now: datetime) -> list[tuple[UUID, UUID]]:
    """Conversation and customer of each contact, in order; created where they are missing. At most four round trips.

    A number is whoever's has its line.
    """
    strangers = [contact for contact in contacts if contact.customer_id is None]
    if strangers:
        # whoever writes to a number and whoever hears from it first make one customer, not two
        await lock(db, IDENTITIES, {identity_lock(c.org_id, "phone", c.phone) for c in strangers})
        people = [(c.org_id, canonical(c.phone), c.phone) for c in strangers]
        await db.execute(_NEW_CUSTOMERS, *zip(*people, strict=True), now)
    lines = [contact._replace(phone=canonical(contact.phone)) for contact in contacts]
    columns = list(zip(*lines, strict=True))
    await db.execute(_NEW_CONVERSATIONS, *columns)
    return [(row[0], row[1]) for row in await db.fetch(_CONTACTED, *columns)]
