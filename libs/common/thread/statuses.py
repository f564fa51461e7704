"""Provider statuses meet the messages they belong to.

Whoever keeps a status that belongs to nothing yet, and whoever stores a provider id, first takes an advisory lock on that id; so either the
keeper sees the id or the storer sees the kept status. A status feeds only the attempt it belongs to (``libs.common.thread.message_status``).

An id that came after its claim was lost is stored as evidence and takes no kept status with it: whoever settles the send by that evidence
does, and remembers what came of it until it is told. Statuses that come meanwhile are applied where the message stands already; a bridge is
written when its send is settled, so its statuses are kept until then.

What they come to is decided without I/O (``libs.common.thread.folding``).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from libs.common import metrics
from libs.common.accounts import pauses
from libs.common.db.locks import PROVIDER_IDS, lock
from libs.common.db.pool import Connection
from libs.common.directory.address_marks import clear, record_unreached
from libs.common.directory import templates
from libs.common.directory.consents import refuse_marketing
from libs.common.events.outbound import DeliveryUpdate
from libs.common.ids import read_callback
from libs.common.thread import refusals
from libs.common.thread.folding import Effects, Folded, Match, Provider, ProviderStatus
from libs.common.thread.message_status import Failed, advance
from libs.common.thread.messages import Key, lock_messages, told, write_states
from libs.common.thread.pricing import keep_pricing
from libs.common.thread.windows import refuse_windows

__all__ = [
    "Effects",
    "LocalFailure",
    "ProviderId",
    "ProviderStatus",
    "fail_locally",
    "forget_early",
    "forget_nameless",
    "keep_provider_ids",
    "receive_statuses",
    "store_provider_ids",
]


@dataclass(frozen=True, slots=True)
class ProviderId:
    """A provider's id for one send. ``message_id`` is the message whose status it feeds, ``send_id`` the row in sends (they differ for a bridge)."""

    provider: Provider
    account: str
    provider_id: str
    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int


_FIND = """
select p.provider, p.account, p.provider_id, p.org_id, p.message_id, p.send_id, p.attempt, s.account as sender, s.claimed_at,
       s.command ->> 'route' as route, s.command ->> 'to' as recipient, s.command ->> 'recipient' as bsuid,
       s.command -> 'content' ->> 'name' as template, s.command -> 'content' ->> 'language' as language
  from unnest($1::text[], $2::text[], $3::text[]) as u (provider, account, provider_id)
  join provider_ids p using (provider, account, provider_id)
  left join lateral (
       select s.account, s.claimed_at, s.command from sends s
        where s.org_id = p.org_id and s.message_id = p.send_id and s.attempt = p.attempt offset 0
       ) s on true
 where p.applied or exists (select from messages m where m.org_id = p.org_id and m.message_id = p.message_id)
"""

_KEEP = """
insert into early_statuses (provider, account, provider_id, status, code, callback, item, at, received_at)
select u.*, $9
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::timestamptz[]) as u
on conflict do nothing
"""

_STORE = """
insert into provider_ids (provider, account, provider_id, org_id, message_id, send_id, attempt, applied, recorded_at)
select u.*, $8, $9
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::uuid[], $7::int[]) as u
on conflict (provider, account, provider_id) do nothing
"""

_TAKE_KEPT = """
delete from early_statuses e
 using unnest($1::text[], $2::text[], $3::text[]) as u (provider, account, provider_id)
 where (e.provider, e.account, e.provider_id) = (u.provider, u.account, u.provider_id)
returning e.provider, e.account, e.provider_id, e.status, e.code, e.callback, e.item, e.at
"""

# What names a send of ours and never found it: another installation's on the same account, or one that a backup does not know.
_FORGET = """
delete from early_statuses
 where ctid = any (array(select e.ctid from early_statuses e where e.received_at < $1 order by e.received_at limit $2 for update skip locked))
returning 1
"""

