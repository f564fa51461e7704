"""Marks on addresses: what a provider said about one, so that the next intent does not buy the same failure.

| channel | reason | says | ends before its time by |
| --- | --- | --- | --- |
| whatsapp | ``unreachable`` | nothing arrives there by WhatsApp | a message, a call or a receipt from it on WhatsApp |
| sms | ``unreachable`` | switched off or out of reach, lately | the same, or an SMS from it, or one that arrived |
| sms | ``no_phone`` | no SMS can arrive there: landline, no such number | an SMS that came from it or arrived there |
| sms | ``sms_opted_out`` | it replied STOP | an explicit consent given later |
| marketing | ``marketing_limited`` | Meta delivers no marketing template there for now | nothing |

Rule 1: a mark is of one address of one organisation. Another number of the same customer is not concerned.
Rule 2: every mark has its end (``until``); how long it lasts is said with the fault (``libs.common.providers``).
Rule 3: whatever is said later than a mark may end it; what happened before it does not. Of two marks of one kind the
        later said counts.
Rule 4: one line may be known under several spellings: all are marked and all are cleared, so that any of them finds the
        mark by its key.
"""

from collections.abc import Iterable
from datetime import datetime

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.directory.reports import Mark, MarkChannel, SignOfLife, Unreached
from libs.common.phone import canonical, spellings
from libs.common.thread.conversations import current_conversation, lock_against_merge

_MARK = """
insert into address_marks as m (org_id, channel, address, reason, code, source, at, until)
select *
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
              $8::timestamptz[])
on conflict (org_id, channel, address, reason) do update
   set code = excluded.code, source = excluded.source, at = excluded.at, until = excluded.until
 where m.at < excluded.at
"""

# By its key and in its order: an organisation that has none reads none of the others.
_MARKED = """
select u.org_id
  from unnest($1::text[]) as u (org_id)
 cross join lateral (select from address_marks m where m.org_id = u.org_id order by m.channel, m.address limit 1) m
"""

# A sign on WhatsApp shows that the phone is switched on. Only SMS shows that it takes SMS. A STOP is no matter of
# reach. Meta's times are whole seconds: a sign within the second of the mark came after it, because one that came
# before was seen before.
_CLEAR = """
with ended as (
    select m.org_id, m.channel, m.address, m.reason
      from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) as u (org_id, channel, address, at)
      join address_marks m on m.org_id = u.org_id and m.address = u.address and date_trunc('second', m.at) <= u.at
       and m.channel in ('sms', u.channel)
       and (m.reason = 'unreachable' or (m.reason = 'no_phone' and u.channel = 'sms'))
     order by m.org_id, m.channel, m.address, m.reason
       for update of m
)
delete from address_marks m using ended e
 where (m.org_id, m.channel, m.address, m.reason) = (e.org_id, e.channel, e.address, e.reason)
"""

_PURGE = """
delete from address_marks
 where ctid = any (array(select m.ctid from address_marks m
                          where m.until <= $1 order by m.until limit $2 for update skip locked))
"""

SMS_MARKS = """
select max(until) filter (where reason <> 'sms_opted_out') as no_phone_until,
       max(until) filter (where reason = 'sms_opted_out') as stopped_until,
       max(at) filter (where reason = 'sms_opted_out') as stopped_at
  from address_marks own_marks
 where own_marks.org_id = {org_id} and own_marks.channel = 'sms' and own_marks.address = {phone} offset 0
"""
"""For a lateral join: the marks of an E.164 number for SMS, always one row.

``{org_id}`` and ``{phone}`` are of the outer query, whose aliases are never ``own_marks``.
"""


async def mark(db: Connection, marks: Iterable[Mark]) -> None:
    """Remember these marks. Idempotent; of two of one kind the later said counts."""
    newest: dict[tuple[str, str, str, str], Mark] = {}
    for one in sorted(marks, key=lambda m: m.at):
        for address in addresses_of(one.address):
            newest[one.org_id, one.channel, address, one.reason] = one._replace(address=address)
    if newest:
        await db.execute(_MARK, *as_columns([newest[key] for key in sorted(newest)]))


