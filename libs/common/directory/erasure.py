"""The erasure of a customer: who they are, how they are reached, and every word of their threads.

``docs/runbooks/erase-a-customer.md`` says of each column what becomes of it.

Rule 1: the person goes first, in one transaction: names, numbers, ids, links, sessions, and what waits to be sent.
        From its commit on whoever writes from the number is somebody new. ``customers.erased`` says so: no status or
        answer binds an id to the customer again, the router rejects what is meant for them (``customer_erased``), and
        what comes for their threads is stored without its words.
Rule 2: the words follow in slices of ``MOST`` messages, each a transaction. A message and all that repeats it (send,
        decision, words of the search, parts) are erased together, so its content says whether it is still to be done.
        Erased again, what was left goes, and nothing is done twice.
Rule 3: nothing begins while a message to the customer is on its way, or while a merge moves rows. What comes on its way
        meanwhile is left as it is, and counted.
Rule 4: what was said of the address stays: STOPs, denied consents, marks. So do ids, times, statuses, costs and the
        trail. What was denied holds for whoever comes with the number or BSUID (``suppressions``). A call or a notice
        that comes once more is known by them (``erased_identities``). Of both there is a hash of each.
Rule 5: locks are taken in the order of docs/architecture/data.md.
"""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory import erased_identities, suppressions
from libs.common.directory.organisations import AuditLine, add_lines
from libs.common.directory.portal_access import end_access
from libs.common.directory.touched import touch
from libs.common.errors import Transient
from libs.common.events.content import ERASED
from libs.common.ids import callback_data
from libs.common.phone import canonical, from_wa_id
from libs.common.thread.conversations import current_conversation

MOST = 200
"""Messages of a slice."""


def erased(row: str) -> str:
    """An SQL expression: whether a message was erased. ``row`` is the alias of a row of ``messages``.

    Content of other kinds is not read for it: it may be long.
    """
    return f"({row}.kind in ('bridge', 'reaction', 'unsupported') and {row}.content ? 'erased')"


class Erasable(NamedTuple):
    """A customer and their conversations."""

    org_id: str
    customer_id: UUID
    conversations: list[UUID]


class Findings(NamedTuple):
    """What an erasure would find. ``access``: links and sessions. ``person``: there is still something of the person.

    ``under_way``: messages whose end is not known. ``merging``: threads whose rows are still being moved here.
    """

    messages: int
    access: int
    person: bool
    under_way: int
    merging: int


class Page(NamedTuple):
    """A page of a thread: the messages to erase, how many are under way, and where the next page begins (sequence)."""

    left: list[UUID]
    under_way: int
    after: int | None


class Erased(NamedTuple):
    """How many messages were erased, and how many came under way meanwhile and are left."""

    messages: int
    under_way: int


# "|| ''": found by their id, and not among those of the whole organisation.
_FIND = f"""
select k.customer_id
  from (values ($1::text, $2::uuid)) as u (org_id, conversation_id)
  left join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  left join customer_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
  join customers k on k.customer_id = coalesce(c.customer_id, a.customer_id, u.conversation_id)
                  and k.org_id || '' = u.org_id
"""  # noqa: S608 -- a constant

# "|| ''": likewise, by their customer.
_CONVERSATIONS = """
select c.conversation_id from conversations c
 where c.customer_id = $2 and c.org_id || '' = $1
 order by c.conversation_id
"""

# "offset 0": each is found by its key, whatever the planner believes of tables that grow.
_PERSON = """
select (select count(*) from portal_links l where l.conversation_id = any($3::uuid[]) and l.org_id || '' = $1)
     + (select count(*) from portal_sessions s where s.conversation_id = any($3::uuid[]) and s.org_id || '' = $1)
       as access,
       exists (select from customers k where k.customer_id = $2 and k.org_id = $1
                  and coalesce(k.name, k.phone, k.directory_phone, k.last_seen_at::text) is not null)
       or exists (select from customer_identities i where i.customer_id = $2 and i.org_id || '' = $1 offset 0)
       or exists (select from former_identities f where f.customer_id = $2 and f.org_id || '' = $1 offset 0)
       or exists (select from conversations c where c.conversation_id = any($3::uuid[]) and c.org_id || '' = $1
                     and coalesce(c.wa_id, c.bsuid) is not null offset 0)
       or exists (select from parked_messages p where p.conversation_id = any($3::uuid[]) and p.org_id || '' = $1
                     and not p.content ? 'erased' offset 0) as person,
       (select count(*) from parked_messages p
          join parked_releases r on r.org_id = p.org_id and r.intent_id = p.intent_id
         where p.conversation_id = any($3::uuid[]) and p.org_id || '' = $1) as under_way,
       (select count(*) from conversation_merges g
         where g.winner = any($3::uuid[]) and g.org_id || '' = $1) as merging
"""

