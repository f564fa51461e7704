"""Our copies of Meta's templates, as loads, failures of sends and Meta's webhooks about templates change them.

The inbox reads them from Meta (``services/inbox/template_sync.py``).

Rule 1: only templates that are stored here change; what Meta says of others has no effect. A draft, and what Meta lists
        no more, change by a sync alone: a webhook tells no text to go with its status.
Rule 2: an older word never overwrites a newer one. Meta's times are whole seconds, so a word of the same second is as
        new.
Rule 3: a copy that does not suit Meta any more is ``stale``; it is sent on, and the next load or sync makes it fresh.
Rule 4: each webhook and each failure marks its WABA for a sync: who tells one thing may have more to tell.
Rule 5: a status, a category, a quality and a text that change leave a line in ``template_history``.

Rows are locked in the order ``templates``, ``template_syncs``.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import orjson

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.reports import TemplateFailure, TemplateNews
from libs.common.directory.template_parts import components_of, parts_of
from libs.common.logging import get_logger

log = get_logger()

SYNC_GAP = timedelta(seconds=10)
"""The least time between two runs of one WABA that webhooks ask for."""


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
with stored as (
    insert into templates as t (org_id, waba_id, name, language, category, parameter_format, status, body, header,
                                buttons, updated_at, status_at, category_at, components, components_at)
    select u.org_id, u.waba_id, u.name, u.language, u.category, u.parameter_format, u.status, u.body, u.header,
           u.buttons::jsonb, u.now, u.now, u.now, u.components::jsonb, u.now
      from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                  $9::jsonb[], $10::text[], $11::timestamptz[], $12::text[])
        as u (org_id, waba_id, name, language, category, parameter_format, status, body, header, buttons, now,
              components)
    on conflict (org_id, waba_id, name, language) do update
       set category = excluded.category, parameter_format = excluded.parameter_format, status = excluded.status,
           body = excluded.body, header = excluded.header, buttons = excluded.buttons,
           updated_at = excluded.updated_at, status_at = excluded.status_at, category_at = excluded.category_at,
           components = excluded.components, components_at = excluded.components_at, rejected_reason = null,
           stale_since = null, stale_code = null, asked_at = null, refusal = null
    returning new.org_id, new.template_id, new.status, old.status as before, new.status_at as at
)
insert into template_history (org_id, template_id, event, word, source, at)
select org_id, template_id, 'status', status, 'load', at from stored where before is distinct from status
"""

_GONE = """
with gone as (
    update templates t
       set status = u.status, status_at = u.at, stale_since = u.at, rejected_reason = null,
           updated_at = greatest(t.updated_at, u.at)
      from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        as u (org_id, account, name, language, status, at)
      join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
     where t.org_id = u.org_id and t.waba_id = w.waba_id and t.name = u.name and t.language = u.language
       and t.status = 'APPROVED' and coalesce(date_trunc('second', t.status_at) <= u.at, true)
    returning t.org_id, t.waba_id, t.template_id, t.name, t.language, u.status, u.at
), noted as (
    insert into template_history (org_id, template_id, event, word, source, at)
    select org_id, template_id, 'status', status, 'send', at from gone
)
select org_id, waba_id, name, language from gone
"""

_STALE = """
update templates t
   set stale_since = u.at, stale_code = u.code
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as u (org_id, account, name, language, code, at)
  join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
 where t.org_id = u.org_id and t.waba_id = w.waba_id and t.name = u.name and t.language = u.language
   and t.stale_since is null
returning t.org_id, t.waba_id, t.name, t.language
"""

# Meta writes a language as en_GB; en-GB is forgiven.
# A template that a refused send said to be gone is there again once Meta approves it later.
_NEWS = """
with told as (
    update templates t
       set {assignment}, {column}_at = u.at, updated_at = greatest(t.updated_at, u.at)
      from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        as u (waba_id, name, language, word, reason, at)
     where t.waba_id = u.waba_id and t.name = u.name and t.language = replace(u.language, '-', '_')
       and t.status <> 'DRAFT' and (t.status <> 'DELETED' or (u.word = 'APPROVED' and t.stale_since is not null))
       and coalesce(date_trunc('second', t.{column}_at) <= u.at, true)
    returning new.org_id, new.template_id, new.name, new.language, u.word, u.reason, u.at, old.{column} as before
), noted as (
    insert into template_history (org_id, template_id, event, word, reason, source, at)
    select org_id, template_id, '{column}', word, reason, 'webhook', at from told where before is distinct from word
)
select org_id, name, language, word from told
"""
_NEWS_OF = {
    "status": _NEWS.format(column="status", assignment="status = u.word, rejected_reason = u.reason"),
    "category": _NEWS.format(column="category", assignment="category = u.word"),
    "quality": _NEWS.format(column="quality", assignment="quality = u.word"),
}

