"""Our copies of Meta's templates, kept up to date by loads, failures of sends, and Meta's webhooks about templates.

Rule 1: only templates that are stored here change; what Meta says of others has no effect.
Rule 2: an older word never overwrites a newer one. Meta's times are whole seconds, so a word of the same second is as
        new.
Rule 3: a copy that does not suit Meta any more is ``stale``; it is sent on, and the next load makes it fresh.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.reports import TemplateFailure, TemplateNews
from libs.common.logging import get_logger

log = get_logger()


class Template(NamedTuple):
    """A template of an organisation in one of its WABAs, as of ``now``. ``header`` and ``buttons`` are JSON."""

    org_id: str
    waba_id: str
    name: str
    language: str
    category: str
    parameter_format: str
    status: str
    body: str
    header: Any
    buttons: Any
    now: datetime


_UPSERT = """
insert into templates (org_id, waba_id, name, language, category, parameter_format, status, body, header, buttons,
                       updated_at, status_at, category_at)
select u.*, u.now, u.now
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::jsonb[], $10::jsonb[], $11::timestamptz[])
    as u (org_id, waba_id, name, language, category, parameter_format, status, body, header, buttons, now)
on conflict (org_id, waba_id, name, language) do update
   set category = excluded.category, parameter_format = excluded.parameter_format, status = excluded.status,
       body = excluded.body, header = excluded.header, buttons = excluded.buttons, updated_at = excluded.updated_at,
       status_at = excluded.status_at, category_at = excluded.category_at, stale_since = null, stale_code = null
"""

_GONE = """
update templates t
   set status = u.status, status_at = u.at, updated_at = greatest(t.updated_at, u.at)
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as u (org_id, account, name, language, status, at)
  join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
 where t.org_id = u.org_id and t.waba_id = w.waba_id and t.name = u.name and t.language = u.language
   and t.status = 'APPROVED' and coalesce(date_trunc('second', t.status_at) <= u.at, true)
returning t.org_id, t.name, t.language
"""

_STALE = """
update templates t
   set stale_since = u.at, stale_code = u.code
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as u (org_id, account, name, language, code, at)
  join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
 where t.org_id = u.org_id and t.waba_id = w.waba_id and t.name = u.name and t.language = u.language
   and t.stale_since is null
returning t.org_id, t.name, t.language
"""

# Meta writes a language as en_GB; en-GB is forgiven.
_NEWS = """
update templates t
   set {column} = u.word, {column}_at = u.at, updated_at = greatest(t.updated_at, u.at)
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    as u (waba_id, name, language, word, at)
 where t.waba_id = u.waba_id and t.name = u.name and t.language = replace(u.language, '-', '_')
   and coalesce(date_trunc('second', t.{column}_at) <= u.at, true)
returning t.org_id, t.name, t.language, t.{column} as word
"""
_NEWS_OF = {"status": _NEWS.format(column="status"), "category": _NEWS.format(column="category")}


async def upsert(db: Connection, templates: Sequence[Template]) -> None:
    """Store these templates. Each (organisation, WABA, name, language) is named once."""
    if templates:
        await db.execute(_UPSERT, *as_columns(templates))


async def record_failures(db: Connection, gone: Iterable[TemplateFailure], stale: Iterable[TemplateFailure]) -> None:
    """Meta refused sends.

    ``gone`` cannot be used any more, ``stale`` need a sync. Logs each that was in order before.
    """
    for row in await _record(db, _GONE, gone):
        log.warning("template.gone", org_id=row["org_id"], template=row["name"], language=row["language"])
    for row in await _record(db, _STALE, stale):
        log.warning("template.stale", org_id=row["org_id"], template=row["name"], language=row["language"])


async def record_news(db: Connection, news: Sequence[TemplateNews]) -> None:
    """Store Meta's webhooks about templates. A repeat changes nothing, nor does an older word than the stored one."""
    for kind, statement in _NEWS_OF.items():
        of_kind = [one for one in news if one.kind == kind]
        newest = {(one.waba_id, one.name, one.language): one for one in sorted(of_kind, key=lambda one: one.at)}
        rows = [(*key, newest[key].word, newest[key].at) for key in sorted(newest)]
        for row in await db.fetch(statement, *as_columns(rows)) if rows else []:
            log.info(
                "template.told",
                org_id=row["org_id"],
                template=row["name"],
                language=row["language"],
                kind=kind,
                outcome=row["word"],
            )


async def _record(db: Connection, statement: str, failures: Iterable[TemplateFailure]) -> Sequence[Any]:
    """One row per template: of several words the last counts."""
    newest = {template: (word, at) for template, word, at in sorted(failures, key=lambda one: one[2])}
    rows = [(*template, *newest[template]) for template in sorted(newest)]
    return await db.fetch(statement, *as_columns(rows)) if rows else []
