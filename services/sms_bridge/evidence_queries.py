"""The statements that find out what became of an SMS, and those on SMS whose outcome is not confirmed yet."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.ids import SendKey, callback_data
from libs.common.phone import spellings
from libs.common.providers import Provider
from libs.common.providers.accounts import AccountKey
from libs.common.sending.rows import SendRow
from libs.common.sending.statuses import ProviderId

# An id is known from an answer that came late, or from a status that echoes the reference of the send. That status must
# be of the same two lines, as far as they are shown: a provider may write a number in another spelling of its line, and
# an account may mask the numbers of customers. "offset 0": each send is looked up by its keys, whatever the planner
# estimates for tables that grow.
_IDS_OF_SENDS = """
select u.org_id, u.send_id, u.attempt, p.account, p.provider_id, null as status, null as code
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, send_id, attempt)
 cross join lateral (
       select p.account, p.provider_id from provider_ids p
        where p.org_id = u.org_id and p.send_id = u.send_id and p.attempt = u.attempt and p.provider = $8 offset 0) p
union
select u.org_id, u.send_id, u.attempt, e.account, e.provider_id, e.status, e.code
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[])
    as u (org_id, send_id, attempt, callback, senders, recipients)
 cross join lateral (
       select e.* from early_statuses e where e.callback = u.callback offset 0) e
 where e.provider = $8 and e.account = $7
   and coalesce(e.item ->> 'From' = any (string_to_array(u.senders, ' ')), true)
   and coalesce(e.item ->> 'To' = any (string_to_array(u.recipients, ' ')) or e.item ->> 'To' !~ '^[+]?[0-9]+$', true)
 order by provider_id
"""

# This statement names no tenant: a provider's account is shared by tenants, and only whether an id is known leaves it.
_KNOWN_IDS = """
select provider_id from provider_ids where provider = $3 and account = $1 and provider_id = any($2::text[])
"""

_CALLS_IN_FLIGHT = """
select distinct s.account as sender, coalesce(s.command ->> 'to', '') as recipient
  from send_claims c
 cross join lateral unnest(c.org_ids, c.message_ids, c.attempts) as k (org_id, message_id, attempt)
 cross join lateral (
       select s.account, s.command from sends s
        where s.org_id = k.org_id and s.message_id = k.message_id and s.attempt = k.attempt
          and s.state = 'claimed' and s.claim_id = c.claim_id offset 0) s
 where c.channel = 'sms' and c.accounts && $1::text[] and s.account = any($1::text[])
"""

_RECORD_LIST_OUTAGE = """
insert into sms_list_outages as o (account, last_at) values ($1, $2)
on conflict (account) do update set last_at = excluded.last_at where o.last_at < excluded.last_at
"""

_LATEST_LIST_OUTAGE = """
select greatest((select last_at from sms_list_outages where account = $1),
                (select late_at from resend_rounds where provider = $2))
"""

_ADD_UNCONFIRMED = """
insert into unconfirmed_sms (account, provider_id, org_id, message_id, send_id, attempt, accepted_at, due_at)
select u.*, $7::timestamptz, $7::timestamptz + interval '15 minutes'
  from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::int[])
    as u (account, provider_id, org_id, message_id, send_id, attempt)
on conflict do nothing
"""

# The provider is asked after 15 minutes, an hour, five hours (no SMS is valid for longer) and a day.
_TAKE_UNCONFIRMED = """
with due as materialized (
    select h.ctid as place from unconfirmed_sms h
     where h.account = $1 and h.due_at <= $2::timestamptz
     order by h.due_at
     limit $3
       for update skip locked
), taken as (
    update unconfirmed_sms h
       set due_at = greatest($2::timestamptz + interval '5 minutes', h.accepted_at + case
                        when $2::timestamptz < h.accepted_at + interval '1 hour' then interval '1 hour'
                        when $2::timestamptz < h.accepted_at + interval '5 hours' then interval '5 hours'
                        else interval '24 hours' end)
     where h.ctid = any (array(select place from due))
    returning h.*
)
select t.account, t.provider_id, t.org_id, t.message_id, t.send_id, t.attempt, t.accepted_at,
       (select m.status from messages m
         where m.org_id = t.org_id and m.message_id = t.message_id and m.attempt = t.attempt
           and m.status in ('pending', 'sent')) as status
  from taken t
