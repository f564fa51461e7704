"""How many SMS segments an organisation has on a day, and when a conversation got SMS answers: the rows of both.

Rule 1: whoever adds segments has locked the organisation's day before (``lock_days``) and seen that they fit. So any
        number of routers and bridges together stay within the cap.
Rule 2: an SMS that is certainly not bought gives its segments back (``give_back``), and counts as no answer
        (``forget_unsent``).
Rule 3: days are locked in their order, those of one day in the order of organisations, before messages, conversations
        and slots. Answers are locked after slots.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.sms_policy import DAILY_ANSWERS, Answers, Taken, policy_of

OrgDay = tuple[date, str]
"""A day (UTC) of an organisation."""

ANSWER_HOUR = timedelta(hours=1)
ANSWER_DAY = timedelta(days=1)


class Unsent(NamedTuple):
    """An SMS answer that was not bought, with its present conversation."""

    org_id: str
    conversation_id: UUID
    message_id: UUID
    attempt: int


class BridgesOfDay(NamedTuple):
    """How many bridges an organisation has on a day, and how many SMS segments its policy allows."""

    org_id: str
    bridges: int
    cap: int


# The update is made even where it changes nothing: it takes the lock, and returns the row as of the moment when the
# lock was free.
_LOCK_DAYS = """
insert into sms_days as s (org_id, day, segments)
select u.org_id, u.day, 0 from unnest($1::date[], $2::text[]) as u (day, org_id) order by u.day, u.org_id
on conflict (org_id, day) do update set segments = s.segments
returning day, org_id, segments
"""

_ADD = """
update sms_days s set segments = s.segments + u.segments, bridges = s.bridges + u.bridges
  from unnest($1::text[], $2::date[], $3::int[], $4::int[]) as u (org_id, day, segments, bridges)
 where s.org_id = u.org_id and s.day = u.day
"""

_GIVE_BACK = """
with days as (
    select s.org_id, s.day, u.segments, u.bridges
      from unnest($1::text[], $2::date[], $3::int[], $4::int[]) as u (org_id, day, segments, bridges)
      join sms_days s using (org_id, day)
     order by s.day, s.org_id
       for update of s
)
update sms_days s set segments = greatest(s.segments - d.segments, 0), bridges = greatest(s.bridges - d.bridges, 0)
  from days d
 where s.org_id = d.org_id and s.day = d.day
"""

_BUSIEST = """
select d.org_id, d.bridges, o.policy::text as policy, o.country, o.sms_number
  from sms_days d
  join orgs o on o.org_id = d.org_id
 where d.day = $1 and d.bridges > 0
 order by d.bridges desc
 limit $2
"""

_ANSWERS = """
select a.conversation_id, count(*) filter (where t.at > $3) as hour, count(*) filter (where t.at > $4) as day
  from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
  join sms_answers a on a.conversation_id = u.conversation_id and a.org_id = u.org_id
 cross join lateral unnest(a.decided_at) as t (at)
 group by a.conversation_id
"""

_NOTE_ANSWERS = """
insert into sms_answers as a (conversation_id, org_id, decided_at, last_at)
select u.conversation_id, u.org_id, array_fill($4::timestamptz, array[u.times]), $4
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, conversation_id, times)
 order by u.conversation_id
on conflict (conversation_id) do update
   set decided_at = (a.decided_at || excluded.decided_at)
                    [greatest(1, cardinality(a.decided_at) + cardinality(excluded.decided_at) - $5 + 1):],
       last_at = excluded.last_at
 where a.org_id = excluded.org_id
"""

# The router notes an answer with the time of its decision.
_FORGET_UNSENT = """
with gone as materialized (
    select u.org_id, u.conversation_id, d.decided_at as at, count(*) as times
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::int[]) as u (org_id, conversation_id, message_id, attempt)
      join decisions d on d.org_id = u.org_id and d.intent_id = u.message_id and d.attempt = u.attempt
     group by 1, 2, 3
), noted as (
    select a.org_id, a.conversation_id, a.decided_at
      from sms_answers a
     where (a.org_id, a.conversation_id) in (select org_id, conversation_id from gone)
     order by a.conversation_id
       for update of a
)
update sms_answers a
   set decided_at = array(
       select t.at
         from (select x.at, x.place, row_number() over (partition by x.at order by x.place) as nth
                 from unnest(n.decided_at) with ordinality as x (at, place)) t
        where t.nth > coalesce((select g.times from gone g where g.conversation_id = n.conversation_id
                                   and g.org_id = n.org_id and g.at = t.at), 0)
        order by t.place)
  from noted n
 where a.org_id = n.org_id and a.conversation_id = n.conversation_id
