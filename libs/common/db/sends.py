"""The statements about ``sends``. A sender's rows are of all tenants; whatever names a row names its org_id.

Lock order of the senders: rows of ``sends`` first, then whatever belongs to them; ``pauses`` after pending rows, and before claimed ones.
Nobody else locks rows of ``sends`` but a merge of customers, in the same order (docs/architecture/data.md).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from libs.common.db.pool import Connection
from libs.common.send_rows import Candidate, Key, NewSend, ProviderName, SendRow

_COLUMNS = """s.org_id, s.message_id, s.attempt, s.conversation_id, s.account, s.command, s.state, s.due_at, s.expires_at, s.created_at,
       s.blocks_until, s.tries, s.resends, s.claim_id, s.claimed_at, s.lease_until, s.unknown_since, s.outcome, s.link_hash, s.text_hash,
       s.settled_at, s.told"""

_STORE = """
insert into sends (org_id, message_id, attempt, conversation_id, sequence, account, template, command, provider, created_at, due_at, expires_at)
select u.org_id, u.message_id, u.attempt, u.conversation_id, u.sequence, u.account, u.template, u.command, $11, $12,
       greatest($12, u.not_before), coalesce(u.expires_at, $13)
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::bigint[], $6::text[], $7::bool[], $8::jsonb[], $9::timestamptz[],
              $10::timestamptz[])
    as u (org_id, message_id, attempt, conversation_id, sequence, account, template, command, not_before, expires_at)
on conflict (org_id, message_id, attempt) do nothing
"""

# The inner select must stay a probe of the index per row ("offset 0"): the outer one stops after $3 rows.
# A row of the other provider holds ours back as well, but never for longer than a minute.
_CANDIDATES = f"""
select {_COLUMNS},
       (select p.until_at from pauses p
         where p.provider = s.provider and p.account = s.account and p.scope = 'all') as rests_until,
       (select p.until_at from pauses p
         where p.provider = s.provider and p.account = s.account and p.scope = 'templates') as templates_rest_until,
       coalesce((select p.kind in ('silence', 'fault') from pauses p
                  where p.provider = s.provider and p.account = s.account and p.scope = 'all'), false) as silent
  from sends s
 where s.provider = $1 and s.state = 'pending' and s.due_at <= $2
   and not exists (
       select from sends o
        where o.org_id = s.org_id and o.conversation_id = s.conversation_id
          and o.sequence <= s.sequence and (o.sequence, o.attempt) < (s.sequence, s.attempt)
          and o.state in ('pending', 'claimed', 'unknown')
          and (o.blocks_until is null or o.blocks_until > $2)
          and (o.provider = s.provider or o.created_at > $4)
       offset 0)
 order by s.due_at
 limit $3
   for update of s skip locked
"""  # noqa: S608 -- constants of this module

# Of the first $3 rows that are due, those behind a row that is not: they come to their turn with it, or when it holds them back no more.
_QUEUE_UP = """
with front as materialized (
    select s.org_id, s.message_id, s.attempt, s.conversation_id, s.sequence, s.provider
      from sends s
     where s.provider = $1 and s.state = 'pending' and s.due_at <= $2
     order by s.due_at
     limit $3
), behind as materialized (
    select f.org_id, f.message_id, f.attempt, b.free_at
      from front f
     cross join lateral (
           select max(least(o.due_at, o.blocks_until)) as free_at
             from sends o
            where o.org_id = f.org_id and o.conversation_id = f.conversation_id
              and o.sequence <= f.sequence and (o.sequence, o.attempt) < (f.sequence, f.attempt)
              and o.state = 'pending' and o.due_at > $2
              and (o.blocks_until is null or o.blocks_until > $2)
              and o.provider = f.provider
           offset 0) b
     where b.free_at is not null
), held as materialized (
    select s.org_id, s.message_id, s.attempt, b.free_at
      from behind b
      join sends s using (org_id, message_id, attempt)
     order by s.org_id, s.message_id, s.attempt
       for update of s skip locked
)
update sends s
   set due_at = least(h.free_at, s.expires_at)
  from held h
 where s.org_id = h.org_id and s.message_id = h.message_id and s.attempt = h.attempt and s.state = 'pending' and s.due_at <= $2
returning 1
"""

_WRITE = """
update sends s
   set state = u.state, due_at = u.due_at, blocks_until = u.blocks_until, tries = u.tries, resends = u.resends, claim_id = u.claim_id,
       claimed_at = u.claimed_at, lease_until = u.lease_until, unknown_since = u.unknown_since, outcome = u.outcome,
       link_hash = u.link_hash, text_hash = u.text_hash, settled_at = u.settled_at, told = u.told
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::int[],
              $10::int[], $11::uuid[], $12::timestamptz[], $13::timestamptz[], $14::timestamptz[], $15::jsonb[], $16::bytea[],
              $17::bytea[], $18::timestamptz[], $19::bool[])
    as u (org_id, message_id, attempt, was, held_by, state, due_at, blocks_until, tries, resends, claim_id,
          claimed_at, lease_until, unknown_since, outcome, link_hash, text_hash, settled_at, told)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
   and s.state = u.was and s.claim_id is not distinct from u.held_by
returning s.org_id, s.message_id, s.attempt
"""

_ENDED_CLAIMS = f"""
select {_COLUMNS}
  from sends s
 where s.provider = $1 and s.state = 'claimed' and s.lease_until <= $2
 order by s.lease_until
 limit $3
   for update skip locked
"""  # noqa: S608 -- constants of this module

_OVERDUE = f"""
select {_COLUMNS}
  from sends s
 where s.provider = $1 and s.state = 'pending' and s.expires_at <= $2
 order by s.expires_at
 limit $3
   for update skip locked