# What has a send that is not settled, or is to have one, and what the router is to decide again. Of a bridge SMS the
# send is that of the message that it stands for.
_PAGE = f"""
select m.message_id, m.sequence, {erased("m")} as erased,
       m.direction = 'out' and not {erased("m")}
       and (m.status = 'pending'
            and not exists (select from sends s
                             where s.org_id = m.org_id and s.message_id = coalesce(m.parent_id, m.message_id)
                               and s.attempt >= m.attempt and s.settled_at is not null offset 0)
            or exists (select from sends s
                        where s.org_id = m.org_id and s.message_id = m.message_id and s.settled_at is null offset 0)
            or exists (select from refusals r
                        where r.org_id = m.org_id and r.intent_id = m.message_id offset 0)) as under_way
  from (select * from messages y
         where y.org_id || '' = $1 and y.conversation_id = $2 and y.sequence > $3
         order by y.sequence limit $4 offset 0) m
 order by m.sequence
"""  # noqa: S608 -- a constant


_HOLD_CUSTOMER = "select from customers k where k.customer_id = $2 and k.org_id = $1 for update"
_HOLD_CONVERSATIONS = f"{_CONVERSATIONS}   for update"

# ``until``: they had it until then. ``passed_on``: somebody else has it since, or had it for a time.
_IDENTITIES = """
select i.kind, i.value, null::timestamptz as until, false as passed_on
  from customer_identities i where i.customer_id = $2 and i.org_id || '' = $1
union all
select f.kind, f.value, f.until, exists (
           select from customer_identities i
            where i.org_id = f.org_id and i.kind = f.kind and i.value = f.value and i.customer_id <> $2 offset 0)
       or exists (
           select from former_identities o
            where o.org_id = f.org_id and o.kind = f.kind and o.value = f.value and o.customer_id <> $2
              and o.since >= f.until offset 0)
  from former_identities f where f.customer_id = $2 and f.org_id || '' = $1
union all
select 'phone', k.phone, null, false
  from customers k where k.customer_id = $2 and k.org_id = $1 and k.phone is not null
"""

# The time of the erasure becomes that of the newest change, so the directory brings no older one, as a replay would. A
# process that found a conversation before must find its customer again (``identity_version``).
_FORGET_PERSON = (
    "delete from customer_identities i where i.customer_id = $2 and i.org_id || '' = $1",
    "delete from former_identities f where f.customer_id = $2 and f.org_id || '' = $1",
    "delete from customer_words w where w.customer_id = $2 and w.org_id || '' = $1",
    "delete from consents c where c.customer_id = $2 and c.org_id || '' = $1 and c.allowed and c.published",
    """
update customers k
   set name = null, phone = null, phone_at = null, directory_phone = null, last_seen_at = null, erased = true,
       upserted_at = greatest(k.upserted_at + interval '1 microsecond', now())
 where k.customer_id = $2 and k.org_id = $1
""",
)
_FORGET_ADDRESSES = """
update conversations c
   set wa_id = null, wa_id_at = null, bsuid = null, bsuid_at = null, identity_version = c.identity_version + 1
 where c.conversation_id = any($2::uuid[]) and c.org_id = $1
"""
_MERGING = "select from conversation_merges g where g.winner = any($2::uuid[]) and g.org_id || '' = $1"
_FORGET_PARKED = f"""
update parked_messages p
   set content = '{orjson.dumps(ERASED).decode()}',
       state = case p.state when 'waiting' then 'dropped' else p.state end
 where p.conversation_id = any($2::uuid[]) and p.org_id || '' = $1 and not p.content ? 'erased'
"""  # noqa: S608 -- a constant
# Of a number that they gave up only those up to then: a later one is of whoever had it next. "offset 0": by the key.
_FORGET_NOTICES = [
    f"""
delete from identity_notices
 where ctid = any (array(
       select n.ctid
         from unnest($2::text[], $3::timestamptz[]) as u (identity, until)
        cross join lateral (
              select y.ctid from identity_notices y
               where y.org_id = $1 and y.{column} = u.identity and y.{column} <> ''
                 and (u.until is null or y.at {by} u.until) offset 0) n))
"""  # noqa: S608 -- constants
    for column, by in (("old_line", "<="), ("old_bsuid", "<="), ("new_line", "<"), ("new_bsuid", "<"))
]