"""

_FORGET_DAYS = """
delete from sms_days
 where ctid = any (array(select ctid from sms_days where day < $1::date order by day limit $2 for update skip locked))
"""

# A row that a router writes at this moment has a newer answer by then, and waits for nobody.
_FORGET_ANSWERS = """
delete from sms_answers
 where ctid = any (array(
       select ctid from sms_answers where last_at < $1 order by last_at limit $2 for update skip locked))
"""


async def lock_days(db: Connection, days: Collection[OrgDay]) -> dict[OrgDay, int]:
    """Lock these days of organisations until the transaction ends. Returns the segments of each so far."""
    rows = await db.fetch(_LOCK_DAYS, *as_columns(sorted(days)))
    return {(row["day"], row["org_id"]): row["segments"] for row in rows}


async def busiest(db: Connection, day: date, limit: int) -> list[BridgesOfDay]:
    """The organisations with the most bridges on this day, first the one that has most."""
    return [
        BridgesOfDay(r["org_id"], r["bridges"], policy_of(r["policy"], r["country"], r["sms_number"]).daily_segments)
        for r in await db.fetch(_BUSIEST, day, limit)
    ]


async def add(db: Connection, taken: Sequence[Taken]) -> None:
    """Add these segments. Their days are locked."""
    if rows := _summed(taken):
        await db.execute(_ADD, *as_columns(rows))


async def give_back(db: Connection, given: Sequence[Taken]) -> None:
    """Take these segments from their days again: their SMS are certainly not bought."""
    if rows := _summed(given):
        await db.execute(_GIVE_BACK, *as_columns(rows))


async def answers_of(db: Connection, conversations: Collection[tuple[str, UUID]], now: datetime) -> dict[UUID, Answers]:
    """The answers in each of these conversations; conversations without any are left out."""
    if not conversations:
        return {}
    asked = as_columns(sorted(conversations))
    rows = await db.fetch(_ANSWERS, *asked, now - ANSWER_HOUR, now - ANSWER_DAY)
    return {row["conversation_id"]: Answers(row["hour"], row["day"]) for row in rows}


async def note_answers(db: Connection, answers: Mapping[tuple[str, UUID], int], now: datetime) -> None:
    """Note so many answers in each of these conversations. Of each the newest are kept, as many as a day allows."""
    if answers:
        rows = [(*key, times) for key, times in sorted(answers.items())]
        await db.execute(_NOTE_ANSWERS, *as_columns(rows), now, DAILY_ANSWERS)


async def forget_unsent(db: Connection, answers: Sequence[Unsent]) -> None:
    """Take these answers from their conversations again, each once: they are certainly not bought."""
    if answers:
        await db.execute(_FORGET_UNSENT, *as_columns(answers))


async def forget_days(db: Connection, before: datetime, limit: int) -> int:
    """Delete days before then, at most ``limit``; returns how many."""
    return await changed(db, _FORGET_DAYS, before.date(), limit)


async def forget_answers(db: Connection, before: datetime, limit: int) -> int:
    """Delete the answers of conversations whose latest is older; returns how many rows."""
    return await changed(db, _FORGET_ANSWERS, before, limit)


def _summed(taken: Sequence[Taken]) -> list[Taken]:
    sums: dict[tuple[str, date], Taken] = {}
    for one in taken:
        _, _, segments, bridges = sums.get((one.org_id, one.day), Taken(one.org_id, one.day, 0))
        sums[one.org_id, one.day] = Taken(one.org_id, one.day, segments + one.segments, bridges + one.bridges)
    return [one for _, one in sorted(sums.items()) if one.segments]
