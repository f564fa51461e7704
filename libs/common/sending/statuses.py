"""Statuses of providers: matched to the sends they are about, or kept until their send is known.

Rule 1: before a status without a send is kept, and before a provider id is stored, the transaction takes an advisory
lock on that id. So either the keeper finds the id, or the storer finds the kept status.
Rule 2: an id that arrives after its claim was lost is stored as evidence and takes no kept status with it. The kept
statuses are applied when the send is settled by that evidence. Statuses that arrive in between are applied if the
message exists already; a bridge SMS does not, so its statuses are kept.
Rule 3: nothing is kept of statuses that cannot be of a send of ours.

What matched statuses mean for messages and for others: ``libs.common.sending.status_effects``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common import metrics
from libs.common.db.columns import as_columns
from libs.common.db.locks import PROVIDER_IDS, lock
from libs.common.db.pool import Connection, changed
from libs.common.ids import SendKey, read_callback
from libs.common.providers import Provider, ProviderChannel
from libs.common.thread.message_status import ECHO, ProviderStatus


class MatchedSend(NamedTuple):
    """The send that a status is about, and the message that the status feeds (they differ for a bridge).

    ``to``, ``recipient``: the address that was used. The rest is told of a send that is said to have failed: the
    account that sent it (``sender``), as ``sends`` names it; when it was claimed for its call (``called_at``); how it
    went.
    """

    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int
    to: str | None = None
    recipient: str | None = None
    sender: str | None = None
    called_at: datetime | None = None
    route: str | None = None
    template: str | None = None
    language: str | None = None

    @property
    def is_bridge(self) -> bool:
        return self.message_id != self.send_id

    @property
    def is_echo(self) -> bool:
        """Whether staff sent it in the WhatsApp Business app, and no sender of ours."""
        return self.attempt == ECHO

    @property
    def send(self) -> SendKey:
        return self.org_id, self.send_id, self.attempt

    @property
    def address(self) -> str | None:
        """The address that was used: Meta takes the number where both are given."""
        return self.to or self.recipient


StatusId = tuple[str, str, str]
"""Provider, account, provider's id: of the send that a status is about."""
Matched = tuple[MatchedSend, ProviderStatus]


class KnownSends(NamedTuple):
    """What one look has found of a batch of statuses.

    ``in_flight``: of the business numbers with statuses without callback data those that had a call in flight before
    ``sends`` were read. So a call that was recorded meanwhile is among the sends.
    """

    sends: Mapping[StatusId, MatchedSend]
    in_flight: frozenset[str]


@dataclass(frozen=True, slots=True)
class ProviderId:
    """A provider's id for one send.

    ``message_id``: the message whose status it feeds. ``send_id``: the row in sends. They differ for a bridge.
    """

    channel: ProviderChannel
    provider: Provider
    account: str
    provider_id: str
    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int


# "offset 0": each status finds its send by key, whatever the size of the tables.
_FIND = """
select u.n, p.org_id, p.message_id, p.send_id, p.attempt, s.*
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as u (provider, account, provider_id, n)
  join provider_ids p using (provider, account, provider_id)
  left join lateral (
       select s.command ->> 'to', s.command ->> 'recipient',
              case when f.failed then s.account end, case when f.failed then s.claimed_at end,
              case when f.failed then s.command ->> 'route' end,
              case when f.failed then s.command -> 'content' ->> 'name' end,
              case when f.failed then s.command -> 'content' ->> 'language' end
         from sends s, (select u.n = any($4::bigint[]) as failed) f
        where s.org_id = p.org_id and s.message_id = p.send_id and s.attempt = p.attempt offset 0
       ) s on true
 where p.applied or exists (select from messages m where m.org_id = p.org_id and m.message_id = p.message_id)
"""

_KEEP = """
insert into early_statuses (channel, provider, account, provider_id, status, code, callback, item, at, received_at)
select u.*, $10
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
      $9::timestamptz[]) as u
on conflict do nothing
"""

