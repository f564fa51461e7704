"""The SQL of lists of conversations, of one conversation, and of who has read what.

Rule 1: every list is one walk along an index of ``conversation_heads`` that begins with the organisation. What is shown
        of a row is read from the conversation itself, so a window is never older than the thread.
Rule 2: conversations that were told as unread for too long stand on top, but in the list of closing windows, which is
        sorted by what closes first.
Rule 3: a page begins behind the last row of the one before, by what the list is sorted by.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.thread.conversations import current_conversation

View = Literal["all", "closing", "expired", "failed", "unread"]

LAST = 2**63 - 1
_SOUGHT = "sought"


class Row(NamedTuple):
    """A conversation as lists show it, for one member. ``key`` and ``top`` are where it stands in the list."""

    conversation_id: UUID
    key: int | datetime | None
    top: bool
    customer_id: UUID
    name: str | None
    phone: str | None
    wa_id: str | None
    portal_seen_at: datetime | None
    phone_number_id: str | None
    display_number: str | None
    last_customer_at: datetime | None
    identity_changed_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None
    last_inbound_channel: str | None
    message_id: UUID | None
    direction: str | None
    channel: str | None
    content: Mapping[str, Any] | None
    actor: str | None
    notification_type: str | None
    status: str | None
    occurred_at: datetime | None
    last_at: datetime | None
    unread: bool
    unanswered_since: datetime | None
    escalated_at: datetime | None
    held_by: str | None
    held_by_name: str | None
    held_until: datetime | None


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which conversations, for whom, and from where on. ``place``: (whether on top, key) of the row before.

    ``cutoff``: a window whose customer wrote then, or earlier, is over. ``closing``: it closes soon where they wrote
    then, or earlier. ``text`` and ``number`` are queries for words (``services.inbox.words``).
    """

    org_id: str
    user_id: str
    view: View
    cutoff: datetime
    closing: datetime
    now: datetime
    limit: int
    place: tuple[bool, int] | tuple[datetime, UUID] | None = None
    channel: str | None = None
    phone_number_id: str | None = None
    text: str | None = None
    number: str | None = None
    walk: bool = False
    """Words that are found too often to be collected first: each conversation of the list is looked at instead."""


class _Values(list[Any]):
    def add(self, value: Any) -> str:
        """The placeholder of one more value."""
        self.append(value)
        return f"${len(self)}"


# "offset 0": the last message, and what a member has read of a conversation, are looked up by their keys, and not among
# all of the organisation's messages or all that the member has read.
_SHOWN = f"""
select p.conversation_id, p.key, p.top, c.customer_id, k.name, k.phone, c.wa_id, k.last_seen_at as portal_seen_at,
       c.phone_number_id, n.display_number, c.last_customer_at, c.identity_changed_at, c.first_refused_at,
       c.last_refused_at, c.last_inbound_channel,
       m.message_id, m.direction, m.channel, m.content, m.actor, m.notification_type, m.status, m.occurred_at,
       coalesce(m.occurred_at, h.last_at) as last_at,
       coalesce(h.inbound_sequence > greatest(me.read_below, r.read_sequence, 0), false) as unread,
       h.unanswered_since, h.escalated_at,
       o.user_id as held_by, s.name as held_by_name, o.until_at as held_until
  from page p
  join conversations c on c.org_id = $1 and c.conversation_id = p.conversation_id
  join customers k on k.org_id = $1 and k.customer_id = c.customer_id
  left join conversation_heads h on h.org_id = $1 and h.conversation_id = p.conversation_id
  left join whatsapp_numbers n on n.phone_number_id = c.phone_number_id and coalesce(n.org_id, $1) = $1
  left join lateral (
       select x.* from messages x where x.org_id = $1 and x.message_id = p.last_message_id offset 0) m
       on {current_conversation("m")} = p.conversation_id
  left join members me on me.org_id = $1 and me.user_id = $2
  left join lateral (
       select x.read_sequence from member_reads x
        where x.org_id = $1 and x.user_id = $2 and x.conversation_id = p.conversation_id offset 0) r on true
  left join conversation_holds o on o.org_id = $1 and o.conversation_id = p.conversation_id and o.until_at > $3
  left join members s on s.org_id = $1 and s.user_id = o.user_id
"""  # noqa: S608 -- a constant

