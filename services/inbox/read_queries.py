"""The SQL that keeps the rows of ``member_reads`` few. ``conversation_queries`` writes them."""

from typing import NamedTuple

from libs.common.db.pool import Connection, changed

_SEQUENCE = "select last_value from message_sequence"

# Of each member so many rows are looked at as make them crowded, however many there are.
_MEMBERS = """
select m.org_id, m.user_id,
       exists (select from member_reads r
                where r.org_id = m.org_id and r.user_id = m.user_id limit 1 offset $4) as crowded
  from (select org_id, user_id from members where (org_id, user_id) > ($1, $2) order by org_id, user_id limit $3) m
 order by 1, 2
"""

# Whoever has left one message unread for long keeps their rows: nothing is deleted then, and few rows are read.
# "offset 0": each conversation is looked up by its key, and not among all that the member has read.
_MOVE = """
with goal as (
    select m.org_id, m.user_id, least($3, coalesce(
           (select h.inbound_sequence - 1
              from (select h.org_id, h.conversation_id, h.inbound_sequence from conversation_heads h
                     where h.org_id = m.org_id and h.inbound_sequence > m.read_below
                     order by h.inbound_sequence limit $4) h
             where not exists (select from member_reads r
                                where r.org_id = m.org_id and r.user_id = m.user_id
                                  and r.conversation_id = h.conversation_id and r.read_sequence >= h.inbound_sequence
                               offset 0)
             order by h.inbound_sequence limit 1),
           (select h.inbound_sequence from conversation_heads h
             where h.org_id = m.org_id and h.inbound_sequence > m.read_below
             order by h.inbound_sequence limit 1 offset $4 - 1), $3)) as below
      from members m
     where m.org_id = $1 and m.user_id = $2
)
update members m
   set read_below = g.below
  from goal g
 where m.org_id = g.org_id and m.user_id = g.user_id and m.read_below < g.below
"""

_DROP = """
delete from member_reads
 where ctid = any (array(select r.ctid from members m
                           join member_reads r on r.org_id = m.org_id and r.user_id = m.user_id
                                              and r.read_sequence <= m.read_below
                          where m.org_id = $1 and m.user_id = $2 limit $3))
"""


# As of a member who comes for the first time (``session_queries``).
_OLD = """
update members m
   set read_below = f.below
  from members k
 cross join lateral (
       select h.inbound_sequence as below from conversation_heads h
        where h.org_id = k.org_id and h.inbound_sequence > k.read_below
          and h.inbound_at < k.first_seen_at - interval '7 days'
        order by h.inbound_sequence desc limit 1 offset 0) f
 where k.org_id = $1 and m.org_id = k.org_id and m.user_id = k.user_id and m.read_below < f.below
"""


async def newest_sequence(db: Connection) -> int:
    """The sequence that was given last to a message."""
    found: int = await db.fetchval(_SEQUENCE)
    return found


class MemberRows(NamedTuple):
    """A member. ``crowded``: they have more rows than was asked."""

    org_id: str
    user_id: str
    crowded: bool


async def members_after(db: Connection, after: tuple[str, str], members: int, rows: int) -> list[MemberRows]:
    """The next members by (organisation, user), and whether each has more than so many rows."""
    return [MemberRows(**row) for row in await db.fetch(_MEMBERS, *after, members, rows)]


async def move(db: Connection, org_id: str, user_id: str, settled: int, limit: int) -> bool:
    """Move ``read_below`` up to the first message that the member has not read, at most to ``settled``.

    It passes ``limit`` conversations at most. Returns whether it moved.
    """
    return bool(await changed(db, _MOVE, org_id, user_id, settled, limit))


async def drop(db: Connection, org_id: str, user_id: str, limit: int) -> int:
    """Delete up to ``limit`` of the member's rows that ``read_below`` says as well; returns how many."""
    return await changed(db, _DROP, org_id, user_id, limit)


async def read_what_was_old(db: Connection, org_id: str) -> None:
    """What was a week old when they were first here is read for each member of the organisation."""
    await db.execute(_OLD, org_id)
