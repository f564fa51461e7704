"""The statements about ``unanswered_calls``: calls in a row of an account that its provider did not answer.

They are rows, so that replicas share a run, and a process that starts in an outage goes on with it. Nothing is written
while a provider answers: a process ends the runs that were there at its first look, and those that it began itself.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.providers import ProviderChannel
from libs.common.sending.rows import UnansweredCall

KEPT = timedelta(days=1)
"""A call from longer ago is part of no run."""

# A statement does not see what it inserts itself.
_ADD = """
with added as (
    insert into unanswered_calls (channel, called_at, account, org_id, message_id, attempt, resends)
    select $1, $2, u.*
      from unnest($3::text[], $4::text[], $5::uuid[], $6::int[], $7::int[]) as u
    on conflict do nothing
    returning account
), known as (
    select account from unanswered_calls where channel = $1 and account = any($3::text[]) and called_at > $8
)
select account, count(*) as calls from (select * from added union all select * from known) c group by account
"""

_END = """
delete from unanswered_calls
 where ctid = any (array(
       select c.ctid from unanswered_calls c
        where c.channel = $1 and c.account = any($2::text[])
        order by c.account, c.org_id, c.message_id, c.attempt, c.resends
          for update))
"""

_ACCOUNTS = "select distinct account from unanswered_calls where channel = $1"

_FORGET = """
delete from unanswered_calls
 where ctid = any (array(
       select c.ctid from unanswered_calls c where c.called_at < $1 order by c.called_at limit $2
          for update skip locked))
"""


async def add(
    db: Connection, channel: ProviderChannel, calls: Iterable[UnansweredCall], now: datetime
) -> dict[str, int]:
    """Add these calls. Returns how many the run of each of their accounts has."""
    rows = sorted(set(calls))
    found = await db.fetch(_ADD, channel, now, *as_columns(rows), now - KEPT)
    return {row["account"]: row["calls"] for row in found}


async def end(db: Connection, channel: ProviderChannel, accounts: Sequence[str]) -> None:
    """The runs of these accounts are over."""
    await db.execute(_END, channel, accounts)


async def accounts(db: Connection, channel: ProviderChannel) -> set[str]:
    """The accounts with a run."""
    return {row["account"] for row in await db.fetch(_ACCOUNTS, channel)}


async def forget(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` calls from before then; returns how many."""
    return await changed(db, _FORGET, before, limit)
