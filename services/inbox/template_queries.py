"""SQL of the inbox's templates: copies, drafts, submissions, history and audit lines."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.template_parts import parts_of
from services.inbox.template_answers import Made


class TemplateRow(NamedTuple):
    """A template of an organisation. ``components`` are Meta's, or of a draft our own.

    ``draft``: category and components that Meta does not have yet. ``asked_at``: since when a submission has no known
    outcome. ``refusal``: ``{code, sentence}`` of the last submission, where it was one.
    """

    template_id: UUID
    waba_id: str
    name: str
    language: str
    category: str
    parameter_format: str
    status: str
    status_at: datetime | None
    rejected_reason: str | None
    quality: str | None
    meta_id: str | None
    components: list[dict[str, Any]]
    draft: dict[str, Any] | None
    asked_at: datetime | None
    refusal: dict[str, Any] | None
    stale_since: datetime | None
    synced_at: datetime | None
    updated_at: datetime


class Event(NamedTuple):
    """A line of a template's history."""

    event: str
    word: str | None
    reason: str | None
    source: str
    user_id: str | None
    user_name: str | None
    at: datetime


_COLUMNS = ", ".join(f"t.{name}" for name in TemplateRow._fields)

_LIST = f"""
select {_COLUMNS}
  from templates t
 where t.org_id = $1 and ($2::text is null or t.status = $2) and ($3::text is null or t.waba_id = $3)
   and ($4::text is null or t.language = $4)
   and ($5::text[] is null or (t.name, t.language, t.waba_id) > ($5[1], $5[2], $5[3]))
 order by t.name, t.language, t.waba_id
 limit $6
"""  # noqa: S608 -- constants

_ONE = f"select {_COLUMNS} from templates t where t.org_id = $1 and t.template_id = $2"  # noqa: S608 -- constants

_HISTORY = """
select h.event, h.word, h.reason, h.source, h.user_id, m.name as user_name, h.at
  from template_history h
  left join members m on m.org_id = h.org_id and m.user_id = h.user_id
 where h.org_id = $1 and h.template_id = $2
 order by h.history_id desc
 limit 100
"""

# A row that Meta lists no more begins anew, under the same id.
_DRAFT = f"""
insert into templates as t (org_id, waba_id, name, language, category, parameter_format, status, body, header, buttons,
                            components, draft, updated_at)
values ($1, $2, $3, $4, $5, $6, 'DRAFT', $7, $8, $9::jsonb, $10::jsonb, $11, $12)
on conflict (org_id, waba_id, name, language) do update
   set category = excluded.category, parameter_format = excluded.parameter_format, status = 'DRAFT', status_at = null,
       rejected_reason = null, quality = null, meta_id = null, body = excluded.body, header = excluded.header,
       buttons = excluded.buttons, components = excluded.components, components_at = null, category_at = null,
       synced_at = null, draft = excluded.draft, refusal = null, asked_at = null, updated_at = excluded.updated_at
 where t.status = 'DELETED'
returning {_COLUMNS}
"""  # noqa: S608 -- constants

# Meta keeps the name of a template that was approved for 30 days after its deletion. One without Meta's id was never
# Meta's: a load file alone named it.
_RESERVED = """
select max(t.status_at) from templates t
 where t.org_id = $1 and t.waba_id = $2 and t.name = $3 and t.language = $4 and t.status = 'DELETED'
   and t.meta_id is not null and t.status_at > $5
   and exists (select from template_history h where h.org_id = t.org_id and h.template_id = t.template_id
                  and h.event = 'status' and h.word in ('APPROVED', 'PAUSED', 'DISABLED'))
"""

_REDRAFT = f"""
update templates t
   set draft = $3, category = case when t.status = 'DRAFT' then $4 else t.category end,
       components = case when t.status = 'DRAFT' then $5::jsonb else t.components end,
       body = case when t.status = 'DRAFT' then $6 else t.body end,
       header = case when t.status = 'DRAFT' then $7::jsonb else t.header end,
       buttons = case when t.status = 'DRAFT' then $8::jsonb else t.buttons end,
       refusal = null, updated_at = $9
 where t.org_id = $1 and t.template_id = $2 and t.asked_at is null
returning {_COLUMNS}
"""  # noqa: S608 -- constants

