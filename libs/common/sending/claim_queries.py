"""The statements about ``send_claims``: which sends one claim took, and until when it has them.

A claim stands in a row of its own, beside the rows of ``sends``. So no index of ``sends`` names a column that a claim
writes. A row of ``send_claims`` is locked after those of ``sends``, and no statement waits for one.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.ids import SendKey
from libs.common.providers import ProviderChannel
from libs.common.sending.queries import COLUMNS, row_of
from libs.common.sending.rows import SendRow

_OPEN = """
insert into send_claims (claim_id, channel, lease_until, accounts, org_ids, message_ids, attempts)
values ($1, $2, $3, $4, $5, $6, $7)
"""

_STILL_CLAIMED = """
select from unnest(c.org_ids, c.message_ids, c.attempts) as k (org_id, message_id, attempt)
 cross join lateral (
       select from sends s
        where s.org_id = k.org_id and s.message_id = k.message_id and s.attempt = k.attempt
          and s.state = 'claimed' and s.claim_id = c.claim_id offset 0) s
"""

_CLOSE = f"""
delete from send_claims
 where claim_id = any (array(select c.claim_id from send_claims c
                              where c.claim_id = any($1::uuid[]) and not exists ({_STILL_CLAIMED})
                                for update skip locked))
"""  # noqa: S608 -- constants of this module

# Claims none of whose sends is claimed any more: two transactions ended the last of them at the same time.
_FORGET = f"""
delete from send_claims
 where claim_id = any (array(select c.claim_id from send_claims c
                              where c.channel = $1 and c.lease_until <= $2 and not exists ({_STILL_CLAIMED})
                              order by c.lease_until
                              limit $3
                                for update skip locked))
"""  # noqa: S608 -- constants of this module

_ENDED = f"""
select {COLUMNS}
  from send_claims c
 cross join lateral unnest(c.org_ids, c.message_ids, c.attempts) as k (org_id, message_id, attempt)
 cross join lateral (
       select * from sends s
        where s.org_id = k.org_id and s.message_id = k.message_id and s.attempt = k.attempt
          and s.state = 'claimed' and s.claim_id = c.claim_id and s.lease_until <= $2
          and s.message_id <> all ($4::uuid[])
          for update skip locked) s
 where c.channel = $1 and c.lease_until <= $2
 order by c.lease_until
 limit $3
"""  # noqa: S608 -- constants of this module

# Rows that are locked are being recorded, or have lost their claim.
_EXTEND = """
with ours as materialized (
    select s.org_id, s.message_id, s.attempt, s.claim_id
      from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[]) as u (org_id, message_id, attempt, claim_id)
      join sends s using (org_id, message_id, attempt)
     where s.state = 'claimed' and s.claim_id = u.claim_id
       for update of s skip locked
), longer as (
    update send_claims c
       set lease_until = greatest(c.lease_until, $5)
     where c.claim_id = any (array(select x.claim_id from send_claims x
                                    where x.claim_id in (select o.claim_id from ours o) for update skip locked))
)
update sends s
   set lease_until = $5
  from ours o
 where s.org_id = o.org_id and s.message_id = o.message_id and s.attempt = o.attempt
"""

_NOTE_QUESTION = """
update sends s
   set outcome = case when $5 then coalesce(s.outcome, '{}'::jsonb) || jsonb_build_object('asks', s.claim_id)
                      else s.outcome - 'asks' end
 where s.org_id = $1 and s.message_id = $2 and s.attempt = $3 and s.state = 'claimed' and s.claim_id = $4
"""


async def open_claim(
    db: Connection, channel: ProviderChannel, claim_id: UUID, rows: Sequence[SendRow], until: datetime
) -> None:
    """Store that this claim has these rows until then. Call in the transaction that claims them.

    The rows that are called last stand first. So the first look of ``close_claims`` mostly finds one that is claimed.
    """
    org_ids, message_ids, attempts = as_columns([row.key for row in reversed(rows)])
    accounts = sorted({row.account for row in rows})
    await db.execute(_OPEN, claim_id, channel, until, accounts, org_ids, message_ids, attempts)


async def close_claims(db: Connection, claims: Collection[UUID]) -> None:
    """Forget those of these claims that have no claimed row any more. Call after their rows were written."""
    if claims:
        await db.execute(_CLOSE, sorted(claims))


async def forget_claims(db: Connection, channel: ProviderChannel, now: datetime, limit: int) -> int:
    """Forget up to ``limit`` claims whose lease is over and that have no claimed row any more; returns how many."""
    return await changed(db, _FORGET, channel, now, limit)


async def note_question(db: Connection, row: SendRow, *, asks: bool) -> bool:
    """Store that the call of this claim has not begun (``asks``), or that it begins now.

    Returns whether the claim still stands.
    """
    return await db.execute(_NOTE_QUESTION, *row.key, row.claim_id, asks) == "UPDATE 1"


async def extend_leases(db: Connection, claims: Iterable[tuple[str, UUID, int, UUID]], until: datetime) -> None:
    """Extend the leases of these sends (key of the row, claim_id) where their claims still stand."""
    await db.execute(_EXTEND, *as_columns(sorted(claims)), until)


async def ended_claims(
    db: Connection, channel: ProviderChannel, now: datetime, limit: int, but: Iterable[SendKey] = ()
) -> list[SendRow]:
    """Claimed rows whose lease is over, locked."""
    return [row_of(r) for r in await db.fetch(_ENDED, channel, now, limit, [key[1] for key in but])]
