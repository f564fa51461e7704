"""Consent as customers give and withdraw it on a channel, and as the directory tells it. Every change leaves a line in ``audit_log``.

Rule 1: by the time at which it was said; older never overwrites newer. Of two that were said in the same second, "no" counts.
Rule 2: what a customer says is stored with ``published`` false, and ``tell`` publishes it from there: whoever hears it stores it in its own transaction
        and is done. Sender and ingest hear of it alike, and a crash in between loses nothing.
Rule 3: the word START gives back what a typed STOP had taken, and no more: marketing is on again only where it was on before that STOP.

This package is below ``libs.common.db`` and takes connections as they come.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from libs.common.directory.conversations import stay
from libs.common.events.directory import ConsentCategory, ConsentChanged
from libs.common.phone import spellings

if TYPE_CHECKING:
    import asyncpg

    Db = asyncpg.Connection[asyncpg.Record]

Cause = Literal["keyword", "preferences", "refusal"]
KEYWORD: Cause = "keyword"


class Word(NamedTuple):
    """What a customer said on ``source``: a channel."""

    org_id: str
    customer_id: UUID
    category: ConsentCategory
    allowed: bool
    at: datetime
    source: Literal["whatsapp", "sms"]
    cause: Cause


_HEAR = """
with said as materialized (
    select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[])
               as u (org_id, customer_id, category, allowed, at, source, cause)
), lifted as (
    update consents c
       set allowed = true, at = s.at, source = s.source, cause = s.cause, lifts = null, published = false
      from said s
     where s.cause = 'keyword' and s.allowed and c.org_id = s.org_id and c.customer_id = s.customer_id and c.category = s.category
       and not c.allowed and c.source = s.source and c.cause = 'keyword' and c.lifts and c.at < s.at
)
insert into consents as c (org_id, customer_id, category, allowed, at, source, cause, published)
select org_id, customer_id, category, allowed, at, source, cause, false from said where not (cause = 'keyword' and allowed) order by 2, 3
on conflict (customer_id, category) do update
   set allowed = excluded.allowed, at = excluded.at, source = excluded.source, cause = excluded.cause, published = false,
       lifts = case when excluded.cause = 'keyword' then c.allowed or c.cause = 'keyword' and c.lifts end
 where c.org_id = excluded.org_id and (c.at < excluded.at or c.at = excluded.at and c.allowed and not excluded.allowed)
"""

_STANDING = """
select u.place
  from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[]) with ordinality
    as u (org_id, customer_id, category, allowed, at, source, cause, place)
  join consents c on c.org_id = u.org_id and c.customer_id = u.customer_id and c.category = u.category
 where c.allowed = u.allowed and c.at = u.at and c.source = u.source and c.cause = u.cause
"""


async def hear(db: "Db", words: Iterable[Word]) -> None:
    """Store what was said, with its trail. Idempotent; call inside the transaction that records where it was said."""
    for turn in _turns(words):
        columns = _columns(turn)
        await db.execute(_HEAR, *columns)
        standing = [turn[row[0] - 1] for row in await db.fetch(_STANDING, *columns)]
        await audit(db, [trail(word.org_id, word.customer_id, word._asdict()) for word in standing])


def _turns(words: Iterable[Word]) -> list[list[Word]]:
    """In the order of their times, "no" last, and in each turn every consent once."""
    turns: list[list[Word]] = []
    seen: dict[tuple[UUID, str], int] = {}
    for word in sorted(set(words), key=lambda w: (w.at, not w.allowed, w.org_id, w.customer_id, w.category)):
        turn = seen.get((word.customer_id, word.category), -1) + 1
        seen[word.customer_id, word.category] = turn
        if turn == len(turns):
            turns.append([])
        turns[turn].append(word)
    return turns


# A repeat of what stands keeps what it would give back, and whether it was told: our own changes come back on the topic.
_SET = """
insert into consents as c (org_id, customer_id, category, allowed, at, source, cause)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[]) order by 2, 3
on conflict (customer_id, category) do update
   set allowed = excluded.allowed, at = excluded.at, source = excluded.source, cause = excluded.cause, lifts = null, published = true,
       address = null
 where c.org_id = excluded.org_id and c.at <= excluded.at
   and (c.allowed, c.at, c.source, c.cause) is distinct from (excluded.allowed, excluded.at, excluded.source, excluded.cause)
