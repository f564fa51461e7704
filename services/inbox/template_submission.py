"""What Meta is asked about a template, and what its answers change.

Rule 1: a submission whose answer was lost is looked for in Meta's list before it counts as not taken.
Rule 2: what Meta answers counts from the moment it was asked: a webhook that came before the answer is younger.
Rule 3: each change has a line in the template's history and one in ``audit_log``, with who made it.
"""

from datetime import datetime
from uuid import UUID

from libs.common.db.pool import Connection, Pool
from libs.common.directory.templates import SYNC_GAP
from libs.common.logging import get_logger
from services.inbox import template_queries as queries
from services.inbox import template_sync_queries as sync_queries
from services.inbox.people import Person
from services.inbox.template_answers import Broken, Done, Made, Refused, Throttled, Unknown
from services.inbox.template_graph import TemplateGraph
from services.inbox.template_outcomes import Absent, Deleted, NotAsked, NotTaken, Outcome, Removal, Stored
from services.inbox.template_queries import TemplateRow
from services.inbox.template_sync import SyncFailed, TemplateSync
from services.inbox.template_sync_queries import Place

log = get_logger()


class TemplateSubmission:
    """Asks Meta on behalf of people."""

    def __init__(self, pool: Pool, graph: TemplateGraph, sync: TemplateSync) -> None:
        self._pool = pool
        self._graph = graph
        self._sync = sync

    async def settled(self, person: Person, asked: TemplateRow) -> Outcome | None:
        """What became of a submission whose answer was lost; None where Meta never had it."""
        try:
            await self._sync.by_name(Place(person.org_id, asked.waba_id), asked.name)
        except SyncFailed as failed:
            return NotAsked(asked, failed.code, account=not failed.passes)
        row = await self._one(person, asked.template_id)
        if row is None:
            return Absent()
        return Stored(row, "submitted") if row.draft is None else None

    async def ask(self, person: Person, asked: TemplateRow) -> Outcome:
        """Ask Meta to take the draft, and store what it answers."""
        draft, place = asked.draft or {}, Place(person.org_id, asked.waba_id)
        is_new = asked.status == "DRAFT"
        try:
            token = await self._sync.token_for(place)
            meta_id = None if is_new else asked.meta_id or await self._meta_id(place, asked)
        except SyncFailed as failed:
            return await self._not_asked(person, asked, failed.code, account=not failed.passes)
        answer: Made | Done | Refused | Broken | Throttled | Unknown
        if is_new:
            body = {"name": asked.name, "language": asked.language, "parameter_format": asked.parameter_format, **draft}
            answer = await self._graph.create(asked.waba_id, token, body)
        elif meta_id is None:
            answer = Refused("not_found", "Meta has no such template.")
        else:
            changed = draft if asked.status != "APPROVED" else {"components": draft["components"]}
            answer = await self._graph.edit(meta_id, token, changed)
        log.info("template.asked", org_id=person.org_id, waba_id=asked.waba_id, outcome=type(answer).__name__.lower())
        return await self._answered(person, asked, answer)

    async def _answered(  # noqa: PLR0911 -- one return per answer
        self, person: Person, asked: TemplateRow, answer: Made | Done | Refused | Broken | Throttled | Unknown
    ) -> Outcome:
        match answer:
            case Made() | Done():
                return await self._taken(person, asked, answer)
            case Refused(exists=True):
                if (settled := await self.settled(person, asked)) is not None:
                    return settled
                return await self._refused(person, asked, answer)
            case Refused():
                return await self._refused(person, asked, answer)
            case Broken(code):
                return await self._not_asked(person, asked, code, account=True)
            case Throttled(code):
                return await self._not_asked(person, asked, code, account=False)
            case Unknown():
                await self._wish(person, asked.waba_id)
                row = await self._one(person, asked.template_id)
                return Absent() if row is None else Stored(row, "unknown")

    async def _taken(self, person: Person, asked: TemplateRow, answer: Made | Done) -> Outcome:
        status = answer.status if isinstance(answer, Made) else "PENDING"
        async with self._pool.acquire() as db, db.transaction():
            if isinstance(answer, Made):
                fresh = await queries.made(db, person.org_id, asked, answer)
                await note(db, person, asked, "submitted", self._pool.now())
            else:
                fresh = await queries.edited(db, person.org_id, asked, status)
                await note(db, person, asked, "edited", self._pool.now(), word=asked.status)
            if fresh:
                await queries.note(
                    db,
                    *(person.org_id, asked.template_id, "status"),
                    word=status,
                    source="answer",
                    at=asked.asked_at or self._pool.now(),
                )
        await self._wish(person, asked.waba_id)
        row = await self._one(person, asked.template_id)
        return Absent() if row is None else Stored(row, "submitted")

    async def _refused(self, person: Person, asked: TemplateRow, answer: Refused) -> Outcome:
        said = {"code": answer.code, "sentence": answer.sentence}
        async with self._pool.acquire() as db, db.transaction():
            await queries.not_taken(db, person.org_id, asked, said)
            await note(db, person, asked, "refused", self._pool.now(), reason=answer.code)
        row = await self._one(person, asked.template_id)
        return Absent() if row is None else NotTaken(row, answer.code, answer.sentence)

    async def _not_asked(self, person: Person, asked: TemplateRow, code: str, *, account: bool) -> Outcome:
        async with self._pool.acquire() as db:
            await queries.not_taken(db, person.org_id, asked, None)
        row = await self._one(person, asked.template_id)
        return Absent() if row is None else NotAsked(row, code, account)

    async def _meta_id(self, place: Place, row: TemplateRow) -> str | None:
        """Meta's id of a template that no list has shown yet. Raises SyncFailed."""
        listed = await self._sync.by_name(place, row.name)
        return next((one.meta_id for one in listed if one.language == row.language), None)

    async def delete(self, person: Person, row: TemplateRow) -> Removal:
        """Ask Meta to delete a template that it has."""
        place = Place(person.org_id, row.waba_id)
        try:
            token = await self._sync.token_for(place)
            meta_id = row.meta_id or await self._meta_id(place, row)
        except SyncFailed as failed:
            return NotAsked(row, failed.code, account=not failed.passes)
        answer: Done | Refused | Broken | Throttled | Unknown
        at = self._pool.now()
        if meta_id is None:
            answer = Refused("not_found", "", missing=True)
        else:
            answer = await self._graph.delete(row.waba_id, token, name=row.name, meta_id=meta_id)
        log.info("template.asked", org_id=person.org_id, waba_id=row.waba_id, outcome=type(answer).__name__.lower())
        match answer:
            case Done() | Refused(missing=True):
                async with self._pool.acquire() as db, db.transaction():
                    if await queries.deleted(db, person.org_id, row.template_id, at):
                        await note(db, person, row, "deleted", self._pool.now(), word="DELETED")
                await self._wish(person, row.waba_id)
                return Deleted()
            case Refused(code, sentence):
                return NotTaken(row, code, sentence)
            case Broken(code):
                return NotAsked(row, code, account=True)
            case Throttled(code):
                return NotAsked(row, code, account=False)
            case Unknown(why):
                await self._wish(person, row.waba_id)
                return NotAsked(row, why, account=False)

    async def _one(self, person: Person, template_id: UUID) -> TemplateRow | None:
        async with self._pool.acquire() as db:
            return await queries.one(db, person.org_id, template_id)

    async def _wish(self, person: Person, waba_id: str) -> None:
        async with self._pool.acquire() as db:
            await sync_queries.wish(db, person.org_id, waba_id, self._pool.now(), SYNC_GAP)


async def note(
    db: Connection,
    person: Person,
    row: TemplateRow,
    event: str,
    now: datetime,
    *,
    word: str | None = None,
    reason: str | None = None,
) -> None:
    """A line in the history and one in the audit log."""
    await queries.note(
        db, person.org_id, row.template_id, event, word=word, reason=reason, user_id=person.user_id, at=now
    )
    await audit(db, person, row, f"template.{event}", now)


async def audit(db: Connection, person: Person, row: TemplateRow, action: str, now: datetime) -> None:
    """A line in the audit log."""
    detail = {
        "template_id": str(row.template_id),
        "waba_id": row.waba_id,
        "name": row.name,
        "language": row.language,
        "user_id": person.user_id,
    }
    await queries.audit(db, person.org_id, action, detail, now)