"""

_REMOVE_UNCONFIRMED = """
delete from unconfirmed_sms h using unnest($1::text[], $2::text[]) as u (account, provider_id)
 where h.account = u.account and h.provider_id = u.provider_id
"""


class Unconfirmed(NamedTuple):
    """An SMS that the provider accepted at ``accepted_at``.

    ``status``: of its message, ``pending`` or ``sent``; None once it has ended, or another attempt feeds the message.
    """

    account: str
    provider_id: str
    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int
    accepted_at: datetime
    status: str | None


class KnownId(NamedTuple):
    """A provider's id of a send.

    ``status`` and ``code`` are those of a status that came before the id was stored, in our words, else None.
    """

    account: str
    provider_id: str
    status: str | None
    code: str | None


async def ids_of_sends(
    db: Connection, provider: Provider, account: str, sends: Sequence[SendRow]
) -> dict[SendKey, list[KnownId]]:
    """Every id that these sends are known to have, with what its early statuses say."""
    found: dict[SendKey, list[KnownId]] = {}
    if not sends:
        return found
    rows = [
        (*s.key, callback_data(*s.key), _spelled(s.account), _spelled(str(s.command.get("to") or "")))
        for s in sorted(sends, key=lambda s: s.key)
    ]
    for row in await db.fetch(_IDS_OF_SENDS, *as_columns(rows), account, provider):
        known = KnownId(row["account"], row["provider_id"], row["status"], row["code"])
        found.setdefault((row["org_id"], row["send_id"], row["attempt"]), []).append(known)
    return found


def _spelled(number: str) -> str:
    """All spellings of the number's line, with spaces between; of a name, the name."""
    return " ".join({number, *spellings(number)})


async def known_ids(db: Connection, provider: Provider, account: str, provider_ids: Collection[str]) -> set[str]:
    """Which of these ids are stored for a send already."""
    return {row["provider_id"] for row in await db.fetch(_KNOWN_IDS, account, sorted(provider_ids), provider)}


async def calls_in_flight(db: Connection, senders: Collection[str]) -> set[tuple[str, str]]:
    """(sender, recipient) of the calls of these senders that are in flight: their ids are not stored yet."""
    return {(row["sender"], row["recipient"]) for row in await db.fetch(_CALLS_IN_FLIGHT, sorted(senders))}


async def record_list_outage(db: Connection, account: str, now: datetime) -> None:
    """Record that the provider's list cannot be read now."""
    await db.execute(_RECORD_LIST_OUTAGE, account, now)


async def latest_list_outage(db: Connection, key: AccountKey) -> datetime | None:
    """When the provider's list could last not be read, or last proved to be late. None: never."""
    last: datetime | None = await db.fetchval(_LATEST_LIST_OUTAGE, key.account, key.name)
    return last


async def add_unconfirmed(db: Connection, ids: Sequence[ProviderId], now: datetime) -> None:
    """Record that these were accepted now, so that the provider is asked when nobody tells their end."""
    if ids:
        rows = [(i.account, i.provider_id, i.org_id, i.message_id, i.send_id, i.attempt) for i in ids]
        await db.execute(_ADD_UNCONFIRMED, *as_columns(rows), now)


async def take_unconfirmed(db: Connection, account: str, now: datetime, limit: int) -> list[Unconfirmed]:
    """The SMS that are due. Taking them sets their next time, so that no other replica asks for them as well."""
    return [Unconfirmed(**row) for row in await db.fetch(_TAKE_UNCONFIRMED, account, now, limit)]


async def remove_unconfirmed(db: Connection, ids: Sequence[tuple[str, str]]) -> None:
    """Their outcome is known, or given up."""
    if ids:
        await db.execute(_REMOVE_UNCONFIRMED, *as_columns(ids))