_STORE = """
insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt, applied,
    recorded_at)
select u.*, $9, $10
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[], $8::int[]) as u
on conflict (provider, account, provider_id) do nothing
"""

_TAKE_KEPT = """
delete from early_statuses e
 using unnest($1::text[], $2::text[], $3::text[]) as u (provider, account, provider_id)
 where (e.provider, e.account, e.provider_id) = (u.provider, u.account, u.provider_id)
returning e.channel, e.provider, e.account, e.provider_id, e.status, e.code, e.callback, e.item, e.at
"""

# A status may name a send that does not exist here: another installation on the same account made it, or a restored
# backup lacks it.
_FORGET = """
delete from early_statuses
 where ctid = any (array(select e.ctid from early_statuses e
     where e.received_at < $1 order by e.received_at limit $2 for update skip locked))
"""

_FORGET_NAMELESS = """
delete from early_statuses
 where ctid = any (array(select e.ctid from early_statuses e where e.callback is null and e.received_at < $1
                          order by e.received_at limit $2 for update skip locked))
"""

# A send that ended with an unknown outcome, and a status that names it. Its number is one tenant's.
_GIVEN_UP = """
select 'whatsapp' as channel, 'meta' as provider, s.account, u.provider_id, s.org_id, s.message_id,
       s.message_id as send_id, s.attempt
  from unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) as u (account, provider_id, message_id, attempt)
  join whatsapp_numbers w on w.phone_number_id = u.account
 cross join lateral (
       select s.org_id, s.message_id, s.attempt, s.account from sends s
        where s.org_id = w.org_id and s.message_id = u.message_id and s.attempt = u.attempt and s.account = u.account
          and s.provider = 'meta' and s.state = 'failed' and s.outcome ->> 'reason' = 'unknown_outcome' offset 0
       ) s
"""

_IN_FLIGHT = """
select distinct s.account
  from send_claims c
 cross join lateral unnest(c.org_ids, c.message_ids, c.attempts) as k (org_id, message_id, attempt)
 cross join lateral (
       select s.account from sends s
        where s.org_id = k.org_id and s.message_id = k.message_id and s.attempt = k.attempt
          and s.state = 'claimed' and s.claim_id = c.claim_id offset 0) s
 where c.channel = 'whatsapp' and c.lease_until > $2::timestamptz - interval '1 minute'
   and c.accounts && $1::text[] and s.account = any($1::text[])
"""


async def find_sends(db: Connection, statuses: Sequence[ProviderStatus], now: datetime) -> KnownSends:
    """The sends of these statuses, as far as their ids are stored. It locks nothing."""
    in_flight: frozenset[str] = frozenset()
    if nameless := {s.account for s in statuses if s.callback is None and s.provider == "meta"}:
        in_flight = frozenset([row["account"] for row in await db.fetch(_IN_FLIGHT, list(nameless), now)])
    return KnownSends(await _find(db, {s.id for s in statuses}, _failed(statuses)), in_flight)


async def match_statuses(
    db: Connection, statuses: Sequence[ProviderStatus], now: datetime, known: KnownSends
) -> list[Matched]:
    """The statuses whose sends are known, in their order. Of the others those are kept that may be of a send of ours.

    Every send of ours carries callback data, and Meta echoes it. A status without any is kept while a call from its
    number is in flight. Another system on the same number may send millions of statuses, and nothing is kept of them.
    ``known``: what ``find_sends`` has found of these. Call inside a transaction.
    """
    found = dict(known.sends)
    if others := [s for s in statuses if s.id not in found]:
        found |= await _match_others(db, others, known.in_flight, now)
    return [(send, s) for s in statuses if (send := found.get(s.id)) is not None]


