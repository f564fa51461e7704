"""Consents, as customers give and withdraw them on a channel and as the directory sends them.

Every change adds a line to ``audit_log``.

Rule 1: a consent holds by the time at which it was said; an older one never overwrites a newer one. Of two in the same
        second, "no" counts. A customer's "no" counts at once, also where the directory's clock is ahead.
Rule 2: what a customer says is stored as not published, in the transaction that records where it was said. A task of
        ingest publishes it from there (``unpublished``). So a sender and ingest store it alike, and a crash in between
        loses nothing.
Rule 3: the word START gives back what a typed STOP had taken, and no more: marketing is on again only where it was on
        before that STOP.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.organisations import AuditLine, add_lines
from libs.common.directory.reports import MarketingStopped
from libs.common.directory.touched import touch
from libs.common.events.directory import ConsentCategory, ConsentChanged
from libs.common.thread.conversations import current_conversation, lock_against_merge

Cause = Literal["keyword", "preferences", "refusal"]
KEYWORD: Cause = "keyword"


CONSENTS = """
select coalesce(bool_and(allowed) filter (where category = 'whatsapp'), true) as whatsapp_consent,
       coalesce(bool_and(allowed) filter (where category = 'sms'), true) as sms_consent,
       coalesce(bool_and(allowed) filter (where category = 'marketing'), false) as marketing_consent,
       coalesce(bool_and(allowed) filter (where category = 'transactional'), true) as transactional_consent,
       coalesce(bool_and(allowed) filter (where category = 'service_reminders'), true) as service_reminders_consent,
       max(address) filter (where category = 'sms') as sms_stopped_by,
       max(at) filter (where category = 'sms' and allowed and cause is distinct from 'keyword') as sms_consented_at
  from consents own_consents
 where own_consents.org_id = {org_id} and own_consents.customer_id = {customer_id}
"""
"""For a lateral join: what a customer consents to, always one row;

``{org_id}`` and ``{customer_id}`` are expressions of the outer query, whose aliases are never ``own_consents``.

Where nothing was said, everything is allowed but marketing. ``sms_stopped_by``: the number whose STOP
withdrew SMS, if one did. A START by SMS is no explicit consent, because its sender can be forged.
"""


class SaidConsent(NamedTuple):
    """What a customer said on the channel ``source``. ``address``: the line that an SMS STOP or START is of."""

    org_id: str
    customer_id: UUID
    category: ConsentCategory
    allowed: bool
    at: datetime
    source: Literal["whatsapp", "sms"]
    cause: Cause
    address: str | None = None


# What is off by default for everybody is given back by no START: marketing. SMS is allowed by default. A STOP by SMS
# narrows no opt-out that holds for every number. A "yes" whose time has not come yet would outlive every "no" until
# then: the "no" takes the place right behind it.
_STORE_SAID = """
with said as materialized (
    select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[],
                         $8::text[])
               as u (org_id, customer_id, category, allowed, at, source, cause, address)
), lifted as (
    update consents c
       set allowed = true, at = s.at, source = s.source, cause = s.cause, lifts = null, address = null,
           published = false
      from said s
     where s.cause = 'keyword' and s.allowed
       and c.org_id = s.org_id and c.customer_id = s.customer_id and c.category = s.category
       and not c.allowed and c.source = s.source and c.at < s.at and c.address is not distinct from s.address
       and (c.cause = 'keyword' and c.lifts or c.category = 'sms' and c.cause = 'refusal')
)
insert into consents as c (org_id, customer_id, category, allowed, at, source, cause, address, lifts, published)
select org_id, customer_id, category, allowed, at, source, cause, address,
       case when cause = 'keyword' and category = 'sms' then true end, false
  from said
 where not (cause = 'keyword' and allowed)
 order by 2, 3
on conflict (customer_id, category) do update
   set allowed = excluded.allowed, source = excluded.source, cause = excluded.cause, published = false,
       at = case when c.at > excluded.at then c.at + interval '1 microsecond' else excluded.at end,
       address = case when c.allowed or c.address is not null then excluded.address end,
       lifts = case when excluded.cause = 'keyword'
                    then c.allowed or c.cause = 'keyword' and c.lifts
                         or c.category = 'sms' and c.cause = 'refusal' and c.address is not null end
 where c.org_id = excluded.org_id
   and (c.at < excluded.at or c.allowed and not excluded.allowed and (c.at = excluded.at or c.at > now()))
"""

_STORED = """
select u.place, c.at
  from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[],
              $8::text[]) with ordinality
    as u (org_id, customer_id, category, allowed, at, source, cause, address, place)
  join consents c on c.org_id = u.org_id and c.customer_id = u.customer_id and c.category = u.category
 where c.allowed = u.allowed and c.source = u.source and c.cause = u.cause
   and (c.at = u.at or c.at > u.at and c.at > now() and not c.allowed)
