"""The statements about ``sends``. A sender works on rows of all tenants; a row is always named with its org_id.

Lock order of the senders: rows of ``sends`` first, then the rows that belong to them; ``pauses`` after pending rows,
and before claimed ones. Only a merge of two threads and the router's reconciler lock rows of ``sends`` too, and they
wait for none (docs/architecture/data.md).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from operator import itemgetter
from typing import Any
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.providers import PROVIDERS, Provider, ProviderChannel, Transport
from libs.common.sending.conversation_order import BEHIND
from libs.common.sending.rows import Candidate, NewSend, SendRow
from libs.common.thread.conversations import current_conversation

COLUMNS = ", ".join(f"s.{name}" for name in SendRow._fields)

_STORE = f"""
insert into sends (org_id, message_id, attempt, conversation_id, sequence, account, command, template, channel,
                   created_at, due_at, expires_at, state, tries, claim_id, claimed_at, lease_until, provider,
                   provider_account, link_hash, text_hash)
select u.org_id, u.message_id, u.attempt, {current_conversation("u")}, u.sequence, u.account, u.command, u.template,
       $16, $17, greatest($17, u.not_before), coalesce(u.expires_at, $18),
       case when u.claim_id is null then 'pending' else 'claimed' end, (u.claim_id is not null)::int, u.claim_id,
       case when u.claim_id is not null then $17::timestamptz end,
       case when u.claim_id is not null then $19::timestamptz end,
       u.provider, u.provider_account, u.link_hash, u.text_hash
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::bigint[], $6::text[], $7::jsonb[],
              $8::timestamptz[], $9::bool[], $10::timestamptz[], $11::uuid[], $12::text[], $13::text[], $14::bytea[],
              $15::bytea[])
    as u (org_id, message_id, attempt, conversation_id, sequence, account, command, expires_at, template, not_before,
          claim_id, provider, provider_account, link_hash, text_hash)
on conflict (org_id, message_id, attempt) do nothing
returning org_id, message_id, attempt, conversation_id
"""  # noqa: S608 -- a constant

# In the words of the indexes, which hold claimed rows as well.
_PENDING = "s.state = 'pending' and s.settled_at is null and s.unknown_since is null"
_READY = f"{_PENDING} and s.deferred_until is null"

# A scope is an account's templates, or everything else of it. Scopes that are paused are left out before their rows are
# looked at.
# Where an organisation has an account of its own at its provider, pauses are of its number at that account.
_SCOPES = """
      cross join lateral (
            select coalesce((select '@' || x.provider || ':' || x.account
                               from orgs o
                               join unnest({routes}) as x (sms_provider, sms_account, provider, account)
                                 on x.sms_provider is not distinct from o.sms_provider
                                and x.sms_account is not distinct from o.sms_account
                              where $1 = 'sms' and o.sms_number = a.account), '') as at) r
      cross join (values (false), (true)) as l (template)
      cross join lateral (
            select coalesce(bool_or(p.until_at > $2), false) as rests,
                   array_agg(array[p.account, p.scope]) as over,
                   array_agg(p.kind <> 'throttle') as alone
              from pauses p
             where p.channel = $1 and p.account in (a.account || r.at, '*' || r.at)
               and (p.scope = 'all' or l.template)) p
"""

# Rows that are not stored yet. Those are free whose scope has no pause, and that no stored row holds back.
_FREE = f"""
with scopes as materialized (
    select a.account, l.template
      from unnest($11::text[]) as a (account)
     {_SCOPES.format(routes="$12::text[], $13::text[], $14::text[], $15::text[]")}
     where p.over is null
)
select s.n, s.conversation_id,
       case when exists (select from scopes p
                          where p.account = s.account and p.template is not distinct from s.template)
            then {BEHIND} = 0 else false end as free
  from (select u.n, u.org_id, u.message_id, u.attempt, u.sequence, u.account, u.template, $1::text as channel,
               {current_conversation("u")} as conversation_id
          from unnest($4::text[], $5::uuid[], $6::int[], $7::uuid[], $8::bigint[], $9::text[], $10::bool[])
               with ordinality as u (org_id, message_id, attempt, conversation_id, sequence, account, template, n)
        offset 0) s
 where not exists (select from sends o
                    where o.org_id = s.org_id and o.message_id = s.message_id and o.attempt = s.attempt offset 0)