_FORGET_NAMELESS = """
delete from early_statuses
 where ctid = any (array(select e.ctid from early_statuses e where e.callback is null and e.received_at < $1
                          order by e.received_at limit $2 for update skip locked))
returning 1
"""

# A send that ended because nobody knew what became of it: a status that names it does. Its number is one tenant's.
_GIVEN_UP = """
select u.provider_id, s.org_id, s.message_id, s.attempt, s.account
  from unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) as u (account, provider_id, message_id, attempt)
  join whatsapp_numbers w on w.phone_number_id = u.account
 cross join lateral (
       select s.org_id, s.message_id, s.attempt, s.account from sends s
        where s.org_id = w.org_id and s.message_id = u.message_id and s.attempt = u.attempt and s.account = u.account
          and s.provider = 'meta' and s.state = 'failed' and s.outcome ->> 'reason' = 'unknown_outcome' offset 0
       ) s
"""

_IN_FLIGHT = """
select distinct s.account from sends s
 where s.provider = 'meta' and s.state = 'claimed' and s.lease_until > $2::timestamptz - interval '1 minute' and s.account = any($1::text[])
"""


async def receive_statuses(db: Connection, statuses: Sequence[ProviderStatus], now: datetime) -> Effects:
    """Apply the statuses whose sends are known; keep those of the others that may be of a send of ours.

    Every send of ours carries callback data, and Meta echoes it. One that comes without any is kept while a call from its number is under way.
    Another system on the same number may send millions of statuses, and nothing is kept of them. Call inside a transaction; publish the effects
    after its commit.
    """
    found = await _find(db, {s.id for s in statuses})
    missing = {s.id for s in statuses if s.id not in found and read_callback(s.callback) is not None}
    if nameless := {s.id for s in statuses if s.id not in found and s.callback is None and s.provider == "meta"}:
        under_way = {r[0] for r in await db.fetch(_IN_FLIGHT, sorted({account for _, account, _ in nameless}), now)}
        missing |= {one for one in nameless if one[1] in under_way}
        found |= await _find(db, nameless - missing)  # its call may have been recorded between the two questions
    if missing:
        await _lock(db, sorted(missing))
        found |= await _find(db, missing)
        if given_up := await _given_up(db, [s for s in statuses if s.id in missing and s.id not in found]):
            await _store(db, given_up, now, applied=True)
            found |= await _find(db, missing)
        early = [s for s in statuses if s.id in missing and s.id not in found]
        if early:
            columns = [(*s.id, s.status, s.code, s.callback, s.item, s.at) for s in early]
            await db.execute(_KEEP, *_columns(columns), now)
    for provider, others in Counter(s.provider for s in statuses if s.id not in found and s.id not in missing).items():
        metrics.count("transom_statuses_of_others_total", others, provider=provider)
    return await _settle(db, [(found[s.id], s) for s in statuses if s.id in found], now)


async def store_provider_ids(db: Connection, ids: Sequence[ProviderId], now: datetime) -> Effects:
    """Store what providers called our sends and apply the statuses that came before. Call inside a transaction; publish after its commit."""
    if not ids:
        return Effects()
    keys = sorted({(i.provider, i.account, i.provider_id) for i in ids})
    await _lock(db, keys)
    await _store(db, ids, now, applied=True)
    kept = [ProviderStatus(**row) for row in await db.fetch(_TAKE_KEPT, *_columns(keys))]
    if not kept:
        return Effects()
    found = await _find(db, {s.id for s in kept})
    return await _settle(db, [(found[s.id], s) for s in sorted(kept, key=lambda s: s.at)], now)


async def keep_provider_ids(db: Connection, ids: Sequence[ProviderId], now: datetime) -> None:
    """Store ids that came after their claim was lost: evidence, and nothing follows from it yet."""
    if ids:
        await _store(db, ids, now, applied=False)