# A webhook tells no examples, and not every button. Those that the copy has stay until the sync.
_NEW_COMPONENTS = """
with told as (
    update templates t
       set components = u.components::jsonb || coalesce((select jsonb_agg(c) from jsonb_array_elements(t.components) c
                                                   where c ->> 'type' not in ('HEADER', 'BODY', 'FOOTER')
                                                      or c ->> 'type' = 'HEADER' and u.header is null
                                                         and c ->> 'format' <> 'TEXT'), '[]'),
           body = u.body, components_at = u.at, updated_at = greatest(t.updated_at, u.at),
           header = case when u.header is not null then u.header
                         when t.header ->> 'format' <> 'TEXT' then t.header end
      from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::timestamptz[])
        as u (waba_id, name, language, components, body, header, at)
     where t.waba_id = u.waba_id and t.name = u.name and t.language = replace(u.language, '-', '_')
       and t.status not in ('DRAFT', 'DELETED') and coalesce(date_trunc('second', t.components_at) <= u.at, true)
       and (t.body <> u.body or (u.header is not null and t.header ->> 'text' is distinct from u.header ->> 'text'))
    returning t.org_id, t.template_id, t.name, t.language, u.at
), noted as (
    insert into template_history (org_id, template_id, event, source, at)
    select org_id, template_id, 'components', 'webhook', at from told
)
select org_id, name, language from told
"""

# A run that has begun may have read its page before: another one follows it, SYNC_GAP later.
_MARK = """
insert into template_syncs as s (org_id, waba_id, due_at, marked_at)
select distinct w.org_id, w.waba_id, now(), now()
  from whatsapp_numbers w
 where w.waba_id = any($1::text[]) and w.org_id is not null and ($2::text is null or w.org_id = $2)
 order by 1, 2
on conflict (org_id, waba_id) do update
   set marked_at = now(), due_at = least(s.due_at, greatest(now(), s.started_at + $3::interval))
"""


async def upsert(db: Connection, templates: Sequence[Template]) -> None:
    """Store these templates. Each (organisation, WABA, name, language) is named once."""
    if templates:
        rows = [
            (*one._replace(buttons=as_json(one.buttons)), as_json(components_of(one.body, one.header, one.buttons)))
            for one in templates
        ]
        await db.execute(_UPSERT, *as_columns(rows))


async def record_failures(db: Connection, gone: Iterable[TemplateFailure], stale: Iterable[TemplateFailure]) -> None:
    """Meta refused sends.

    ``gone`` cannot be used any more, ``stale`` need a sync. Logs each that was in order before.
    """
    found = {"template.gone": await _record(db, _GONE, gone), "template.stale": await _record(db, _STALE, stale)}
    for event, rows in found.items():
        for row in rows:
            log.warning(event, org_id=row["org_id"], template=row["name"], language=row["language"])
    for org_id, waba_id in sorted({(row["org_id"], row["waba_id"]) for rows in found.values() for row in rows}):
        await mark_for_sync(db, [waba_id], org_id=org_id)


async def record_news(db: Connection, news: Sequence[TemplateNews]) -> None:
    """Store Meta's webhooks about templates. A repeat changes nothing, nor does an older word than the stored one."""
    for kind, statement in _NEWS_OF.items():
        newest = _newest(one for one in news if one.kind == kind and one.word is not None)
        rows = [(one.waba_id, one.name, one.language, one.word, one.reason, one.at) for one in newest]
        for row in await db.fetch(statement, *as_columns(rows)) if rows else []:
            _log_told(row, kind, row["word"])
    parts = [(one, parts_of(one.components)) for one in _newest(one for one in news if one.components is not None)]
    changed = [
        (one.waba_id, one.name, one.language, as_json(one.components), said.body, said.header, one.at)
        for one, said in parts
    ]
    for row in await db.fetch(_NEW_COMPONENTS, *as_columns(changed)) if changed else []:
        _log_told(row, "components", None)
    await mark_for_sync(db, sorted({one.waba_id for one in news}))


async def mark_for_sync(db: Connection, waba_ids: Collection[str], *, org_id: str | None = None) -> None:
    """Let these WABAs be read from Meta soon, for every organisation that has numbers there or for one."""
    if waba_ids:
        await db.execute(_MARK, list(waba_ids), org_id, SYNC_GAP)


def as_json(value: Any) -> str | None:
    """JSON as text. In an array of jsonb a list would be taken for a dimension of the array."""
    return None if value is None else orjson.dumps(value).decode()


def _newest(news: Iterable[TemplateNews]) -> list[TemplateNews]:
    """Of several words about one template the last, in the order in which rows are locked."""
    found = {(one.waba_id, one.name, one.language): one for one in sorted(news, key=lambda one: one.at)}
    return [found[key] for key in sorted(found)]


def _log_told(row: Any, kind: str, word: str | None) -> None:
    log.info(
        "template.told",
        org_id=row["org_id"],
        template=row["name"],
        language=row["language"],
        kind=kind,
        **({} if word is None else {"outcome": word}),
    )


async def _record(db: Connection, statement: str, failures: Iterable[TemplateFailure]) -> Sequence[Any]:
    """One row per template: of several words the last counts."""
    newest = {template: (word, at) for template, word, at in sorted(failures, key=lambda one: one[2])}
    rows = [(*template, *newest[template]) for template in sorted(newest)]
    return await db.fetch(statement, *as_columns(rows)) if rows else []
