"""What Meta says about templates, kept with our copy of them: by answers and statuses of sends, and by webhooks about the template itself.

Rule 1: only a template that is known here is told anything; what Meta says of others counts nowhere.
Rule 2: an older word never overwrites a newer one. Meta's times are whole seconds, so a word of the same second is as new.
Rule 3: a copy that does not suit Meta any more is ``stale``; it is sent on, and the next load makes it fresh.

This package is below ``libs.common.db`` and takes connections as they come.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncpg


class Used(NamedTuple):
    """A template as a send names it: ``account`` is the business number, whose WABA has the template."""

    org_id: str
    account: str
    name: str
    language: str


class Told(NamedTuple):
    """Meta's webhook about a template: ``word`` is its status or its category from ``at`` on."""

    waba_id: str
    name: str
    language: str
    word: str
    at: datetime


_GONE = """
update templates t
   set status = u.status, status_at = u.at, updated_at = greatest(t.updated_at, u.at)
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) as u (org_id, account, name, language, status, at)
  join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
 where t.org_id = u.org_id and t.waba_id = w.waba_id and t.name = u.name and t.language = u.language
   and t.status = 'APPROVED' and coalesce(date_trunc('second', t.status_at) <= u.at, true)
returning t.org_id, t.waba_id, t.name, t.language, t.status
"""

_STALE = """
update templates t
   set stale_since = u.at, stale_code = u.code
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) as u (org_id, account, name, language, code, at)
  join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
 where t.org_id = u.org_id and t.waba_id = w.waba_id and t.name = u.name and t.language = u.language and t.stale_since is null
returning t.org_id, t.waba_id, t.name, t.language, t.stale_code
"""

# Meta writes a language as en_GB; en-GB is forgiven.
_STATUS = """
update templates t
   set status = u.word, status_at = u.at, updated_at = greatest(t.updated_at, u.at)
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) as u (waba_id, name, language, word, at)
 where t.waba_id = u.waba_id and t.name = u.name and t.language = replace(u.language, '-', '_')
   and coalesce(date_trunc('second', t.status_at) <= u.at, true)
returning t.org_id, t.waba_id, t.name, t.language, t.status as word
"""

_CATEGORY = """
update templates t
   set category = u.word, category_at = u.at, updated_at = greatest(t.updated_at, u.at)
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) as u (waba_id, name, language, word, at)
 where t.waba_id = u.waba_id and t.name = u.name and t.language = replace(u.language, '-', '_')
   and coalesce(date_trunc('second', t.category_at) <= u.at, true)
returning t.org_id, t.waba_id, t.name, t.language, t.category as word
"""


class Changed(NamedTuple):
    """A template of which something new is recorded."""

    org_id: str
    waba_id: str
    name: str
    language: str
    word: str


async def gone(db: "asyncpg.Connection[asyncpg.Record]", told: Iterable[tuple[Used, str, datetime]]) -> list[Changed]:
    """Meta refused sends of these templates: they cannot be used and have this status as of then. Returns those that could be used before."""
    return await _tell(db, _GONE, told)


async def stale(db: "asyncpg.Connection[asyncpg.Record]", told: Iterable[tuple[Used, str, datetime]]) -> list[Changed]:
    """Meta refused sends of these templates with this code: our copies need a sync. Returns those that were fresh before."""
    return await _tell(db, _STALE, told)


async def tell_statuses(db: "asyncpg.Connection[asyncpg.Record]", told: Sequence[Told]) -> list[Changed]:
    """Meta's word on the statuses of templates. Returns those that are known here and had no newer word."""
    return await _word(db, _STATUS, told)


async def tell_categories(db: "asyncpg.Connection[asyncpg.Record]", told: Sequence[Told]) -> list[Changed]:
    """Meta's word on the categories of templates; as ``tell_statuses``."""
    return await _word(db, _CATEGORY, told)


async def _tell(
    db: "asyncpg.Connection[asyncpg.Record]", statement: str, told: Iterable[tuple[Used, str, datetime]]
) -> list[Changed]:
    """One row per template: of several words the last counts."""
    newest = {used: (word, at) for used, word, at in sorted(told, key=lambda one: one[2])}
    rows = [(*used, *newest[used]) for used in sorted(newest)]
    return [Changed(*row) for row in await db.fetch(statement, *_columns(rows))] if rows else []


async def _word(db: "asyncpg.Connection[asyncpg.Record]", statement: str, told: Sequence[Told]) -> list[Changed]:
    newest = {(one.waba_id, one.name, one.language): one for one in sorted(told, key=lambda one: one.at)}
    rows = [newest[key] for key in sorted(newest)]
    return [Changed(*row) for row in await db.fetch(statement, *_columns(rows))] if rows else []


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