async def forget_early(db: Connection, received_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the statuses that were kept then and found no send since; returns how many there were."""
    return len(await db.fetch(_FORGET, received_before, limit))


async def forget_nameless(db: Connection, received_before: datetime, limit: int) -> int:
    """The same for those without callback data: a call that was under way has long had its answer."""
    return len(await db.fetch(_FORGET_NAMELESS, received_before, limit))


@dataclass(frozen=True, slots=True)
class LocalFailure:
    """We end this message ourselves: ``reason`` as in the contract."""

    org_id: str
    message_id: UUID
    attempt: int
    reason: str
    code: str | None
    at: datetime


async def fail_locally(db: Connection, failures: Sequence[LocalFailure]) -> list[DeliveryUpdate]:
    """End messages as failed and return what to tell: for every one the latest rung, so that a repeat tells the same again."""
    messages = await lock_messages(db, {(f.org_id, f.message_id) for f in failures})
    updates: dict[Key, DeliveryUpdate] = {}
    for failure in failures:
        key = (failure.org_id, failure.message_id)
        if key in messages:
            messages[key].state = advance(
                messages[key].state, Failed(failure.attempt, failure.reason, failure.code, failure.at)
            )
    await write_states(db, messages.values())
    for key, message in messages.items():
        update = told(message)
        if update is not None:
            updates[key] = update
    return list(updates.values())


async def _find(db: Connection, ids: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], Match]:
    if not ids:
        return {}
    rows = await db.fetch(_FIND, *_columns(sorted(ids)))
    return {(r[0], r[1], r[2]): Match(*tuple(r)[3:]) for r in rows}


async def _given_up(db: Connection, statuses: Sequence[ProviderStatus]) -> list[ProviderId]:
    """The ids that these statuses give to sends that ended because nobody knew their outcome."""
    named = {s.id: told for s in statuses if s.provider == "meta" and (told := read_callback(s.callback)) is not None}
    if not named:
        return []
    asked = [(*id_[1:], told.message_id, told.attempt) for id_, told in sorted(named.items())]
    return [
        ProviderId("meta", account, wamid, org_id, message_id, message_id, attempt)
        for wamid, org_id, message_id, attempt, account in await db.fetch(_GIVEN_UP, *_columns(asked))
        if named["meta", account, wamid].is_of(org_id)
    ]


async def _store(db: Connection, ids: Sequence[ProviderId], now: datetime, *, applied: bool) -> None:
    rows = [(i.provider, i.account, i.provider_id, i.org_id, i.message_id, i.send_id, i.attempt) for i in ids]
    await db.execute(_STORE, *_columns(rows), applied, now)


async def _lock(db: Connection, ids: Sequence[tuple[str, str, str]]) -> None:
    await lock(db, PROVIDER_IDS, [":".join(i) for i in ids])


async def _settle(db: Connection, pairs: Sequence[tuple[Match, ProviderStatus]], now: datetime) -> Effects:
    if not pairs:
        return Effects()
    messages = await lock_messages(db, {(m.org_id, m.message_id) for m, _ in pairs})
    folded = Folded()
    for match, status in pairs:
        message = messages.get((match.org_id, match.message_id))
        if message is not None and message.conversation_id is not None:
            folded.take(message, message.conversation_id, match, status)
    folded.conclude(messages)
    await write_states(db, messages.values())
    await refuse_windows(db, folded.refused)
    await _tell_others(db, folded, now)
    await refusals.keep(db, folded.effects.refusals, now)
    return folded.effects


async def _tell_others(db: Connection, folded: Folded, now: datetime) -> None:
    """What the statuses say about addresses, templates and accounts. Pauses come last: they are locked after everything else."""
    await record_unreached(db, folded.unreached)
    await keep_pricing(db, folded.pricing)
    await refuse_marketing(db, folded.stopped)
    await clear(db, folded.signs)
    await templates.record_failures(db, folded.gone, folded.stale)
    for provider, sends in sorted(folded.proofs.items()):
        await pauses.proven(db, provider, sends)
    for provider, account, scope, called_at, code in sorted(folded.troubles.values()):
        await pauses.rest_account(db, provider, account, code, now, proof="status", scope=scope, called_at=called_at)


def _columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
