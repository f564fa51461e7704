"""The statements about ``pauses``: accounts that must rest, for all replicas.

Pauses belong to a provider and name no tenant. There are three kinds: a throttle; an account that answers nothing; a
fault that people must mend (payment, lock, token). Of the last two, one call at a time over all replicas tries the
account out. A fault that was learned from a late status is ended by a late status alone: ``prove``.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.faults import AccountScope
from libs.common.ids import SendKey
from libs.common.providers import Provider, Transport
from libs.common.sending.outcomes import MENDING
from libs.common.sending.rows import EVERY_ACCOUNT, Pause, PauseKey, PauseProof, provider_of

_COLUMNS = "account, scope, until_at as until, tries, reason, kind, proof, since"

_LOCK = f"""
select {_COLUMNS} from pauses where channel = $1 and account = any($2::text[])
 order by account, scope
   for update
"""  # noqa: S608 -- constants of this module

# A fault stands until it is proved to be mended, whatever else is answered meanwhile. The end that was moved for a
# probe counts no more once the probe is answered: the writer has read the pause and knows other ends.
_PAUSE = """
insert into pauses as p (channel, provider, account, scope, until_at, tries, reason, kind, proof, since)
select $1, u.*
  from unnest($2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int[], $7::text[], $8::text[], $9::text[],
              $10::timestamptz[]) as u
on conflict (channel, account, scope) do update
   set until_at = case when p.probed_at is null then greatest(p.until_at, excluded.until_at) else excluded.until_at end,
       tries = greatest(p.tries, excluded.tries), probed_at = null,
       kind = case when p.kind = 'fault' then p.kind else excluded.kind end,
       reason = case when p.kind = 'fault' and excluded.kind <> 'fault' then p.reason else excluded.reason end,
       proof = case when p.kind = 'fault' and p.proof = 'status' then p.proof else excluded.proof end,
       since = case when p.kind = 'fault' or excluded.kind <> 'fault' then p.since else excluded.since end
"""

# Many messages fail late for one reason: together they cause one pause. It grows once for each call that tried it out.
# What is said of a call from before that one, or from before one that proved the account well, says nothing new.
_PAUSE_ACCOUNT = """
insert into pauses as p (channel, provider, account, scope, until_at, tries, reason, kind, proof, since)
select $11, $1, $2, $3, $4::timestamptz + $6::interval, 1, $5, 'fault', $8, $4
 where not exists (select from account_proofs f
                    where f.provider = $1 and f.account = $2 and f.scope = $3 and f.called_at >= $10)
on conflict (channel, account, scope) do update
   set until_at = case when p.kind = 'fault' and (p.probed_at is null or p.probed_at > $10) then p.until_at
                       when p.kind = 'fault'
                       then $4::timestamptz + least($6::interval * power($9::float8, least(p.tries, 100)), $7::interval)
                       else greatest(p.until_at, excluded.until_at) end,
       tries = case when p.kind <> 'fault' then 1
                    when p.probed_at is null or p.probed_at > $10 then p.tries
                    else p.tries + 1 end,
       reason = excluded.reason,
       kind = 'fault',
       proof = case when p.kind = 'fault' and p.proof = 'status' then p.proof else excluded.proof end,
       since = case when p.kind = 'fault' then p.since else excluded.since end,
       probed_at = case when p.kind = 'fault' and p.probed_at > $10 then p.probed_at end
"""

_ASK_FOR_PROOF = "select exists (select from pauses where provider = $1 and kind = 'fault' and proof = 'status')"

_PROVE = """
with ended as (
    delete from pauses p
     using unnest($2::text[], $3::uuid[], $4::int[]) as u (org_id, message_id, attempt)
      join sends s using (org_id, message_id, attempt)
     cross join lateral (select coalesce('@' || s.provider || ':' || s.provider_account, '') as at) t
     where p.provider = $1 and p.kind = 'fault' and p.proof = 'status'
       and s.channel = p.channel and s.provider = p.provider and s.claimed_at >= p.since
       and p.account in (s.account || t.at, $5 || t.at)
       and (p.scope = 'all' or s.template)
    returning p.account, p.scope, s.claimed_at
)
insert into account_proofs as f (provider, account, scope, called_at)
select $1, account, scope, max(claimed_at) from ended group by account, scope
on conflict (provider, account, scope) do update set called_at = greatest(f.called_at, excluded.called_at)
"""

_DEFER_PROBE = """
update pauses p
   set until_at = $4, probed_at = coalesce(p.probed_at, $5)
  from unnest($2::text[], $3::text[]) as u (account, scope)
 where p.channel = $1 and p.account = u.account and p.scope = u.scope and p.until_at < $4
"""

_PROBE_NOW = """
update pauses p
   set until_at = $4, probed_at = null
  from unnest($2::text[], $3::text[]) as u (account, scope)
 where p.channel = $1 and p.account = u.account and p.scope = u.scope and p.until_at > $4
"""

_LOCK_UNRESPONSIVE = f"""
select {_COLUMNS} from pauses
 where channel = $1 and account = any($2::text[]) and kind in ('silence', 'fault') and until_at <= $3
   for update skip locked
"""  # noqa: S608 -- constants of this module

_CLEAR = """
delete from pauses p
 using unnest($2::text[], $3::text[]) as u (account, scope)
 where p.channel = $1 and p.account = u.account and p.scope = u.scope
