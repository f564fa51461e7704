"""SQL of reading templates from Meta: accounts, runs, and what the list says.

Rows are locked in the order ``templates``, ``template_syncs``. Statements that take many rows take them by key.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.template_parts import parts_of
from libs.common.directory.templates import as_json
from services.inbox.template_answers import Listed, Unread


class Place(NamedTuple):
    """One of the WABAs in which an organisation has numbers."""

    org_id: str
    waba_id: str


class Account(NamedTuple):
    """A WABA of the organisation, one of its numbers, and how its reading stands.

    Times and ``error`` are None before the first run.
    """

    waba_id: str
    display_number: str
    due_at: datetime | None
    synced_at: datetime | None
    error: str | None
    rests_until: datetime | None


_ACCOUNTS = """
select w.waba_id, w.display_number, s.due_at, s.synced_at, s.error, s.rests_until
  from (select waba_id, min(display_number) as display_number from whatsapp_numbers
         where org_id = $1 and replaced_by is null group by waba_id) w
  left join template_syncs s on s.org_id = $1 and s.waba_id = w.waba_id
 order by w.waba_id
"""

_OWN = """
select token from whatsapp_numbers
 where org_id = $1 and waba_id = $2 and replaced_by is null
 order by token is null, created_at, phone_number_id
 limit 1
"""

# What Meta lists, said at $3. Meta's own times are whole seconds, so a word of the same second may be younger than the
# list: it stays, and the run that it has marked comes. A draft takes over everything, and keeps what was written where
# it was never submitted. What was deleted comes back with the text that it has now.
_NEWER = """coalesce(t.{column} + case when t.{column} = date_trunc('second', t.{column}) then interval '1 second'
                                 else interval '0' end <= excluded.updated_at, true)"""
# Meta's list may show for a while what was deleted just now: the deletion stands until $16.
_NEWER_STATUS = f"({_NEWER.format(column='status_at')} and not (t.status = 'DELETED' and t.status_at > $16))"
_NEWER_TEXT = f"({_NEWER.format(column='components_at')} or t.status = 'DELETED')"
_STORE = f"""
with stored as (
    insert into templates as t (org_id, waba_id, name, language, category, status, parameter_format, quality,
                                rejected_reason, meta_id, components, body, header, buttons, status_at, category_at,
                                quality_at, components_at, synced_at, updated_at)
    select $1, $2, u.name, u.language, u.category, u.status, u.parameter_format, u.quality, u.rejected_reason,
           u.meta_id, u.components::jsonb, u.body, u.header, u.buttons::jsonb, $3, $3, $3, $3, $3, $3
      from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[],
                  $12::text[], $13::text[], $14::jsonb[], $15::text[])
        as u (name, language, category, status, parameter_format, quality, rejected_reason, meta_id, components, body,
              header, buttons)
     order by 3, 4
    on conflict (org_id, waba_id, name, language) do update
       set status = case when {_NEWER_STATUS} then excluded.status else t.status end,
           rejected_reason = case when {_NEWER_STATUS}
                                  then case when excluded.rejected_reason is null and t.status = excluded.status
                                            then t.rejected_reason else excluded.rejected_reason end
                                  else t.rejected_reason end,
           status_at = case when t.status = excluded.status or not {_NEWER_STATUS}
                            then coalesce(t.status_at, excluded.status_at) else excluded.status_at end,
           category = case when {_NEWER.format(column="category_at")} then excluded.category else t.category end,
           category_at = greatest(t.category_at, case when {_NEWER.format(column="category_at")}
                                                      then excluded.category_at end),
           quality = case when {_NEWER.format(column="quality_at")} then excluded.quality else t.quality end,
           quality_at = greatest(t.quality_at, case when {_NEWER.format(column="quality_at")}
                                                    then excluded.quality_at end),
           parameter_format = case when {_NEWER_TEXT} then excluded.parameter_format
                                   else t.parameter_format end,
           components = case when {_NEWER_TEXT} then excluded.components
                             else t.components end,
           body = case when {_NEWER_TEXT} then excluded.body else t.body end,
           header = case when {_NEWER_TEXT} then excluded.header else t.header end,
           buttons = case when {_NEWER_TEXT} then excluded.buttons else t.buttons end,
           components_at = greatest(t.components_at, case when {_NEWER_TEXT}
                                                          then excluded.components_at end),
           stale_since = case when coalesce(t.stale_since < excluded.updated_at, true) then null
                              else t.stale_since end,
           stale_code = case when coalesce(t.stale_since < excluded.updated_at, true) then null else t.stale_code end,
           draft = case when t.draft -> 'components' = excluded.components
                          or (t.status = 'DRAFT' and t.asked_at is not null) then null else t.draft end,
           asked_at = case when t.status = 'DRAFT' or t.draft -> 'components' = excluded.components
                             or t.asked_at < $16 then null else t.asked_at end,
           meta_id = excluded.meta_id, synced_at = excluded.synced_at,
           updated_at = case when t.status is distinct from excluded.status
                               or t.components is distinct from excluded.components
                             then greatest(t.updated_at, excluded.updated_at) else t.updated_at end
    returning new.template_id, new.status, new.category, new.quality, new.rejected_reason, new.components,
              old.status as status_before, old.category as category_before, old.quality as quality_before,
              old.components as components_before
)
insert into template_history (org_id, template_id, event, word, reason, source, at)
select $1, s.template_id, e.event, e.word, e.reason, 'sync', $3
  from stored s
  cross join lateral (values
      ('status', s.status, s.rejected_reason, s.status_before is distinct from s.status),
      ('category', s.category, null, s.category_before <> s.category),
      ('quality', s.quality, null, s.quality_before <> s.quality),
      ('components', null, null, s.components_before <> s.components and s.status_before not in ('DRAFT', 'DELETED'))
  ) as e (event, word, reason, changed)
 where e.changed
