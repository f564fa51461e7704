"""The charges of an organisation, in groups."""

from libs.common.db.pool import Connection
from services.inbox.spend import MOST_ROWS, SpendError, SpendQuery, SpendRow

_SPEND = """
select case when $4 then (c.at at time zone 'UTC')::date end as day,
       case when $5 then c.channel end as channel,
       case when $6 then c.category end as category,
       case when $7 then case c.channel when 'whatsapp' then coalesce(w.display_number, c.account)
                                        else c.sender end end as number,
       case when $8 then c.conversation_id end as conversation,
       c.currency, count(*) as messages, coalesce(sum(c.segments), 0) as segments,
       coalesce(sum(c.price), 0) as amount, coalesce(sum(c.price) filter (where c.estimated), 0) as estimated,
       count(*) filter (where c.price is null) as unpriced
  from charges c
  left join whatsapp_numbers w on $7 and w.org_id = c.org_id and w.phone_number_id = c.account
 where c.org_id = $1 and c.at >= $2 and c.at < $3
 group by 1, 2, 3, 4, 5, c.currency
 order by 1, 2 desc, 3, 4, 5, c.currency
 limit $9
"""

# Of the bridges that were sent in that time, and how many of their customers have written since.
_BRIDGES = """
select count(*) as sent, count(distinct c.conversation_id) filter (where v.last_inbound_at >= c.at) as came_back
  from charges c
  left join conversations v on v.org_id = c.org_id and v.conversation_id = c.conversation_id
 where c.org_id = $1 and c.at >= $2 and c.at < $3 and c.channel = 'sms' and c.category = 'bridge'
"""


async def spend(db: Connection, org_id: str, query: SpendQuery) -> list[SpendRow]:
    """The groups, ordered by what they are grouped by. Raises SpendError when there are too many."""
    flags = [group in query.groups for group in ("day", "channel", "category", "number", "conversation")]
    rows = await db.fetch(_SPEND, org_id, query.since, query.until, *flags, MOST_ROWS + 1)
    if len(rows) > MOST_ROWS:
        raise SpendError("group_by", f"these are more than {MOST_ROWS} rows: ask for fewer days, or group by less")
    return [SpendRow(**row) for row in rows]


async def bridges(db: Connection, org_id: str, query: SpendQuery) -> tuple[int, int]:
    """How many bridge SMS were sent, and in how many of their conversations the customer has written since."""
    row = await db.fetchrow(_BRIDGES, org_id, query.since, query.until)
    return (row["sent"], row["came_back"]) if row is not None else (0, 0)