"""

UNTRIED = timedelta(days=7)
"""A call probes a pause that is over. So long after its end nobody uses that account of the provider any more."""

# Nothing is sent by such a number any more, so no call would ever end its pause. Pauses are few: some for each account.
_FORGET = f"""
delete from pauses
 where ctid = any (array(
       select p.ctid
         from pauses p
        cross join lateral (select split_part(p.account, '@', 1) as sender) t
        where p.until_at < $1
          and (p.until_at < $1 - interval '{UNTRIED.days} days'
               or t.sender <> $3
                  and not exists (select from whatsapp_numbers w
                                   where p.channel = 'whatsapp' and w.phone_number_id = t.sender
                                     and w.org_id is not null)
                  and not exists (select from orgs o where p.channel = 'sms' and o.sms_number = t.sender))
        limit $2
          for update of p skip locked))
"""  # noqa: S608 -- a constant

# Of the rows that wait one says whose the account is: the first in the order of their index, however many rows were
# settled before.
_TAKE_DUE_FOR_LOG = """
with due as materialized (
    select p.ctid as place
      from pauses p
     where p.channel = $1 and p.kind = 'fault'
       and coalesce(p.logged_at, '-infinity') <= $2::timestamptz - interval '1 minute'
     order by coalesce(p.logged_at, '-infinity')
     limit 100
       for update skip locked
)
update pauses p
   set logged_at = $2::timestamptz
 where p.ctid = any (array(select place from due))
returning p.provider, p.account, p.scope, p.reason, p.since,
          (select s.org_id from sends s
            where s.channel = p.channel and s.account = split_part(p.account, '@', 1)
              and s.state = 'pending' and s.settled_at is null and s.unknown_since is null and s.deferred_until is null
            order by s.template, s.due_at limit 1) as org_id
"""


class PausedAccount(NamedTuple):
    """An account that people must mend. ``org_id``: whose it is, as far as something waits for it."""

    provider: Provider
    account: str
    scope: AccountScope
    reason: str
    since: datetime
    org_id: str | None


async def pause_account(
    db: Connection,
    by: Transport,
    account: str,
    reason: str,
    now: datetime,
    *,
    proof: PauseProof,
    scope: AccountScope = "all",
    called_at: datetime | None = None,
) -> None:
    """Pause an account that people must mend, until a call that tries it out proves it well.

    ``account`` as ``at_account`` names it.
    ``proof``: by what it was learned, and by what it ends. ``called_at``: when the call was made that met the fault,
    now where it is not known. A repeat before the next probe changes nothing, nor does a call from before the
    account was proved well. Call inside a transaction, and last in it.
    """
    waits = MENDING.base, MENDING.cap, proof, MENDING.factor
    await db.execute(_PAUSE_ACCOUNT, by.provider, account, scope, now, reason, *waits, called_at or now, by.channel)


async def prove(db: Connection, provider: Provider, sends: Collection[SendKey]) -> None:
    """Statuses of these sends came. They end the pauses that wait for such a status of a later call.

    ``sends`` are keys of rows (for a bridge its send's). Costs one look where no account waits for such a proof.
    """
    if sends and await db.fetchval(_ASK_FOR_PROOF, provider):
        await db.execute(_PROVE, provider, *as_columns(sorted(set(sends))), EVERY_ACCOUNT)


async def lock(db: Connection, by: Transport, accounts: Iterable[str]) -> dict[PauseKey, Pause]:
    """The pauses of these accounts, locked, also those whose time is over."""
    return _by_key(await db.fetch(_LOCK, by.channel, sorted(accounts)))


async def pause(db: Connection, by: Transport, new: Sequence[Pause]) -> None:
    """Pause accounts. A longer pause that stands already wins."""
    if new:
        rows = [(provider_of(one.account, by.provider), *one) for one in sorted(new)]
        await db.execute(_PAUSE, by.channel, *as_columns(rows))


async def defer_probe(
    db: Connection, by: Transport, probed: Iterable[PauseKey], until: datetime, now: datetime
) -> None:
    """Move the end of these pauses, which calls are probing: the next call may probe after ``until``."""
    rows = sorted(probed)
    if rows:
        await db.execute(_DEFER_PROBE, by.channel, *as_columns(rows), until, now)


async def probe_now(db: Connection, by: Transport, probed: Iterable[PauseKey], now: datetime) -> None:
    """Let the next call probe these pauses at once, because the last probe said nothing of them."""
    rows = sorted(probed)
    if rows:
        await db.execute(_PROBE_NOW, by.channel, *as_columns(rows), now)


async def lock_unresponsive(
    db: Connection, by: Transport, accounts: Iterable[str], now: datetime
) -> dict[PauseKey, Pause]:
    """The pauses of these accounts that one call may probe now, locked until the commit."""
    return _by_key(await db.fetch(_LOCK_UNRESPONSIVE, by.channel, sorted(accounts), now))


async def clear(db: Connection, by: Transport, awake: Iterable[PauseKey]) -> None:
    """End pauses: a call went through."""
    rows = sorted(awake)
    if rows:
        await db.execute(_CLEAR, by.channel, *as_columns(rows))


async def forget(db: Connection, ended_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` pauses that were over then, of numbers that no organisation has; returns how many.

    The others that nobody has tried for ``UNTRIED`` go as well.
    """
    return await changed(db, _FORGET, ended_before, limit, EVERY_ACCOUNT)


async def take_due_for_log(db: Connection, by: Transport, now: datetime) -> list[PausedAccount]:
    """Accounts paused for a fault whose log line is due. Each is given to one caller a minute."""
    return [PausedAccount(**r) for r in await db.fetch(_TAKE_DUE_FOR_LOG, by.channel, now)]


def _by_key(found: Iterable[Any]) -> dict[PauseKey, Pause]:
    return {(r["account"], r["scope"]): Pause(**r) for r in found}