"""  # noqa: S608 -- constants of this module

_CANDIDATES = f"""
select {COLUMNS}, s.sequence, {BEHIND} as behind, p.over, p.alone
  from unnest($4::text[], $5::int[]) as a (account, budget)
 {_SCOPES.format(routes="$6::text[], $7::text[], $8::text[], $9::text[]")}
 cross join lateral (
       select *
         from sends s
        where s.channel = $1 and s.account = a.account and s.template = l.template
          and {_READY} and s.due_at <= $2
        order by s.due_at
        limit a.budget
          for update skip locked) s
 where not p.rests
"""  # noqa: S608 -- constants of this module

# From one account to the next by the index, however many rows each has.
_ACCOUNTS = f"""
with recursive accounts as (
    (select s.account, 1 as number from sends s
      where s.channel = $1 and s.account > $3 and {_READY}
      order by s.account limit 1)
    union all
    select (select s.account from sends s
             where s.channel = $1 and s.account > a.account and {_READY}
             order by s.account limit 1), a.number + 1
      from accounts a
     where a.account is not null and a.number < $4
)
select a.account,
       exists (select from (select) as one
                {_SCOPES.format(routes="$5::text[], $6::text[], $7::text[], $8::text[]")}
                where not p.rests
                  and exists (
                      select from sends s
                       where s.channel = $1 and s.account = a.account and s.template = l.template
                         and {_READY} and s.due_at <= $2
                       order by s.due_at limit 1 offset 0)
                offset 0) as ready
  from accounts a
 where a.account is not null
 order by a.number
"""  # noqa: S608 -- constants of this module

_WRITE = """
update sends s
   set state = u.state, due_at = u.due_at, blocks_order_until = u.blocks_order_until, tries = u.tries,
       resends = u.resends, claim_id = u.claim_id, claimed_at = u.claimed_at, lease_until = u.lease_until,
       unknown_since = u.unknown_since, outcome = u.outcome, link_hash = u.link_hash, text_hash = u.text_hash,
       settled_at = u.settled_at, published = u.published, provider = u.provider,
       provider_account = u.provider_account
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::uuid[], $6::text[], $7::timestamptz[],
              $8::timestamptz[], $9::int[], $10::int[], $11::uuid[], $12::timestamptz[], $13::timestamptz[],
              $14::timestamptz[], $15::jsonb[], $16::bytea[], $17::bytea[], $18::timestamptz[], $19::bool[],
              $20::text[], $21::text[])
    as u (org_id, message_id, attempt, was, held_by, state, due_at, blocks_order_until, tries, resends, claim_id,
          claimed_at, lease_until, unknown_since, outcome, link_hash, text_hash, settled_at, published, provider,
          provider_account)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
   and s.state = u.was and s.claim_id is not distinct from u.held_by
returning s.org_id, s.message_id, s.attempt, s.conversation_id
"""

# Most sends end like this, and only these columns change.
_ACCEPT = """
update sends s
   set state = 'accepted', outcome = $5, settled_at = $6, published = true
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[]) as u (org_id, message_id, attempt, held_by)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
   and s.state = 'claimed' and s.claim_id = u.held_by
returning s.org_id, s.message_id, s.attempt, s.conversation_id
"""

_OVERDUE = f"""
select {COLUMNS}
  from sends s
 where s.channel = $1 and {_PENDING} and s.expires_at <= $2 and s.message_id <> all ($4::uuid[])
 order by s.expires_at
 limit $3
   for update skip locked
"""  # noqa: S608 -- constants of this module

# The longer an outcome has been unknown, the less likely is news: the next look is a twentieth of that time away. A
# claim may have left several rows of one conversation: their second calls are released in their order.
_TAKE_UNKNOWN = f"""
with due as materialized (
    select t.place
      from unnest($6::text[], $7::timestamptz[]) as p (provider, due_at)
     cross join lateral (
           select t.ctid as place
             from sends t
            where t.channel = $1 and t.unknown_of = p.provider and t.due_at <= p.due_at
            order by t.due_at
            limit $3
              for update skip locked) t
), taken as (
    update sends s
       set due_at = $2::timestamptz
                    + greatest($4::interval, least($5::interval, ($2 - coalesce(s.unknown_since, $2)) / 20))
     where s.ctid = any (array(select place from due))
    returning s.*
)
select {COLUMNS}
  from taken s
 order by s.sequence, s.attempt
