"""What waits at a sender, for the metrics: one question, asked every quarter of a minute by each process."""

from datetime import datetime
from typing import NamedTuple

from libs.common.db.pool import Connection
from libs.common.providers import ProviderChannel

_MOST = 10_000


class Waiting(NamedTuple):
    """The state of one channel. Up to 10,000 rows of each kind are read, sends with the earliest deadlines first.

    ``unsettled``: rows that are pending, claimed or of unknown outcome; ``oldest_since``: of the oldest of them.
    ``due_since``: since when the oldest of them
    has been due. A row that was tried counts from its creation, also while its next try waits. Rows of accounts that
    rest for a fault do not count, nor do rows that were claimed. ``unknown_since``: of the oldest unknown outcome.
    """

    unsettled: int
    oldest_since: datetime | None
    due_since: datetime | None
    unknown: int
    unknown_since: datetime | None
    throttled: int
    silent: int
    at_fault: int


# A pause of a fault ends when a call is accepted; a throttle is over with its time, and stays as a row for a while.
# Where a number has an account at its provider, the pause names both. A fault of all numbers of one SMS account
# excludes nothing here: which rows it holds up is not known before they are claimed.
_WAITING = """
with open as materialized (
    select s.account, s.template, s.state = 'pending' as pending, s.created_at,
           case when s.tries = 0 then s.due_at else s.created_at end as since, s.due_at <= $2 or s.tries > 0 as counts
      from sends s
     where s.channel = $1 and s.settled_at is null and s.unknown_since is null
       and s.expires_at > '-infinity' -- every one; in the words of the index
     order by s.expires_at
     limit $3
), uncertain as materialized (
    select s.unknown_since, s.created_at
      from sends s
     where s.channel = $1 and s.unknown_of is not null
     order by s.unknown_of, s.due_at
     limit $3
), rests as materialized (
    select p.account, p.scope, p.kind, p.until_at
      from pauses p
     where p.channel = $1
     order by p.account, p.scope
     limit $3
), faults as materialized (
    select split_part(r.account, '@', 1) as account, bool_or(r.scope = 'all') as of_all
      from rests r
     where r.kind = 'fault' and not starts_with(r.account, '*@')
     group by 1
), scopes as (
    select o.account, o.template, min(o.since) as since
      from open o
     where o.pending and o.counts
     group by o.account, o.template
)
select (select count(*) from open) + (select count(*) from uncertain) as unsettled,
       least((select min(o.created_at) from open o), (select min(u.created_at) from uncertain u)) as oldest_since,
       (select min(o.since)
          from scopes o
          left join faults f on f.account = o.account
          left join faults e on e.account = '*'
         where (f.account is null or not (f.of_all or o.template))
           and (e.account is null or not (e.of_all or o.template))) as due_since,
       (select count(*) from uncertain) as unknown,
       (select min(u.unknown_since) from uncertain u) as unknown_since,
       count(*) filter (where r.kind = 'throttle' and r.until_at > $2) as throttled,
       count(*) filter (where r.kind = 'silence') as silent,
       count(*) filter (where r.kind = 'fault') as at_fault
  from rests r
"""


async def waiting(db: Connection, channel: ProviderChannel, now: datetime, most: int = _MOST) -> Waiting:
    """The state of the channel; at most so many rows of each kind are read."""
    return Waiting(**dict(await db.fetchrow(_WAITING, channel, now, most) or {}))