"""


async def store_said(db: Connection, said: Iterable[SaidConsent]) -> None:
    """Store what was said, with its audit lines.

    Idempotent; call inside the transaction that records where it was said.
    """
    for consents in _conflict_free_rounds(said):
        columns = as_columns(consents)
        await db.execute(_STORE_SAID, *columns)
        rows = await db.fetch(_STORED, *columns)
        stored = [consents[row["place"] - 1]._replace(at=row["at"]) for row in rows]
        await add_lines(db, [audit_line(one.org_id, one.customer_id, one._asdict()) for one in stored])
        await touch(db, [(one.org_id, one.customer_id) for one in stored])


def _conflict_free_rounds(said: Iterable[SaidConsent]) -> list[list[SaidConsent]]:
    """In the order of their times, "no" last; no round names a consent twice."""
    rounds: list[list[SaidConsent]] = []
    last_round: dict[tuple[UUID, str], int] = {}
    for one in sorted(set(said), key=lambda c: (c.at, not c.allowed, c.org_id, c.customer_id, c.category)):
        number = last_round.get((one.customer_id, one.category), -1) + 1
        last_round[one.customer_id, one.category] = number
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(one)
    return rounds


# Our own changes come back on the topic. A repeat of what is stored changes nothing, neither what START would give back
# nor whether it was published.
_SET = """
insert into consents as c (org_id, customer_id, category, allowed, at, source, cause)
select *
  from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[])
 order by 2, 3
on conflict (customer_id, category) do update
   set allowed = excluded.allowed, at = excluded.at, source = excluded.source, cause = excluded.cause, lifts = null,
       published = true, address = null
 where c.org_id = excluded.org_id and c.at <= excluded.at
   and (c.allowed, c.at, c.source, c.cause)
       is distinct from (excluded.allowed, excluded.at, excluded.source, excluded.cause)
returning c.org_id, c.customer_id
"""


class DirectoryConsent(NamedTuple):
    """A consent of the directory. ``source`` and ``cause`` are None where the platform names none."""

    org_id: str
    customer_id: UUID
    category: ConsentCategory
    allowed: bool
    at: datetime
    source: str | None
    cause: str | None


async def set_consents(db: Connection, rows: Sequence[DirectoryConsent]) -> None:
    """Store consents of the directory, without audit lines. Each (customer, category) is named once."""
    if rows:
        changed = await db.fetch(_SET, *as_columns(rows))
        await touch(db, [(row["org_id"], row["customer_id"]) for row in changed])


def audit_line(org_id: str, customer_id: UUID, said: Mapping[str, Any]) -> AuditLine:
    """The line for a consent of ``customer_id``. ``said`` may name the customer by an earlier id.

    The line's key names what was said, so our own change that comes back on the topic adds no second line.
    """
    detail = {name: said[name] for name in ("category", "allowed")}
    detail |= {name: value for name in ("source", "cause") if (value := said.get(name)) is not None}
    at: datetime = said["at"]
    key = f"consent:{org_id}:{said['customer_id']}:{said['category']}:{at.isoformat()}:{said['allowed']}"
    return AuditLine(org_id, customer_id, "consent", detail, at, key)


_UNPUBLISHED = """
select org_id, customer_id, category, allowed, at, source, cause from consents where not published order by at limit $1
"""
_MARK_PUBLISHED = """
update consents c
   set published = true
  from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) as u (org_id, customer_id, category, at)
 where c.org_id = u.org_id and c.customer_id = u.customer_id and c.category = u.category and c.at = u.at
"""


async def unpublished(db: Connection, limit: int) -> list[ConsentChanged]:
    """What customers said and was not published yet, the oldest first."""
    return [ConsentChanged(**row) for row in await db.fetch(_UNPUBLISHED, limit)]


async def mark_published(db: Connection, changes: Sequence[ConsentChanged]) -> None:
    """These were published. A consent that was said since then is another row and stays unpublished."""
    if changes:
        await db.execute(_MARK_PUBLISHED, *as_columns([(c.org_id, c.customer_id, c.category, c.at) for c in changes]))


_CUSTOMERS_OF = f"""
select c.org_id, c.customer_id, max(u.at) as at
  from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as u (org_id, conversation_id, at)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
 group by c.org_id, c.customer_id
"""  # noqa: S608 -- a constant


async def refuse_marketing(db: Connection, refusals: Sequence[MarketingStopped]) -> None:
    """Marketing is off for these customers since then. Idempotent."""
    if refusals:
        await lock_against_merge(db, {(one.org_id, one.conversation_id) for one in refusals})
        customers = await db.fetch(_CUSTOMERS_OF, *as_columns(refusals))
        await store_said(
            db,
            [
                SaidConsent(**row, category="marketing", allowed=False, source="whatsapp", cause="refusal")
                for row in customers
            ],
        )
