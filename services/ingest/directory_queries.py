"""The directory's statements. Each takes a whole batch; each leaves what is newer untouched."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection

Row = tuple[Any, ...]

_UPSERT_ORGS = """
insert into orgs as o (org_id, name, sms_number, sms_active, portal_host, policy, upserted_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::text[], $6::jsonb[], $7::timestamptz[]) order by 1
on conflict (org_id) do update
   set name = excluded.name, sms_number = excluded.sms_number, sms_active = excluded.sms_active, portal_host = excluded.portal_host,
       policy = excluded.policy, upserted_at = excluded.upserted_at
 where o.upserted_at <= excluded.upserted_at
"""


async def upsert_orgs(db: Connection, rows: Sequence[Row]) -> None:
    """Org, name, SMS number, active, portal host, policy, at. Each organisation is named once."""
    if rows:
        await db.execute(_UPSERT_ORGS, *_columns(rows))


class SmsNumber(NamedTuple):
    """An organisation's SMS number, as of the newest change that was applied."""

    org_id: str
    number: str | None
    at: datetime


# Both the organisations that are told about and those that have a number that is claimed.
_SMS_NUMBERS = """
select org_id, sms_number, upserted_at from orgs where org_id = any($1::text[])
union
select org_id, sms_number, upserted_at from orgs where sms_number = any($2::text[])
"""
_LEAVE_SMS_NUMBERS = "update orgs set sms_number = null where org_id = any($1::text[])"


async def sms_numbers(db: Connection, org_ids: Sequence[str], numbers: Sequence[str]) -> list[SmsNumber]:
    """Those of these organisations, and of whoever has these numbers."""
    return [SmsNumber(*row) for row in await db.fetch(_SMS_NUMBERS, org_ids, numbers)]


async def leave_sms_numbers(db: Connection, org_ids: Sequence[str]) -> None:
    """Let go of the numbers of these organisations, which are told again in the same transaction: two may exchange theirs."""
    if org_ids:
        await db.execute(_LEAVE_SMS_NUMBERS, org_ids)


_KNOWN_ORGS = "select org_id from orgs where org_id = any($1::text[])"


async def known_orgs(db: Connection, org_ids: Sequence[str]) -> set[str]:
    """Which of these organisations there are."""
    return {row[0] for row in await db.fetch(_KNOWN_ORGS, org_ids)}


# A token belongs to the organisation that had it set.
_UPSERT_NUMBERS = """
insert into whatsapp_numbers as n (org_id, phone_number_id, waba_id, display_number, upserted_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) order by 2
on conflict (phone_number_id) do update
   set org_id = excluded.org_id, waba_id = excluded.waba_id, display_number = excluded.display_number, upserted_at = excluded.upserted_at,
       token = case when n.org_id = excluded.org_id then n.token end
"""
_NUMBERS = """
select phone_number_id, org_id, waba_id, display_number, upserted_at from whatsapp_numbers where phone_number_id = any($1::text[])
"""


class NumberRow(NamedTuple):
    """A business number as told; ``org_id`` None: it was removed."""

    org_id: str | None
    phone_number_id: str
    waba_id: str
    display_number: str
    at: datetime


async def numbers(db: Connection, phone_number_ids: Sequence[str]) -> dict[str, NumberRow]:
    """These numbers as they stand."""
    found = await db.fetch(_NUMBERS, phone_number_ids)
    return {row[0]: NumberRow(row[1], row[0], row[2], row[3], row[4]) for row in found}


async def upsert_numbers(db: Connection, rows: Sequence[NumberRow]) -> None:
    """Store them as they are now. Each is named once, and the caller is alone with it."""
    if rows:
        await db.execute(_UPSERT_NUMBERS, *_columns(rows))


_SET_CREDIT = """
update orgs o
   set credit_exhausted = u.exhausted, credit_at = u.at
  from unnest($1::text[], $2::bool[], $3::timestamptz[]) as u (org_id, exhausted, at)
 where o.org_id = u.org_id and (o.credit_at is null or o.credit_at <= u.at)
"""


async def set_credit(db: Connection, rows: Sequence[Row]) -> None:
    """Org, exhausted, at. Each organisation is named once."""
    if rows:
        await db.execute(_SET_CREDIT, *_columns(rows))


class Known(NamedTuple):
    """A customer under an id that may be an alias."""

    org_id: str
    customer_id: UUID


_FIND_CUSTOMERS = """
select u.asked, c.org_id, c.customer_id
  from unnest($1::uuid[]) as u (asked)
  left join customer_aliases a on a.alias = u.asked
  join customers c on c.customer_id = coalesce(a.customer_id, u.asked)
"""


async def find_customers(db: Connection, customer_ids: Sequence[UUID]) -> Mapping[UUID, Known]:
    """Who these ids are, and whose: the one question that is asked across tenants, so that another's customer can be refused."""
    return {row[0]: Known(row[1], row[2]) for row in await db.fetch(_FIND_CUSTOMERS, customer_ids)}


_AUDIT = """
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::text[])
on conflict (source_key) do nothing
"""


async def audit(db: Connection, rows: Sequence[Row]) -> None:
    """Org, customer, action, detail, at, source key; a redelivery adds no second line."""
    if rows:
        await db.execute(_AUDIT, *_columns(rows))


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