"""  # noqa: S608 -- constants of this module

_TAKE_UNPUBLISHED = f"""
with due as materialized (
    select t.ctid as place
      from sends t
     where t.channel = $1 and t.settled_at is not null and not t.published
       and (t.publishing_until is null or t.publishing_until <= $2)
     order by t.settled_at
     limit $3
       for update skip locked
)
update sends s
   set publishing_until = $4
 where s.ctid = any (array(select place from due))
returning {COLUMNS}
"""  # noqa: S608 -- constants of this module

_KEEP_PENDING_EVENTS = """
update sends s
   set published = false, publishing_until = $5, outcome = coalesce(s.outcome, '{}'::jsonb) || u.news
  from unnest($1::text[], $2::uuid[], $3::int[], $4::jsonb[]) as u (org_id, message_id, attempt, news)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
"""

_MARK_PUBLISHED = """
update sends s
   set published = true
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
 where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt and not s.published
"""


async def store(
    db: Connection,
    channel: ProviderChannel,
    sends: Sequence[NewSend],
    now: datetime,
    deadline: datetime,
    *,
    claimed: Mapping[SendKey, SendRow] | None = None,
) -> dict[SendKey, UUID]:
    """Store commands as rows that are due now, or as this claim of now has them. A row that exists is left as it is.

    Returns the keys of those that did not exist, with the conversation of each. ``deadline``: of commands that name
    none. ``claimed``: the rows that one claim takes at once.
    """
    if not sends:
        return {}
    taken = claimed or {}
    columns = as_columns((*send, *_claim_of(taken.get(send.key))) for send in sorted(sends, key=lambda send: send.key))
    leases = [row.lease_until for row in taken.values()]
    stored = await db.fetch(_STORE, *columns, channel, now, deadline, max(filter(None, leases), default=None))
    return {(r["org_id"], r["message_id"], r["attempt"]): r["conversation_id"] for r in stored}


async def free_to_go(
    db: Connection,
    by: Transport,
    commands: Sequence[NewSend],
    accounts: Collection[str],
    now: datetime,
    *,
    holds: timedelta,
) -> list[tuple[NewSend, UUID, int]]:
    """Those of these commands that have no row yet and wait for nothing but each other.

    Of each conversation these are the oldest, in their order, each with the conversation and how many of them are
    before it. A command waits where its account is none of ``accounts``, for a pause of its scope, also for one that is
    over and not proved to be, and for an older row of its conversation. So does it for an older one of the commands
    that waits. ``holds``: see ``candidates``.
    """
    asked = [(*c.key, c.conversation_id, c.sequence, c.account, c.template) for c in commands]
    found = await db.fetch(_FREE, by.channel, now, holds, *as_columns(asked), sorted(accounts), *_routes(by))
    threads: defaultdict[tuple[str, UUID], dict[SendKey, tuple[NewSend, bool]]] = defaultdict(dict)
    for n, conversation_id, free in found:
        command = commands[n - 1]
        threads[command.org_id, conversation_id][command.key] = command, free  # the same may come twice
    going: list[tuple[NewSend, UUID, int]] = []
    for (_org, conversation_id), thread in threads.items():
        oldest = sorted(thread.values(), key=lambda one: (one[0].sequence, one[0].attempt))
        going += [(c, conversation_id, behind) for behind, (c, _) in enumerate(takewhile(itemgetter(1), oldest))]
    return going


async def candidates(
    db: Connection, by: Transport, budgets: Mapping[str, int], now: datetime, holds: timedelta
) -> list[Candidate]:
    """The oldest due rows of each account and scope, up to its budget, locked. Rows locked elsewhere are left out.

    Paused scopes are left out. ``holds``: for how long a row may hold back others for a reason that is not theirs.
    """
    given = list(budgets), list(budgets.values())
    found = await db.fetch(_CANDIDATES, by.channel, now, holds, *given, *_routes(by))
    return [_candidate(record) for record in found]


async def accounts_after(
    db: Connection, by: Transport, now: datetime, after: str, limit: int
) -> list[tuple[str, bool]]:
    """The next accounts by name with pending rows, and whether one is due in a scope that is not paused."""
    routes = _routes(by)
    found = await db.fetch(_ACCOUNTS, by.channel, now, after, limit, *routes)
    return [(row["account"], row["ready"]) for row in found]


async def write(db: Connection, changes: Sequence[tuple[SendRow, SendRow]]) -> dict[SendKey, UUID]:
    """Write rows (before, after) where they still stand as before: same state, same claim.

    Returns the keys that were written, with the conversation in which each stands now: it may have become part of
    another.
    """
    in_order = sorted(changes, key=lambda change: change[0].key)
    accepted = [(*b.key, b.claim_id) for b, a in in_order if b.state == "claimed" and a.state == "accepted"]
    rows = [
        (
            *(b.org_id, b.message_id, b.attempt, b.state, b.claim_id),
            *(a.state, a.due_at, a.blocks_order_until, a.tries, a.resends, a.claim_id, a.claimed_at, a.lease_until),
            *(a.unknown_since, a.outcome, a.link_hash, a.text_hash, a.settled_at, a.published, a.provider),
            a.provider_account,
        )
        for b, a in in_order
        if b.state != "claimed" or a.state != "accepted"
    ]
    written = await db.fetch(_WRITE, *as_columns(rows)) if rows else []
    if accepted:
        end = next(a for _, a in in_order if a.state == "accepted")
        written += await db.fetch(_ACCEPT, *as_columns(accepted), end.outcome, end.settled_at)
    return {(r["org_id"], r["message_id"], r["attempt"]): r["conversation_id"] for r in written}


async def overdue(
    db: Connection, channel: ProviderChannel, now: datetime, limit: int, but: Iterable[SendKey] = ()
) -> list[SendRow]:
    """Pending rows whose deadline has passed, locked."""
    return [row_of(r) for r in await db.fetch(_OVERDUE, channel, now, limit, [key[1] for key in but])]


async def take_unknown(
    db: Connection,
    channel: ProviderChannel,
    providers: Collection[Provider],
    now: datetime,
    limit: int,
    *,
    soonest: timedelta,
    latest: timedelta,
    abandoned: timedelta,
) -> list[SendRow]:
    """Sends of unknown outcome that are due to be looked at.

    The next look is ever further off, but at least ``soonest`` and at most ``latest`` away. Only the provider that took
    a send has evidence of it, so a send is looked at by processes that can ask its provider: ``providers`` are those
    that this one can ask. Other sends are taken when no process has looked at them for as long as ``abandoned``.
    """
    due = [now if provider in providers else now - abandoned for provider in PROVIDERS]
    found = await db.fetch(_TAKE_UNKNOWN, channel, now, limit, soonest, latest, PROVIDERS, due)
    return [row_of(record) for record in found]


async def take_unpublished(
    db: Connection, channel: ProviderChannel, now: datetime, limit: int, until: datetime
) -> list[SendRow]:
    """Settled rows whose events no process has published or publishes now. The caller has them ``until`` then."""
    return [row_of(r) for r in await db.fetch(_TAKE_UNPUBLISHED, channel, now, limit, until)]


async def keep_pending_events(
    db: Connection, news: Sequence[tuple[SendKey, dict[str, Any]]], until: datetime | None = None
) -> None:
    """Store the pending events of settled rows. This process has them alone ``until`` then."""
    rows = [(*key, what) for key, what in sorted(news, key=lambda item: item[0])]
    if rows:
        await db.execute(_KEEP_PENDING_EVENTS, *as_columns(rows), until)


async def mark_published(db: Connection, keys: Iterable[SendKey]) -> None:
    """Record that the events of these rows are published."""
    rows = sorted(keys)
    if rows:
        await db.execute(_MARK_PUBLISHED, *as_columns(rows))


def _claim_of(row: SendRow | None) -> tuple[Any, ...]:
    if row is None:
        return None, None, None, None, None
    return row.claim_id, row.provider, row.provider_account, row.link_hash, row.text_hash


def _routes(by: Transport) -> list[list[Any]]:
    return as_columns(by.routes) or [[], [], [], []]


def row_of(record: Any) -> SendRow:
    """The row in a record with ``COLUMNS``."""
    return SendRow._make(record[: len(SendRow._fields)])


def _candidate(record: Any) -> Candidate:
    over = [(account, scope) for account, scope in record["over"] or ()]
    lone = [key for key, alone in zip(over, record["alone"] or (), strict=True) if alone]
    return Candidate(row_of(record), record["sequence"], record["behind"], over=frozenset(over), alone=frozenset(lone))