_FOUND = f"""
select {current_conversation("m")} as conversation_id
  from message_words w
  join messages m on m.org_id = w.org_id and m.message_id = w.message_id
 where w.org_id = $1 and w.words @@ {{query}}::tsquery and m.conversation_id is not null
 union
"""  # noqa: S608 -- a constant
_FOUND_PEOPLE = """
select c.conversation_id
  from customer_words w
  join conversations c on c.org_id = w.org_id and c.customer_id = w.customer_id
 where w.org_id = $1 and w.words @@ {query}::tsquery
"""

# Asked of one conversation after the other: an "exists" might be answered for all at once, which reads every message.
_HAS_WORDS = """
coalesce((select true from messages y
           cross join lateral (select w.words from message_words w
                                where w.org_id = $1 and w.message_id = y.message_id offset 0) w
           where y.org_id = $1 and y.conversation_id = h.conversation_id and w.words @@ {query}::tsquery limit 1),
         (select true from conversations c
            join customer_words w on w.org_id = c.org_id and w.customer_id = c.customer_id
           where c.org_id = $1 and c.conversation_id = h.conversation_id and w.words @@ {query}::tsquery), false)
"""

_OFTEN = """
select (select count(*) from (select from message_words w where w.org_id = $1 and w.words @@ $2::tsquery limit $3) x)
     + (select count(*) from (select from customer_words w where w.org_id = $1 and w.words @@ $2::tsquery limit $3) x)
"""

# The head may be a moment late: of one conversation the newest message is looked up.
_ONE = f"""
with asked as (
    select $1::text as org_id, $4::uuid as conversation_id
), page as (
    select c.conversation_id, null::bigint as key, false as top,
           (select t.message_id
              from (select c.conversation_id as thread
                     union all
                    select g.loser from conversation_merges g
                     where g.org_id = c.org_id and g.winner = c.conversation_id) s
             cross join lateral (
                   select y.message_id, y.sequence from messages y
                    where y.org_id || '' = c.org_id and y.conversation_id = s.thread
                    order by y.sequence desc limit 1 offset 0) t
             order by t.sequence desc limit 1) as last_message_id
      from asked u
      join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
)
{_SHOWN}
"""  # noqa: S608 -- constants

_NUMBERS = """
select phone_number_id, display_number from whatsapp_numbers
 where org_id = $1 and replaced_by is null order by display_number, phone_number_id
"""

_UNREAD = """
select u.user_id, a.conversation_id
  from unnest($2::text[]) as u (user_id)
 cross join unnest($3::uuid[]) as a (conversation_id)
 cross join lateral (
       select x.inbound_sequence from conversation_heads x
        where x.org_id = $1 and x.conversation_id = a.conversation_id offset 0) h
  left join members me on me.org_id = $1 and me.user_id = u.user_id
  left join lateral (
       select x.read_sequence from member_reads x
        where x.org_id = $1 and x.user_id = u.user_id and x.conversation_id = a.conversation_id offset 0) r on true
 where h.inbound_sequence > greatest(me.read_below, r.read_sequence, 0)
"""