_SENDS = """
select s.message_id, s.attempt
  from unnest($2::uuid[]) as u (message_id)
  join sends s on s.org_id = $1 and s.message_id = u.message_id
 order by s.message_id, s.attempt
   for no key update of s
"""
_MESSAGES = """
select m.message_id
  from unnest($2::uuid[]) as u (message_id)
  join messages m on m.org_id = $1 and m.message_id = u.message_id
 order by m.message_id
   for no key update of m
"""

# Everything of a message that repeats its words, its address, or the other way round; the message itself comes last.
# The record of a decision becomes that of an intent of which nothing is kept: whoever decides again rejects it. Words
# of the search stay as an empty row, so that a worker who has read them writes them no more.
_ERASE = (
    """
update sends s
   set command = s.command - '{to,recipient,content,text,quotes}'::text[], link_hash = null, text_hash = null
  from unnest($2::uuid[]) as u (message_id)
 where s.org_id = $1 and s.message_id = u.message_id and s.settled_at is not null
""",
    """
with joins as materialized (
    select p.join_id
      from unnest($2::uuid[]) as u (message_id)
      join messages m on m.org_id = $1 and m.message_id = u.message_id and m.direction = 'in' and m.channel = 'sms'
      join sms_parts p on p.provider = m.provider and p.account = m.account and p.provider_id = m.provider_id
       and p.org_id = m.org_id
), parts as (
    update sms_parts p set text = null from joins j where p.join_id = j.join_id
)
update sms_joins o set sender = '' from joins j where o.join_id = j.join_id
""",
    """
update decisions d
   set command = null,
       record = ((d.record::jsonb - 'intent') #- '{facts,phone}' #- '{facts,wa_id}' #- '{facts,bsuid}'
                 #- '{facts,quoted}'
                 || case when d.record::jsonb ? 'intent' then jsonb_build_object('bad', jsonb_build_object(
                    'intent_id', d.intent_id, 'org_id', d.org_id, 'reason', 'customer_erased', 'detail', 'erased',
                    'conversation_id', d.record -> 'intent' -> 'conversation_id',
                    'created_at', d.record -> 'intent' -> 'created_at',
                    'actor_kind', d.record -> 'intent' -> 'actor' -> 'kind',
                    'user_id', d.record -> 'intent' -> 'actor' -> 'user_id')) else '{}' end)::json
  from unnest($2::uuid[]) as u (message_id)
 where d.org_id = $1 and d.intent_id = u.message_id
""",
    """
delete from portal_answers a using unnest($2::uuid[]) as u (message_id)
 where a.org_id = $1 and a.message_id = u.message_id
""",
    """
insert into message_words as w (org_id, message_id, words)
select $1, u.message_id, '' from unnest($2::uuid[]) as u (message_id) order by u.message_id
on conflict (org_id, message_id) do update set words = excluded.words
""",
    """
update messages m
   set kind = case when m.kind in ('bridge', 'reaction') then m.kind else 'unsupported' end,
       content = jsonb_strip_nulls(jsonb_build_object(
           'kind', 'unsupported', 'type', case m.kind when 'unsupported' then m.content ->> 'type' else 'erased' end,
           'verified', m.content -> 'verified', 'erased', true)),
       from_wa_id = null, from_bsuid = null, reply_to = case m.direction when 'out' then m.reply_to end
  from unnest($2::uuid[]) as u (message_id)
 where m.org_id = $1 and m.message_id = u.message_id
""",
)
_FORGET_EARLY = "delete from early_statuses e where e.callback = any($1::text[])"


async def find(db: Connection, org_id: str, id_: UUID) -> Erasable | None:
    """The customer with this id, or of the conversation with it, also after a merge.

    None where the organisation has neither.
    """
    customer_id = await db.fetchval(_FIND, org_id, id_)
    if customer_id is None:
        return None
    rows = await db.fetch(_CONVERSATIONS, org_id, customer_id)
    return Erasable(org_id, customer_id, [row["conversation_id"] for row in rows])


async def look(db: Connection, whom: Erasable) -> Findings:
    """What is there to erase, and what stands against it. Changes nothing."""
    (found,) = await db.fetch(_PERSON, *whom)
    messages, under_way = 0, found["under_way"]
    for conversation_id in whom.conversations:
        after: int | None = -1
        while after is not None:
            page = await _page(db, whom.org_id, conversation_id, after)
            messages, under_way, after = messages + len(page.left), under_way + page.under_way, page.after
    return Findings(messages, found["access"], found["person"], under_way, found["merging"])