async def clear(db: Connection, signs: Iterable[SignOfLife]) -> None:
    """End what these signs of life disprove. Idempotent; one statement for any number of them, or two.

    The first asks which of the organisations have a mark at all.
    """
    found = list(signs)
    if not found:
        return
    marked = {row["org_id"] for row in await db.fetch(_MARKED, list({sign.org_id for sign in found}))}
    latest: dict[tuple[str, str, str], datetime] = {}
    for sign in sorted((one for one in found if one.org_id in marked), key=lambda s: s.at):
        for address in addresses_of(sign.address):
            latest[sign.org_id, sign.channel, address] = sign.at
    if latest:
        await db.execute(_CLEAR, *as_columns([(*key, at) for key, at in latest.items()]))


async def purge_marks(db: Connection, over_since: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the marks that are over; returns how many there were."""
    return await changed(db, _PURGE, over_since, limit)


def addresses_of(address: str) -> tuple[str, ...]:
    """Under which addresses a mark of this one stands: every spelling of a line in E.164, a BSUID as it is."""
    digits = address.removeprefix("+")
    return spellings("+" + digits) if digits.isascii() and digits.isdigit() else (address,)


# Only of a customer who has the number still: it says nothing of one who has moved on to another. An explicit word
# given later stands.
_OPT_OUTS = f"""
with reported as (
    select distinct on (k.customer_id) k.org_id, k.customer_id, u.line, u.code, u.at
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        as u (org_id, conversation_id, address, line, code, at)
      join conversations v on v.org_id = u.org_id and v.conversation_id = {current_conversation("u")}
      join customers k on k.org_id = u.org_id and k.customer_id = v.customer_id and k.phone = u.address
     order by k.customer_id, u.at desc
), changed as (
    insert into consents as c (org_id, customer_id, category, allowed, at, address, source, cause, published)
    select org_id, customer_id, 'sms', false, at, line, 'sms', 'refusal', false from reported
    on conflict (customer_id, category) do update
       set allowed = false, at = excluded.at, address = excluded.address, source = excluded.source,
           cause = excluded.cause, lifts = null, published = false
     where c.org_id = excluded.org_id and c.at < excluded.at
       and not (c.allowed is false and c.address is null) -- the customer's own word on every number says more
    returning c.org_id, c.customer_id, c.at
)
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select t.org_id, t.customer_id, 'consent',
       jsonb_build_object('category', 'sms', 'allowed', false, 'source', 'sms_provider', 'code', t.code), t.at,
       'sms_provider:' || t.customer_id || ':' || t.at
  from reported t join changed c using (org_id, customer_id)
on conflict (source_key) do nothing
"""  # noqa: S608 -- a constant


# A late failure may have been disproved before: the customer has written or called since.
_HEARD_SINCE = f"""
select u.n
  from unnest($1::text[], $2::uuid[], $3::timestamptz[]) with ordinality as u (org_id, conversation_id, at, n)
  join conversations v on v.org_id = u.org_id and v.conversation_id = {current_conversation("u")}
 where v.last_customer_at > u.at
"""  # noqa: S608 -- a constant


async def record_unreached(db: Connection, failures: Iterable[Unreached]) -> None:
    """Mark the addresses of these failures, and withdraw consent where one was a STOP by SMS. Idempotent.

    A customer who has written or called since the failure is not marked as out of reach.
    """
    found = list(failures)
    doubtful = [one for one in found if one.fault.mark == "unreachable"]
    if doubtful:
        asked = as_columns([(one.org_id, one.conversation_id, one.at) for one in doubtful])
        disproved = {id(doubtful[row["n"] - 1]) for row in await db.fetch(_HEARD_SINCE, *asked)}
        found = [one for one in found if id(one) not in disproved]
    marks = []
    outs = []
    for one in found:
        reason, lasts = one.fault.mark, one.fault.lasts
        if reason is None or reason == "marketing_stopped" or lasts is None:
            continue
        channel: MarkChannel = "marketing" if reason == "marketing_limited" else one.channel
        marks.append(Mark(one.org_id, channel, one.address, reason, one.code, one.source, one.at, one.at + lasts))
        if reason == "sms_opted_out":
            line = canonical(one.address)
            outs += [(one.org_id, one.conversation_id, a, line, one.code, one.at) for a in addresses_of(one.address)]
    if outs:
        await lock_against_merge(db, {(one[0], one[1]) for one in outs})
    await mark(db, marks)
    if outs:
        await db.execute(_OPT_OUTS, *as_columns(sorted(outs)))