# Everything that is stored counts as read, also what the head does not know yet.
_READ = f"""
with asked as (
    select $1::text as org_id, $3::uuid as conversation_id
), thread as (
    select c.org_id, c.conversation_id,
           coalesce((select max(t.sequence)
              from (select c.conversation_id as thread
                     union all
                    select g.loser from conversation_merges g
                     where g.org_id = c.org_id and g.winner = c.conversation_id) s
             cross join lateral (
                   select y.sequence from messages y
                    where y.org_id || '' = c.org_id and y.conversation_id = s.thread
                    order by y.sequence desc limit 1 offset 0) t), 0) as newest
      from asked u
      join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
), seen as (
    update conversation_heads h
       set seen_sequence = greatest(h.seen_sequence, t.newest),
           unread_since = case when h.inbound_sequence > t.newest then h.unread_since end,
           escalated_at = case when h.inbound_sequence > t.newest then h.escalated_at end
      from thread t
     where h.org_id = t.org_id and h.conversation_id = t.conversation_id
       and (h.seen_sequence < t.newest or h.escalated_at is not null or h.unread_since is not null)
), moved as (
    insert into member_reads as r (org_id, user_id, conversation_id, read_sequence)
    select t.org_id, m.user_id, t.conversation_id, t.newest
      from thread t join members m on m.org_id = t.org_id and m.user_id = $2
     where t.newest > m.read_below
    on conflict (org_id, user_id, conversation_id) do update
       set read_sequence = excluded.read_sequence
     where r.read_sequence < excluded.read_sequence
    returning true
)
select t.conversation_id, exists (select from moved) as moved from thread t
"""  # noqa: S608 -- constants


async def page(db: Connection, query: ListQuery) -> list[Row]:
    """The rows of a page, at most ``limit``."""
    values = _Values([query.org_id, query.user_id, query.now])
    sql = _page_sql(query, values)
    return [Row(**row) for row in await db.fetch(sql, *values)]


async def is_found_often(db: Connection, org_id: str, text: str, often: int) -> bool:
    """Whether a query for words finds more messages and customers than ``often``."""
    return bool(await db.fetchval(_OFTEN, org_id, text, often + 1) > often)


async def one(db: Connection, org_id: str, user_id: str, conversation_id: UUID, now: datetime) -> Row | None:
    """One conversation, under its present id or an earlier one. None: the organisation has no such conversation."""
    row = await db.fetchrow(_ONE, org_id, user_id, now, conversation_id)
    return None if row is None else Row(**row)


async def unread_of(
    db: Connection, org_id: str, user_ids: Collection[str], conversation_ids: Collection[UUID]
) -> dict[str, frozenset[UUID]]:
    """Which of these conversations are unread for each of the members that has any."""
    found: dict[str, set[UUID]] = {}
    for row in await db.fetch(_UNREAD, org_id, list(user_ids), list(conversation_ids)):
        found.setdefault(row["user_id"], set()).add(row["conversation_id"])
    return {user_id: frozenset(unread) for user_id, unread in found.items()}


async def mark_read(db: Connection, org_id: str, user_id: str, conversation_id: UUID) -> tuple[UUID, bool] | None:
    """The member has read everything that is stored of the conversation. Returns its present id, and whether it is new.

    None: the organisation has no such conversation.
    """
    row = await db.fetchrow(_READ, org_id, user_id, conversation_id)
    return None if row is None else (row["conversation_id"], row["moved"])


async def numbers(db: Connection, org_id: str) -> list[tuple[str, str]]:
    """The organisation's WhatsApp numbers: id and display number, in the order of the latter."""
    return [(row["phone_number_id"], row["display_number"]) for row in await db.fetch(_NUMBERS, org_id)]


async def counts(db: Connection, query: ListQuery, views: Mapping[View, int]) -> dict[View, int]:
    """How many conversations each view has, counted up to its number."""
    values = _Values([query.org_id])
    user = values.add(query.user_id)
    parts = []
    for view, most in views.items():
        where = _where(view, query, values, user)
        parts.append(
            f"(select count(*) from (select from conversation_heads h"  # noqa: S608 -- parts of this module
            f" where h.org_id = $1 and {where} limit {values.add(most)}) x) as {view}"
        )
    row = await db.fetchrow(f"select {user}::text, {', '.join(parts)}", *values)
    assert row is not None  # noqa: S101 -- narrows the type
    return {view: row[view] for view in views}