async def forget_person(db: Connection, whom: Erasable, now: datetime) -> None:
    """Erase who the customer is, and write the line of the trail. Call inside a transaction.

    Raises Transient where the customer became part of another one meanwhile, or another one of this.
    """
    if not await db.fetch(_HOLD_CUSTOMER, whom.org_id, whom.customer_id):
        raise Transient("nothing was erased: the customer became part of another one meanwhile: run it again")
    held = await db.fetch(_HOLD_CONVERSATIONS, whom.org_id, whom.customer_id)
    if [row["conversation_id"] for row in held] != whom.conversations:
        raise Transient("nothing was erased: the customer got a conversation meanwhile: run it again")
    if await db.fetch(_MERGING, whom.org_id, whom.conversations):
        raise Transient(
            "nothing was erased: another customer became part of this one: run it again in a quarter of an hour"
        )
    await db.execute(_FORGET_ADDRESSES, whom.org_id, whom.conversations)
    await end_access(db, [(whom.org_id, id_) for id_ in whom.conversations])
    await db.execute(_FORGET_PARKED, whom.org_id, whom.conversations)
    rows = await db.fetch(_IDENTITIES, whom.org_id, whom.customer_id)
    # whoever had a line next may have it without a WhatsApp number: of an ended one the line's own row decides
    own = [row for row in rows if not row["passed_on"] and (row["kind"] != "wa_id" or row["until"] is None)]
    passed_on = _until([row for row in rows if row["passed_on"]], own)
    theirs = {_as_noticed(row["kind"], row["value"]) for row in rows} - passed_on.keys()
    await suppressions.keep(db, whom.org_id, whom.customer_id, theirs)
    await erased_identities.keep(db, whom.org_id, dict.fromkeys(theirs) | passed_on, now)
    ended = [row for row in rows if row["until"] is not None and row["kind"] != "bsuid"]  # a BSUID is theirs for ever
    gave_up = _until(ended, [row for row in rows if row not in ended])
    noticed = [(identity, gave_up.get(identity)) for identity in sorted(theirs | passed_on.keys())]
    for statement in _FORGET_NOTICES:
        await db.execute(statement, whom.org_id, *(as_columns(noticed) if noticed else ([], [])))
    for statement in _FORGET_PERSON:
        await db.execute(statement, whom.org_id, whom.customer_id)
    key = f"erased:{whom.customer_id}:{now.isoformat()}"
    await add_lines(db, [AuditLine(whom.org_id, whom.customer_id, "erased", {}, now, key)])
    await touch(db, [(whom.org_id, whom.customer_id)])


def _until(rows: Sequence[Any], others: Sequence[Any]) -> dict[str, datetime]:
    """Until when they had each number of these, of several times the last, but for those of the others."""
    kept = {_as_noticed(row["kind"], row["value"]) for row in others}
    until = {_as_noticed(row["kind"], row["value"]): row["until"] for row in sorted(rows, key=itemgetter("until"))}
    return {identity: at for identity, at in until.items() if identity not in kept}


def _as_noticed(kind: str, value: str) -> str:
    """An identity as notices name it: a number by its line."""
    number = from_wa_id(value) if kind == "wa_id" else value if kind == "phone" else None
    return value if number is None else canonical(number)


async def erase_slice(db: Connection, whom: Erasable, conversation_id: UUID, after: int) -> Page:
    """Erase the words of the next ``MOST`` messages of a thread. Call inside a transaction."""
    page = await _page(db, whom.org_id, conversation_id, after)
    if not page.left:
        return page
    sends = await db.fetch(_SENDS, whom.org_id, page.left)
    callbacks = [callback_data(whom.org_id, row["message_id"], row["attempt"]) for row in sends]
    await db.execute(_FORGET_EARLY, callbacks)
    await db.execute(_MESSAGES, whom.org_id, page.left)
    for statement in _ERASE:
        await db.execute(statement, whom.org_id, page.left)
    return page


async def erase(db: Connection, whom: Erasable, now: datetime) -> Erased:
    """Erase the customer, or what was left. The caller has looked: nothing may stand against it."""
    async with db.transaction():
        await forget_person(db, whom, now)
    messages = under_way = 0
    for conversation_id in whom.conversations:
        after: int | None = -1
        while after is not None:
            async with db.transaction():
                page = await erase_slice(db, whom, conversation_id, after)
            messages, under_way, after = messages + len(page.left), under_way + page.under_way, page.after
    await touch(db, [(whom.org_id, whom.customer_id)])
    return Erased(messages, under_way)


async def _page(db: Connection, org_id: str, conversation_id: UUID, after: int) -> Page:
    rows = await db.fetch(_PAGE, org_id, conversation_id, after, MOST)
    left = sorted(row["message_id"] for row in rows if not row["erased"] and not row["under_way"])
    return Page(left, sum(row["under_way"] for row in rows), rows[-1]["sequence"] if len(rows) == MOST else None)