_ASK = f"""
update templates t
   set asked_at = $3
 where t.org_id = $1 and t.template_id = $2 and t.draft = coalesce($5, t.draft)
   and (t.asked_at is null or t.asked_at < $4)
returning {_COLUMNS}, old.asked_at as asked_before
"""  # noqa: S608 -- constants

_MADE = """
update templates t
   set status = $4, status_at = t.asked_at, category = coalesce($5, t.category), category_at = t.asked_at, meta_id = $6,
       components_at = t.asked_at, draft = null, asked_at = null, refusal = null, rejected_reason = null,
       updated_at = t.asked_at
 where t.org_id = $1 and t.template_id = $2 and t.asked_at = $3 and t.status = 'DRAFT'
returning t.template_id
"""

_EDITED = """
update templates t
   set status = case when t.status_at > t.asked_at then t.status else $4 end,
       status_at = greatest(t.status_at, t.asked_at), category = $5, category_at = t.asked_at,
       components = $6::jsonb, body = $7, header = $8, buttons = $9::jsonb, components_at = t.asked_at,
       draft = null, asked_at = null, refusal = null,
       rejected_reason = case when t.status_at > t.asked_at then t.rejected_reason end,
       stale_since = null, stale_code = null, updated_at = greatest(t.updated_at, t.asked_at)
 where t.org_id = $1 and t.template_id = $2 and t.asked_at = $3
returning new.status_at = old.asked_at as is_newest
"""

_REFUSED = """
update templates t set asked_at = null, refusal = coalesce($4, t.refusal)
 where t.org_id = $1 and t.template_id = $2 and t.asked_at = $3
"""

_FORGET_DRAFT = """
delete from templates t
 where t.org_id = $1 and t.template_id = $2 and t.status = 'DRAFT' and t.asked_at is null
   and not exists (select from template_history h where h.org_id = t.org_id and h.template_id = t.template_id
                      and h.event = 'deleted')
returning t.template_id
"""

_DELETED = """
update templates t
   set status = 'DELETED', status_at = $3, draft = null, asked_at = null, refusal = null, updated_at = $3
 where t.org_id = $1 and t.template_id = $2 and t.status <> 'DELETED'
returning t.template_id
"""

_NOTE = """
insert into template_history (org_id, template_id, event, word, reason, source, user_id, at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""

_EDITS = """
select count(*) filter (where h.at > $3) as lately, count(*) filter (where h.at > $4) as this_month
  from template_history h
 where h.org_id = $1 and h.template_id = $2 and h.event = 'edited' and h.word = 'APPROVED'