def _page_sql(query: ListQuery, values: _Values) -> str:
    where = " and ".join(_conditions(query, values))
    limit = values.add(query.limit)
    if query.view == "closing":
        behind = ""
        match query.place:
            case (datetime() as at, UUID() as after):
                behind = f" and (h.last_customer_at, h.conversation_id) > ({values.add(at)}, {values.add(after)})"
            case _:
                pass
        return f"""{_found(query, values)} page as (
    select h.conversation_id, h.last_customer_at as key, false as top, h.last_message_id
      from conversation_heads h
     where h.org_id = $1 and {where}{behind}
     order by h.last_customer_at, h.conversation_id limit {limit}
){_SHOWN} order by p.key, p.conversation_id"""  # noqa: S608 -- parts of this module
    top_below, below = LAST, LAST
    match query.place:
        case (True, int() as last):
            top_below = last
        case (False, int() as last):
            top_below, below = -1, last
        case _:
            pass
    key = "h.inbound_sequence" if query.view == "unread" else "h.last_sequence"
    branches = [
        f"""(select h.conversation_id, {key} as key, {top} as top, h.last_message_id
      from conversation_heads h
     where h.org_id = $1 and h.escalated_at is {"not null" if top == "true" else "null"} and {where} and {key} < {bound}
     order by {key} desc limit {limit})"""  # noqa: S608 -- parts of this module
        for top, bound in (("true", values.add(top_below)), ("false", values.add(below)))
    ]
    return f"""{_found(query, values)} page as (
    select * from ({" union all ".join(branches)}) x order by x.top desc, x.key desc limit {limit}
){_SHOWN} order by p.top desc, p.key desc"""  # noqa: S608 -- parts of this module


def _found(query: ListQuery, values: _Values) -> str:
    """The conversations that the words find, as the first part of the statement."""
    if query.walk or (query.text is None and query.number is None):
        return "with"
    parts = []
    if query.text is not None:
        text = values.add(query.text)
        parts.append(_FOUND.format(query=text) + _FOUND_PEOPLE.format(query=text))
    if query.number is not None:
        parts.append(_FOUND_PEOPLE.format(query=values.add(query.number)))
    return f"with {_SOUGHT} as materialized ({' union '.join(parts)}),"


def _conditions(query: ListQuery, values: _Values) -> list[str]:
    found = [_where(query.view, query, values, "$2")]
    if query.channel is not None:
        found.append(f"h.channel = {values.add(query.channel)}")
    if query.phone_number_id is not None:
        found.append(f"h.phone_number_id = {values.add(query.phone_number_id)}")
    if query.walk:
        found.append(_HAS_WORDS.format(query=values.add(query.text)))
    elif query.text is not None or query.number is not None:
        found.append(f"h.conversation_id in (select conversation_id from {_SOUGHT})")  # noqa: S608 -- a constant
    return found


def _where(view: View, query: ListQuery, values: _Values, user: str) -> str:
    match view:
        case "all":
            return "true"
        case "unread":
            # behind what counts as read altogether, few rows are left that the member has read one by one
            return (
                "h.inbound_sequence > coalesce((select me.read_below from members me"  # noqa: S608 -- constants
                f" where me.org_id = $1 and me.user_id = {user}), 0)"
                " and not exists (select from member_reads r where r.org_id = $1"
                f" and r.user_id = {user} and r.conversation_id = h.conversation_id"
                " and r.read_sequence >= h.inbound_sequence offset 0)"
            )
        case "closing":
            return (
                "h.unanswered_since is not null and not h.closed_early"
                f" and h.last_customer_at > {values.add(query.cutoff)}"
                f" and h.last_customer_at <= {values.add(query.closing)}"
            )
        case "expired":
            return (
                "h.last_customer_at is not null"
                f" and (h.closed_early or h.last_customer_at <= {values.add(query.cutoff)})"
            )
        case "failed":
            return "h.failed_sequence is not null"