"""  # noqa: S608 -- constants

# What no list has shown yet may be too new for it.
_UNLISTED = """coalesce(t.status_at, t.created_at) < case when t.synced_at is null then {lost_before} else $3 end
           and t.created_at < $3"""

_MISSING = f"""
select distinct t.name
  from templates t
 where t.org_id = $1 and t.waba_id = $2 and t.status not in ('DRAFT', 'DELETED')
   and coalesce(t.synced_at < $3, true) and {_UNLISTED.format(lost_before="$4")}
 order by 1
 limit $5
"""  # noqa: S608 -- constants

_GONE = f"""
with gone as (
    update templates t
       set status = 'DELETED', status_at = $3, asked_at = null, updated_at = $3
     where t.org_id = $1 and t.waba_id = $2 and t.name = $4 and t.status not in ('DRAFT', 'DELETED')
       and coalesce(t.synced_at < $3, true) and {_UNLISTED.format(lost_before="$6")}
       and t.language <> all ($5::text[])
    returning t.template_id
)
insert into template_history (org_id, template_id, event, word, source, at)
select $1, template_id, 'status', 'DELETED', 'sync', $3 from gone
"""  # noqa: S608 -- constants

_SEEN = """
update templates t
   set synced_at = $3
 where t.org_id = $1 and t.waba_id = $2
   and (t.name, t.language) in (select u.name, u.language from unnest($4::text[], $5::text[]) as u (name, language))
"""

_UNASKED = """
update templates t set asked_at = null
 where t.org_id = $1 and t.waba_id = $2 and t.status = 'DRAFT' and t.asked_at < $3
"""

_SEED = """
insert into template_syncs (org_id, waba_id, due_at)
select distinct w.org_id, w.waba_id, $1::timestamptz
  from whatsapp_numbers w
 where w.org_id is not null and w.replaced_by is null
 order by 1, 2
on conflict (org_id, waba_id) do nothing
"""
_UNSEED = """
delete from template_syncs s
 where coalesce(s.leased_until < $1, true)
   and not exists (select from whatsapp_numbers w where w.org_id = s.org_id and w.waba_id = s.waba_id
                      and w.replaced_by is null)
"""

_CLAIM = """
with first as materialized (
    select d.ctid as place
      from template_syncs d
     where d.due_at <= $1 and coalesce(d.leased_until <= $1, true) and coalesce(d.rests_until <= $1, true)
       and d.org_id <> all ($3::text[])
     order by d.due_at
     limit 1
       for update skip locked
)
update template_syncs s
   set leased_until = $2, started_at = $1
 where s.ctid = any (array(select place from first))
returning s.org_id, s.waba_id, s.started_at, s.failures
"""

_SYNCED = """
update template_syncs s
   set leased_until = null, synced_at = s.started_at, templates = $4, failures = 0, error = null, failed_since = null,
       rests_until = null, due_at = case when s.marked_at > s.started_at then s.started_at + $6::interval else $5 end
 where s.org_id = $1 and s.waba_id = $2 and s.started_at = $3
"""

_FAILED = """
update template_syncs s
   set leased_until = null, failures = s.failures + 1, error = $4, failed_since = coalesce(s.failed_since, $5),
       rests_until = $6, due_at = $6
 where s.org_id = $1 and s.waba_id = $2 and s.started_at = $3
returning s.failures
"""

_WISH = """
insert into template_syncs as s (org_id, waba_id, due_at, marked_at)
select distinct w.org_id, w.waba_id, $3::timestamptz, $3::timestamptz
  from whatsapp_numbers w
 where w.org_id = $1 and w.replaced_by is null and ($2::text is null or w.waba_id = $2)
 order by 1, 2