"""  # noqa: S608 -- constants of this module

# The longer it has been unknown, the less a look is likely to tell: the next one is a twentieth of that time away.
_TAKE_UNKNOWN = f"""
with due as materialized (
    select t.org_id, t.message_id, t.attempt
      from sends t
     where t.provider = $1 and t.state = 'unknown' and t.due_at <= $2
     order by t.due_at
     limit $3
       for update skip locked
)
update sends s
   set due_at = $2 + greatest($4::interval, least($5::interval, ($2 - coalesce(s.unknown_since, $2)) / 20))
  from due
 where s.org_id = due.org_id and s.message_id = due.message_id and s.attempt = due.attempt
returning {_COLUMNS}
"""  # noqa: S608 -- constants of this module

_UNTOLD = f"""
select {_COLUMNS}
  from sends s
 where s.provider = $1 and s.settled_at <= $2 and not s.told
 order by s.settled_at
 limit $3
"""  # noqa: S608 -- constants of this module

_KEEP_NEWS = """
update sends s
   set told = false, outcome = coalesce(s.outcome, '{}'::jsonb) || u.news
  from unnest($1::text[], $2::uuid[], $3::int[], $4::jsonb[]) as u (org_id, message_id, attempt, news)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
"""

_MARK_TOLD = """
update sends s
   set told = true
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt and not s.told
"""


_WAITING = "select count(*) from sends where provider = $1 and state in ('pending', 'claimed', 'unknown')"


async def store(
    db: Connection, provider: ProviderName, sends: Sequence[NewSend], now: datetime, deadline: datetime
) -> None:
    """Store commands as rows that are due now; one that stands already is left as it is. ``deadline`` is for those that name none."""
    rows = [
        (
            *(s.org_id, s.message_id, s.attempt, s.conversation_id, s.sequence, s.account, s.template, s.command),
            *(s.not_before, s.expires_at),
        )
        for s in sorted(sends, key=lambda s: s.key)
    ]
    if rows:
        await db.execute(_STORE, *_columns(rows), provider, now, deadline)


async def candidates(
    db: Connection, provider: ProviderName, now: datetime, limit: int, other_provider_since: datetime
) -> list[Candidate]:
    """Rows that are due and have no older unsettled row before them in their conversation, locked; those locked elsewhere are left out."""
    found = await db.fetch(_CANDIDATES, provider, now, limit, other_provider_since)
    return [Candidate(_row(r), r["rests_until"], r["templates_rest_until"], r["silent"]) for r in found]


async def queue_up(db: Connection, provider: ProviderName, now: datetime, limit: int) -> int:
    """Of the first ``limit`` rows that are due put off those behind an older one that waits; how many these were.

    Without it every claim would look at all of them again: while an account rests, they are most of what is due.
    """
    return len(await db.fetch(_QUEUE_UP, provider, now, limit))


async def write(db: Connection, changes: Sequence[tuple[SendRow, SendRow]]) -> set[Key]:
    """Write rows (before, after) where they still stand as before: same state, same claim. Returns the keys that were written."""
    if not changes:
        return set()
    rows = [
        (
            *(b.org_id, b.message_id, b.attempt, b.state, b.claim_id),
            *(a.state, a.due_at, a.blocks_until, a.tries, a.resends, a.claim_id, a.claimed_at, a.lease_until),
            *(a.unknown_since, a.outcome, a.link_hash, a.text_hash, a.settled_at, a.told),
        )
        for b, a in sorted(changes, key=lambda change: change[0].key)
    ]
    return {(r[0], r[1], r[2]) for r in await db.fetch(_WRITE, *_columns(rows))}


async def ended_claims(db: Connection, provider: ProviderName, now: datetime, limit: int) -> list[SendRow]:
    """Claims whose lease is over, locked."""
    return [_row(r) for r in await db.fetch(_ENDED_CLAIMS, provider, now, limit)]


async def overdue(db: Connection, provider: ProviderName, now: datetime, limit: int) -> list[SendRow]:
    """Pending rows whose deadline has passed, locked."""
    return [_row(r) for r in await db.fetch(_OVERDUE, provider, now, limit)]


async def take_unknown(
    db: Connection, provider: ProviderName, now: datetime, limit: int, *, soonest: timedelta, latest: timedelta
) -> list[SendRow]:
    """Sends of unknown outcome that are due to be looked at; taking them puts off their next look, so that nobody looks twice.

    The next one is ever further off, but at least ``soonest`` and at most ``latest``.
    """
    return [_row(r) for r in await db.fetch(_TAKE_UNKNOWN, provider, now, limit, soonest, latest)]


async def untold(db: Connection, provider: ProviderName, settled_before: datetime, limit: int) -> list[SendRow]:
    """Settled rows of which it is not recorded that they were told."""
    return [_row(r) for r in await db.fetch(_UNTOLD, provider, settled_before, limit)]


async def keep_news(db: Connection, news: Sequence[tuple[Key, dict[str, Any]]]) -> None:
    """Mark settled rows as not told yet, with what is needed to tell it later."""
    rows = [(*key, what) for key, what in sorted(news, key=lambda item: item[0])]
    if rows:
        await db.execute(_KEEP_NEWS, *_columns(rows))


async def mark_told(db: Connection, keys: Iterable[Key]) -> None:
    """Record that these rows were told."""
    rows = sorted(keys)
    if rows:
        await db.execute(_MARK_TOLD, *_columns(rows))


async def waiting(db: Connection, provider: ProviderName) -> int:
    """How many rows are not settled."""
    return int(await db.fetchval(_WAITING, provider) or 0)


def _row(record: Any) -> SendRow:
    return SendRow(**{name: record[name] for name in SendRow.__dataclass_fields__})


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