"""

_AUDIT = """
insert into audit_log (org_id, action, detail, at) values ($1, $2, $3, $4)
"""


async def listed(
    db: Connection,
    org_id: str,
    *,
    status: str | None,
    waba_id: str | None,
    language: str | None,
    after: Sequence[str] | None,
    limit: int,
) -> list[TemplateRow]:
    """Templates by name, language and WABA, behind ``after`` (those three)."""
    rows = await db.fetch(_LIST, org_id, status, waba_id, language, after, limit)
    return [TemplateRow(**row) for row in rows]


async def one(db: Connection, org_id: str, template_id: UUID) -> TemplateRow | None:
    row = await db.fetchrow(_ONE, org_id, template_id)
    return None if row is None else TemplateRow(**row)


async def history(db: Connection, org_id: str, template_id: UUID) -> list[Event]:
    """The newest hundred lines, the newest first."""
    return [Event(**row) for row in await db.fetch(_HISTORY, org_id, template_id)]


class NewDraft(NamedTuple):
    """What a draft is made of."""

    waba_id: str
    name: str
    language: str
    category: str
    parameter_format: str
    components: list[dict[str, Any]]


async def reserved_since(db: Connection, org_id: str, new: NewDraft, since: datetime) -> datetime | None:
    """When a template of this name was deleted that had been approved, after ``since``; else None."""
    found: datetime | None = await db.fetchval(_RESERVED, org_id, new.waba_id, new.name, new.language, since)
    return found


async def draft(db: Connection, org_id: str, new: NewDraft, now: datetime) -> TemplateRow | None:
    """Store a draft. None where the organisation has a template of this name there already."""
    said = parts_of(new.components)
    row = await db.fetchrow(
        _DRAFT,
        *(org_id, new.waba_id, new.name, new.language, new.category, new.parameter_format),
        *(said.body, said.header, said.buttons, new.components),
        {"category": new.category, "components": new.components},
        now,
    )
    return None if row is None else TemplateRow(**row)


async def redraft(
    db: Connection, org_id: str, template_id: UUID, wanted: dict[str, Any], now: datetime
) -> TemplateRow | None:
    """Store category and components that were written anew. None while a submission has no known outcome."""
    said = parts_of(wanted["components"])
    row = await db.fetchrow(
        _REDRAFT,
        *(org_id, template_id, wanted, wanted["category"], wanted["components"]),
        *(said.body, said.header, said.buttons, now),
    )
    return None if row is None else TemplateRow(**row)


class Asked(NamedTuple):
    """A draft whose submission has begun. ``before``: since when an earlier one has no known outcome."""

    template: TemplateRow
    before: datetime | None


async def ask(
    db: Connection,
    org_id: str,
    template_id: UUID,
    now: datetime,
    lost_before: datetime,
    *,
    wanted: dict[str, Any] | None = None,
) -> Asked | None:
    """Begin a submission. None where there is nothing to submit, or one began after ``lost_before``.

    Nor is the draft submitted where it is not ``wanted`` any more: another person has written it anew.
    """
    row = await db.fetchrow(_ASK, org_id, template_id, now, lost_before, wanted)
    if row is None:
        return None
    fields = dict(row)
    before = fields.pop("asked_before")
    return Asked(TemplateRow(**fields), before)


async def made(db: Connection, org_id: str, asked: TemplateRow, answer: Made) -> bool:
    """Meta took the draft. False where a sync has seen it first."""
    row = await db.fetchval(
        _MADE, org_id, asked.template_id, asked.asked_at, answer.status, answer.category, answer.meta_id
    )
    return row is not None


async def edited(db: Connection, org_id: str, asked: TemplateRow, status: str) -> bool:
    """Meta took the changes. False where a sync has seen them first, or a webhook has told a later status."""
    wanted = asked.draft or {}
    said = parts_of(wanted["components"])
    row = await db.fetchval(
        _EDITED,
        *(org_id, asked.template_id, asked.asked_at, status, wanted["category"], wanted["components"]),
        *(said.body, said.header, said.buttons),
    )
    return row is True


async def not_taken(db: Connection, org_id: str, asked: TemplateRow, refusal: dict[str, Any] | None) -> None:
    """The submission is over. ``refusal``: what Meta said, where it is final."""
    await db.execute(_REFUSED, org_id, asked.template_id, asked.asked_at, refusal)


async def forget_draft(db: Connection, org_id: str, template_id: UUID) -> bool:
    """Delete a draft that Meta never had."""
    return await db.fetchval(_FORGET_DRAFT, org_id, template_id) is not None


async def deleted(db: Connection, org_id: str, template_id: UUID, now: datetime) -> bool:
    """The template is gone at Meta. False where that was known."""
    return await db.fetchval(_DELETED, org_id, template_id, now) is not None


async def note(
    db: Connection,
    org_id: str,
    template_id: UUID,
    event: str,
    *,
    word: str | None = None,
    reason: str | None = None,
    source: str = "person",
    user_id: str | None = None,
    at: datetime,
) -> None:
    """Add a line to the template's history."""
    await db.execute(_NOTE, org_id, template_id, event, word, reason, source, user_id, at)


async def audit(db: Connection, org_id: str, action: str, detail: dict[str, Any], at: datetime) -> None:
    """Say for good who changed a template."""
    await db.execute(_AUDIT, org_id, action, detail, at)


async def edits(db: Connection, org_id: str, template_id: UUID, day: datetime, month: datetime) -> tuple[int, int]:
    """How often it was edited while it was approved, since ``day`` and since ``month``."""
    [row] = await db.fetch(_EDITS, org_id, template_id, day, month)
    return row["lately"], row["this_month"]