on conflict (org_id, waba_id) do update
   set marked_at = excluded.marked_at,
       due_at = least(s.due_at, greatest(excluded.due_at, s.started_at + $4::interval)), rests_until = null
returning s.waba_id
"""

_FORGET_HISTORY = """
delete from template_history
 where history_id = any (array(select history_id from template_history where at < $1 order by at limit $2))
"""


class Run(NamedTuple):
    """A claimed account. ``failures``: runs in a row before this one that failed."""

    org_id: str
    waba_id: str
    started_at: datetime
    failures: int

    @property
    def place(self) -> Place:
        return Place(self.org_id, self.waba_id)


async def seed(db: Connection, now: datetime) -> None:
    """Every account of the directory has a row, due now, and no other."""
    await db.execute(_SEED, now)
    await db.execute(_UNSEED, now)


async def claim(db: Connection, now: datetime, lease: timedelta, besides: Sequence[str] = ()) -> Run | None:
    """The account that is due for longest, leased to the caller. None of the organisations in ``besides`` gets it."""
    row = await db.fetchrow(_CLAIM, now, now + lease, list(besides))
    return None if row is None else Run(**row)


async def synced(db: Connection, run: Run, templates: int, next_at: datetime, gap: timedelta) -> None:
    """The run read everything. A later wish is followed after ``gap``."""
    await db.execute(_SYNCED, run.org_id, run.waba_id, run.started_at, templates, next_at, gap)


async def failed(db: Connection, run: Run, error: str, now: datetime, rests_until: datetime) -> None:
    """The run failed; the account rests."""
    await db.execute(_FAILED, run.org_id, run.waba_id, run.started_at, error, now, rests_until)


async def wish(db: Connection, org_id: str, waba_id: str | None, now: datetime, gap: timedelta) -> list[str]:
    """Let accounts be read as soon as may be: one, or all of the organisation. Returns their ids."""
    return [row["waba_id"] for row in await db.fetch(_WISH, org_id, waba_id, now, gap)]


async def forget_history(db: Connection, before: datetime, limit: int) -> int:
    """Delete old lines of history, at most ``limit``; returns how many went."""
    done = await db.execute(_FORGET_HISTORY, before, limit)
    return int(done.rsplit(" ", 1)[-1])


async def accounts(db: Connection, org_id: str) -> list[Account]:
    """The WABAs in which the organisation has numbers."""
    return [Account(**row) for row in await db.fetch(_ACCOUNTS, org_id)]


async def own_token(db: Connection, place: Place) -> str | None:
    """A token of the organisation's own for this WABA; None where its numbers have none."""
    found: str | None = await db.fetchval(_OWN, *place)
    return found


async def store(db: Connection, place: Place, templates: Sequence[Listed], at: datetime, lost_before: datetime) -> None:
    """Store what Meta listed, asked at ``at``. Submissions before ``lost_before`` that it does not show are over."""
    unique = {(one.name, one.language): one for one in templates}
    rows = []
    for one in unique.values():
        said = parts_of(one.components)
        rows.append(
            (
                *(one.name, one.language, one.category, one.status, one.parameter_format, one.quality),
                *(one.rejected_reason, one.meta_id, as_json(one.components), said.body, said.header),
                as_json(said.buttons),
            )
        )
    if rows:
        await db.execute(_STORE, *place, at, *as_columns(rows), lost_before)


async def seen(db: Connection, place: Place, unread: Sequence[Unread], at: datetime) -> None:
    """Meta lists these, asked at ``at``, in a shape that cannot be read: what is stored of them stays."""
    named = [one for one in unread if one.name is not None]
    if named:
        await db.execute(_SEEN, *place, at, *as_columns(named))


async def missing(db: Connection, place: Place, began: datetime, lost_before: datetime, limit: int) -> list[str]:
    """Names of templates that a run which began then has not seen, and that a list should have shown by then.

    ``lost_before``: when one that no list has shown yet was made at the latest.
    """
    return [row["name"] for row in await db.fetch(_MISSING, *place, began, lost_before, limit)]


async def gone(
    db: Connection, place: Place, at: datetime, name: str, listed: Sequence[str], *, lost_before: datetime
) -> None:
    """Of this name Meta lists only these languages, asked at ``at``. ``lost_before``: see ``missing``."""
    await db.execute(_GONE, *place, at, name, list(listed), lost_before)


async def unasked(db: Connection, place: Place, lost_before: datetime) -> None:
    """Drafts that were submitted before then, and that Meta does not list, may be submitted again."""
    await db.execute(_UNASKED, *place, lost_before)
