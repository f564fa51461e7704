"""Failures that lie with a recipient, remembered so that the next intent does not buy the same one.

The address is marked (``libs.common.directory.address_marks``). A STOP that the SMS provider tells of is a withdrawn consent as well, with its trail in the
audit log; it holds for the number that replied STOP. Whoever has another number by now is not bound by it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from libs.common.directory.address_marks import Mark, MarkChannel, MarkSource, addresses_of, mark
from libs.common.directory.conversations import stay
from libs.common.faults import RecipientFault
from libs.common.phone import canonical

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class Unreached:
    """``fault`` was told of a message to ``address`` in ``conversation_id``, by the provider's ``code``."""

    org_id: str
    conversation_id: UUID
    channel: MarkChannel
    address: str
    fault: RecipientFault
    code: str
    source: MarkSource
    at: datetime


# Only of a customer who has the number still: it says nothing of one who has moved on to another. An explicit word given later stands.
_OPT_OUTS = """
with told as (
    select distinct on (k.customer_id) k.org_id, k.customer_id, u.line, u.code, u.at
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        as u (org_id, conversation_id, address, line, code, at)
      left join conversation_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
      join conversations v on v.org_id = u.org_id and v.conversation_id = coalesce(a.conversation_id, u.conversation_id)
      join customers k on k.org_id = u.org_id and k.customer_id = v.customer_id and k.phone = u.address
     order by k.customer_id, u.at desc
), changed as (
    insert into consents as c (org_id, customer_id, category, allowed, at, address, source, cause, published)
    select org_id, customer_id, 'sms', false, at, line, 'sms', 'refusal', false from told
    on conflict (customer_id, category) do update
       set allowed = false, at = excluded.at, address = excluded.address, source = excluded.source, cause = excluded.cause, lifts = null, published = false
     where c.org_id = excluded.org_id and c.at < excluded.at
       and not (c.allowed is false and c.address is null) -- the customer's own word on every number says more
    returning c.org_id, c.customer_id, c.at
)
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select t.org_id, t.customer_id, 'consent',
       jsonb_build_object('category', 'sms', 'allowed', false, 'source', 'sms_provider', 'code', t.code), t.at,
       'sms_provider:' || t.customer_id || ':' || t.at
  from told t join changed c using (org_id, customer_id)
on conflict (source_key) do nothing
"""


# What is told late may have been disproved before: the customer has written or called since.
_HEARD_SINCE = """
select u.n
  from unnest($1::text[], $2::uuid[], $3::timestamptz[]) with ordinality as u (org_id, conversation_id, at, n)
  left join conversation_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
  join conversations v on v.org_id = u.org_id and v.conversation_id = coalesce(a.conversation_id, u.conversation_id)
 where v.last_customer_at > u.at
"""


async def remember(db: "asyncpg.Connection[asyncpg.Record]", failures: Iterable[Unreached]) -> None:
    """Mark the addresses of these failures, and withdraw consent where one was a STOP by SMS. Idempotent.

    Nobody is marked as out of reach who has written or called after that was so.
    """
    found = list(failures)
    doubtful = [one for one in found if one.fault.mark == "unreachable"]
    if doubtful:
        asked = _columns([(one.org_id, one.conversation_id, one.at) for one in doubtful])
        disproved = {id(doubtful[row[0] - 1]) for row in await db.fetch(_HEARD_SINCE, *asked)}
        found = [one for one in found if id(one) not in disproved]
    marks = []
    outs = []
    for one in found:
        reason, lasts = one.fault.mark, one.fault.lasts
        if reason is None or reason == "marketing_stopped" or lasts is None:
            continue
        marks.append(Mark(one.org_id, one.channel, one.address, reason, one.code, one.source, one.at, one.at + lasts))
        if reason == "sms_opted_out":
            line = canonical(one.address)
            outs += [(one.org_id, one.conversation_id, a, line, one.code, one.at) for a in addresses_of(one.address)]
    if outs:
        await stay(db, {(one[0], one[1]) for one in outs})
    await mark(db, marks)
    if outs:
        await db.execute(_OPT_OUTS, *_columns(sorted(outs)))


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