async def _match_others(
    db: Connection, statuses: Sequence[ProviderStatus], in_flight: frozenset[str], now: datetime
) -> dict[StatusId, MatchedSend]:
    """Of these statuses, whose ids were not stored, the sends that are known by now. The others are kept or counted."""
    missing = {
        s.id
        for s in statuses
        if (s.provider == "meta" and s.account in in_flight if s.callback is None else read_callback(s.callback))
    }
    found: dict[StatusId, MatchedSend] = {}
    if missing:
        failed = _failed(statuses)
        await _lock(db, sorted(missing))
        found |= await _find(db, missing, failed)
        if given_up := await _given_up(db, [s for s in statuses if s.id in missing and s.id not in found]):
            await _store(db, given_up, now, applied=True)
            found |= await _find(db, missing, failed)
        early = [s for s in statuses if s.id in missing and s.id not in found]
        if early:
            columns = [(s.channel, *s.id, s.status, s.code, s.callback, s.item, s.at) for s in early]
            await db.execute(_KEEP, *as_columns(columns), now)
    for provider, others in Counter([s.provider for s in statuses if s.id not in missing]).items():
        metrics.STATUSES_OF_OTHERS.labels(provider=provider).inc(others)
    return found


def _failed(statuses: Sequence[ProviderStatus]) -> set[StatusId]:
    """The ids of those that say so."""
    return {s.id for s in statuses if s.status == "failed"}


async def take_early_statuses(db: Connection, ids: Sequence[ProviderId], now: datetime) -> list[Matched]:
    """Store the ids that sends of ours got, and take the statuses that arrived before them, oldest first.

    Call inside a transaction.
    """
    if not ids:
        return []
    keys = sorted({(i.provider, i.account, i.provider_id) for i in ids})
    await _lock(db, keys)
    await _store(db, ids, now, applied=True)
    kept = [ProviderStatus(**row) for row in await db.fetch(_TAKE_KEPT, *as_columns(keys))]
    found = await _find(db, {s.id for s in kept}, _failed(kept))
    return [(found[s.id], s) for s in sorted(kept, key=lambda s: s.order)]


async def keep_provider_ids(db: Connection, ids: Sequence[ProviderId], now: datetime) -> None:
    """Store ids that arrived after their claim was lost. They are evidence; nothing follows from them yet."""
    if ids:
        await _store(db, ids, now, applied=False)


async def forget_early(db: Connection, received_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` statuses that were kept before then and found no send; returns how many were deleted."""
    return await changed(db, _FORGET, received_before, limit)


async def forget_nameless(db: Connection, received_before: datetime, limit: int) -> int:
    """The same for statuses without callback data: a call that was in flight has long had its answer."""
    return await changed(db, _FORGET_NAMELESS, received_before, limit)


async def _find(db: Connection, ids: set[StatusId], failed: set[StatusId]) -> dict[StatusId, MatchedSend]:
    """The sends of these ids. ``failed``: of which a status says that they failed."""
    if not ids:
        return {}
    asked = list(ids)
    numbers = [n for n, one in enumerate(asked, 1) if one in failed] if failed else []
    rows = await db.fetch(_FIND, *as_columns(asked), numbers)
    return {asked[n - 1]: MatchedSend(*columns) for n, *columns in rows}


async def _given_up(db: Connection, statuses: Sequence[ProviderStatus]) -> list[ProviderId]:
    """The ids that these statuses name for sends which ended with an unknown outcome."""
    named = {s.id: echo for s in statuses if s.provider == "meta" and (echo := read_callback(s.callback)) is not None}
    if not named:
        return []
    asked = [(*id_[1:], echo.message_id, echo.attempt) for id_, echo in sorted(named.items())]
    return [
        ProviderId(**row)
        for row in await db.fetch(_GIVEN_UP, *as_columns(asked))
        if named["meta", row["account"], row["provider_id"]].is_of(row["org_id"])
    ]


async def _store(db: Connection, ids: Sequence[ProviderId], now: datetime, *, applied: bool) -> None:
    rows = [
        (i.channel, i.provider, i.account, i.provider_id, i.org_id, i.message_id, i.send_id, i.attempt) for i in ids
    ]
    await db.execute(_STORE, *as_columns(rows), applied, now)


async def _lock(db: Connection, ids: Sequence[tuple[str, str, str]]) -> None:
    await lock(db, PROVIDER_IDS, [":".join(i) for i in ids])