"""


class Told(NamedTuple):
    """A consent as the directory tells it. ``source`` and ``cause`` are None where the platform says so by itself."""

    org_id: str
    customer_id: UUID
    category: ConsentCategory
    allowed: bool
    at: datetime
    source: str | None
    cause: str | None


async def set_consents(db: "Db", rows: Sequence[Told]) -> None:
    """Store consents of the directory, without a trail. Each (customer, category) is named once."""
    if rows:
        await db.execute(_SET, *_columns(rows))


Line = tuple[str, UUID, str, dict[str, Any], datetime, str]
"""Org, customer, action, detail, at, source key."""


def trail(org_id: str, customer_id: UUID, said: Mapping[str, Any]) -> Line:
    """The line of ``audit_log`` for a consent of ``customer_id``, who may have been told under an earlier id.

    Its key names what was said: a redelivery, or our own change coming back, adds no second line.
    """
    detail = {name: said[name] for name in ("category", "allowed")}
    detail |= {name: value for name in ("source", "cause") if (value := said.get(name)) is not None}
    at: datetime = said["at"]
    key = f"consent:{org_id}:{said['customer_id']}:{said['category']}:{at.isoformat()}:{said['allowed']}"
    return org_id, customer_id, "consent", detail, at, key


_AUDIT = """
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::text[])
on conflict (source_key) do nothing
"""


async def audit(db: "Db", lines: Sequence[Line]) -> None:
    """Add these lines, each once."""
    if lines:
        await db.execute(_AUDIT, *_columns(lines))


_UNTOLD = """
select org_id, customer_id, category, allowed, at, source, cause from consents where not published order by at limit $1
"""
_MARK_TOLD = """
update consents c
   set published = true
  from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[]) as u (org_id, customer_id, category, at)
 where c.org_id = u.org_id and c.customer_id = u.customer_id and c.category = u.category and c.at = u.at
"""


async def untold(db: "Db", limit: int) -> list[ConsentChanged]:
    """What customers said and nobody was told yet, the oldest first."""
    return [ConsentChanged(**row) for row in await db.fetch(_UNTOLD, limit)]


async def mark_told(db: "Db", changes: Sequence[ConsentChanged]) -> None:
    """These were told; what was said since then is not."""
    if changes:
        await db.execute(_MARK_TOLD, *_columns([(c.org_id, c.customer_id, c.category, c.at) for c in changes]))


class Stopped(NamedTuple):
    """The provider would not deliver marketing in this conversation, because the customer has stopped it there."""

    org_id: str
    conversation_id: UUID
    at: datetime


_CUSTOMERS_OF = """
select c.org_id, c.customer_id, max(u.at)
  from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as u (org_id, conversation_id, at)
  left join conversation_aliases a on a.org_id = u.org_id and a.alias = u.conversation_id
  join conversations c on c.org_id = u.org_id and c.conversation_id = coalesce(a.conversation_id, u.conversation_id)
 group by c.org_id, c.customer_id
"""


async def refused_marketing(db: "Db", refusals: Sequence[Stopped]) -> None:
    """Marketing is off for these customers, as of then. Idempotent."""
    if refusals:
        await stay(db, {(one.org_id, one.conversation_id) for one in refusals})
        found = await db.fetch(_CUSTOMERS_OF, *_columns(refusals))
        await hear(db, [Word(row[0], row[1], "marketing", False, row[2], "whatsapp", "refusal") for row in found])  # noqa: FBT003 -- a column


# Former holders too: what somebody said before they gave a number up was theirs to say.
_HOLDERS = """
select u.place, n.org_id,
       coalesce(
           (select i.customer_id from customer_identities i
             where i.org_id = n.org_id and i.kind = u.kind and i.value = any(string_to_array(u.names, ' ')) and i.since <= u.at limit 1),
           (select f.customer_id from former_identities f
             where f.org_id = n.org_id and f.kind = u.kind and f.value = any(string_to_array(u.names, ' '))
               and f.since <= u.at and u.at < f.until
             order by f.until limit 1)) as customer_id
  from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::int[]) as u (phone_number_id, kind, names, at, place)
  join whatsapp_numbers n on n.phone_number_id = u.phone_number_id and n.org_id is not null
"""


class Person(NamedTuple):
    """Somebody as Meta names them towards a business number, at that time."""

    phone_number_id: str
    wa_id: str | None
    bsuid: str | None
    at: datetime


async def holders(db: "Db", people: Sequence[Person]) -> list[tuple[str, UUID] | None]:
    """Org and customer of each, in order; None for whom nobody knows. A BSUID says more than a number."""
    rows: list[tuple[str, str, str, datetime, int]] = []
    for place, person in enumerate(people):
        lines = [] if person.wa_id is None else spellings(f"+{person.wa_id}")
        names = {
            "bsuid": [] if person.bsuid is None else [person.bsuid],
            "wa_id": [line[1:] for line in lines],
            "phone": list(lines),
        }
        rows += [
            (person.phone_number_id, kind, " ".join(told), person.at, place) for kind, told in names.items() if told
        ]
    if not rows:
        return [None] * len(people)
    columns = _columns([(*row[:4], n) for n, row in enumerate(rows)])
    found: dict[int, dict[str, tuple[str, UUID]]] = {}
    for n, org_id, customer_id in await db.fetch(_HOLDERS, *columns):
        if customer_id is not None:
            found.setdefault(rows[n][4], {})[rows[n][1]] = (org_id, customer_id)
    ranked = [found.get(place, {}) for place in range(len(people))]
    return [one.get("bsuid") or one.get("wa_id") or one.get("phone") for one in ranked]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
