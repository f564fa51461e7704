"""Templates as people write, submit, edit and delete them, for API and pages alike.

Rule 1: the draft is stored before Meta is asked, and Meta's limits are checked before that. So a lost answer loses no
        words.
Rule 2: a submission begins with ``asked_at``. Until it has an outcome no other one begins. One whose answer was lost is
        looked for in Meta's list first, so that nothing is made twice.
Rule 3: each change has a line in the template's history and one in ``audit_log``, with who made it.

What Meta is asked and what its answers change is ``template_submission``.

Sources of the limits on edits and names: Meta, "Template management": an approved template is edited once a day and ten
times in thirty days, without its category; only approved, rejected and paused ones are edited; the name of one that was
approved is free again thirty days after its deletion.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from libs.common.db.pool import Connection, Pool
from libs.common.directory.templates import SYNC_GAP
from libs.common.pages.entries import N_
from libs.common.sanitize import sanitize
from services.inbox import template_queries as queries
from services.inbox import template_sync_queries as sync_queries
from services.inbox.people import Person
from services.inbox.template_graph import TemplateGraph
from services.inbox.template_limits import Content, Fault, faults_of, faults_of_content, faults_of_identity
from services.inbox.template_outcomes import (
    Absent,
    Busy,
    Deleted,
    Faulty,
    NotAsked,
    Outcome,
    Removal,
    Stored,
    Wanted,
)
from services.inbox.template_queries import NewDraft, TemplateRow
from services.inbox.template_submission import TemplateSubmission, audit, note
from services.inbox.template_sync import LOST_AFTER, SyncFailed, TemplateSync
from services.inbox.template_sync_queries import Account, Place

EDITABLE = frozenset({"APPROVED", "REJECTED", "PAUSED"})
RESERVED = timedelta(days=30)
DAY, MONTH, EDITS_A_MONTH = timedelta(days=1), timedelta(days=30), 10
_DRAFTS_MOST = 500


class Templates:
    """What people do with the templates of their organisation."""

    def __init__(self, pool: Pool, graph: TemplateGraph, sync: TemplateSync) -> None:
        self._pool = pool
        self._sync = sync
        self._submission = TemplateSubmission(pool, graph, sync)

    async def listed(
        self,
        person: Person,
        *,
        status: str | None = None,
        waba_id: str | None = None,
        language: str | None = None,
        after: Sequence[str] | None = None,
        limit: int = _DRAFTS_MOST,
    ) -> list[TemplateRow]:
        """Templates by name, language and WABA; see ``template_queries.listed``."""
        async with self._pool.acquire() as db:
            return await queries.listed(
                db,
                person.org_id,
                status=sanitize(status),
                waba_id=waba_id,
                language=sanitize(language),
                after=after,
                limit=limit,
            )

    async def one(self, person: Person, template_id: UUID) -> TemplateRow | None:
        async with self._pool.acquire() as db:
            return await queries.one(db, person.org_id, template_id)

    async def history(self, person: Person, template_id: UUID) -> list[queries.Event]:
        async with self._pool.acquire() as db:
            return await queries.history(db, person.org_id, template_id)

    async def accounts(self, person: Person) -> list[Account]:
        async with self._pool.acquire() as db:
            return await sync_queries.accounts(db, person.org_id)

    async def wish(self, person: Person, waba_id: str | None) -> list[str]:
        """Have accounts read as soon as may be. Returns their ids: none where the organisation has no such one."""
        async with self._pool.acquire() as db:
            return await sync_queries.wish(db, person.org_id, waba_id, self._pool.now(), SYNC_GAP)

    async def create(self, person: Person, wanted: Wanted, *, submit: bool) -> Outcome:
        """Store a draft, and submit it. A draft that is only kept may be beyond Meta's limits still."""
        content = wanted.content
        faults = faults_of(content) if submit else faults_of_identity(content)
        now = self._pool.now()
        async with self._pool.acquire() as db:
            waba_id = self._account(wanted.waba_id, await sync_queries.accounts(db, person.org_id))
            if isinstance(waba_id, Fault):
                return Faulty((waba_id, *faults))
            if faults:
                return Faulty(tuple(faults))
            new = NewDraft(waba_id, *content)
            if (deleted_at := await queries.reserved_since(db, person.org_id, new, now - RESERVED)) is not None:
                free = (deleted_at + RESERVED).date().isoformat()
                message = N_("Meta keeps the name of a deleted template for 30 days: this one is free on %(day)s.")
                return Faulty((Fault("name", "name", "name", message, {"day": free}),))
            async with db.transaction():
                row = await queries.draft(db, person.org_id, new, now)
                if row is not None:
                    await note(db, person, row, "drafted", now)
        if row is None:
            message = N_("There is a template of this name in this language already.")
            return Faulty((Fault("name", "name", "name", message),))
        return await self.submit(person, row.template_id) if submit else Stored(row, "draft")

    async def change(
        self, person: Person, template_id: UUID, *, category: str | None, components: Any | None, submit: bool
    ) -> Outcome:
        """Write a template anew, and submit it. Without anything new the draft is submitted as it is."""
        if submit and category is None and components is None:
            return await self.submit(person, template_id)
        if (lost := await self._found_again(person, template_id)) is not None:
            return lost
        async with self._pool.acquire() as db:
            row = await queries.one(db, person.org_id, template_id)
            if row is None:
                return Absent()
            written = row.draft or {"category": row.category, "components": row.components}
            wanted = {
                "category": written["category"] if category is None else category,
                "components": written["components"] if components is None else components,
            }
            faults = await self._edit_faults(db, person, row, wanted, submit=submit)
            if faults:
                return Faulty(tuple(faults))
            async with db.transaction():
                redrafted = await queries.redraft(db, person.org_id, template_id, wanted, self._pool.now())
                if redrafted is not None and not submit:
                    await note(db, person, redrafted, "drafted", self._pool.now())
        if redrafted is None:
            return Busy()
        return await self.submit(person, template_id, wanted) if submit else Stored(redrafted, "draft")

    async def submit(self, person: Person, template_id: UUID, wanted: dict[str, Any] | None = None) -> Outcome:
        """Ask Meta to take the draft. ``wanted``: the one that this person wrote, if another one must not go."""
        now = self._pool.now()
        async with self._pool.acquire() as db:
            row = await queries.one(db, person.org_id, template_id)
            if row is None:
                return Absent()
            if row.draft is None:
                message = N_("There is nothing to submit: Meta has this text already.")
                return Faulty((Fault("components", "components", "form", message),))
            if faults := await self._edit_faults(db, person, row, row.draft, submit=True):
                return Faulty(tuple(faults))
            asked = await queries.ask(db, person.org_id, template_id, now, now - LOST_AFTER, wanted=wanted)
        if asked is None:
            return Busy()
        if asked.before is not None and (settled := await self._submission.settled(person, asked.template)) is not None:
            return settled
        return await self._submission.ask(person, asked.template)

    async def delete(self, person: Person, template_id: UUID) -> Removal:
        """Delete a draft here, or a template at Meta."""
        row = await self.one(person, template_id)
        if row is not None and row.status == "DRAFT" and row.asked_at is not None:  # Meta may have it
            try:
                await self._sync.by_name(Place(person.org_id, row.waba_id), row.name)
            except SyncFailed as failed:
                return NotAsked(row, failed.code, account=not failed.passes)
            row = await self.one(person, template_id)
        if row is None:
            return Absent()
        if row.status == "DELETED":
            return Deleted()
        if row.status == "DRAFT":
            if row.asked_at is not None and row.asked_at > self._pool.now() - LOST_AFTER:
                return Busy()  # Meta may be about to take it
            return await self._forget(person, row)
        return await self._submission.delete(person, row)

    def _account(self, waba_id: str | None, accounts: Sequence[Account]) -> str | Fault:
        ours = [account.waba_id for account in accounts]
        if waba_id in ours:
            return str(waba_id)
        if waba_id is None and len(ours) == 1:
            return ours[0]
        message = N_("Name the WhatsApp account: the organisation has several, or none yet.")
        if waba_id is not None:
            message = N_("The organisation has no number in this WhatsApp account.")
        return Fault("waba_id", "account", "form", message)

    async def _edit_faults(
        self, db: Connection, person: Person, row: TemplateRow, wanted: dict[str, Any], *, submit: bool
    ) -> list[Fault]:
        """What Meta's limits say against this text of the template, and against editing it now."""
        content = Content(row.name, row.language, wanted["category"], row.parameter_format, wanted["components"])
        faults = faults_of_content(content) if submit else faults_of_identity(content)
        if row.status == "DRAFT":
            return faults
        if row.status not in EDITABLE:
            message = N_("Meta lets approved, rejected and paused templates be edited; this one is %(status)s.")
            return [Fault("status", "components", "form", message, {"status": row.status}), *faults]
        if row.status != "APPROVED":
            return faults
        if wanted["category"] != row.category:
            message = N_("The category of an approved template cannot be changed.")
            faults.append(Fault("category", "category", "form", message))
        now = self._pool.now()
        lately, this_month = await queries.edits(db, person.org_id, row.template_id, now - DAY, now - MONTH)
        if submit and (lately or this_month >= EDITS_A_MONTH):
            message = N_("Meta lets an approved template be edited once a day and ten times in thirty days.")
            faults.append(Fault("components", "components", "form", message))
        return faults

    async def _found_again(self, person: Person, template_id: UUID) -> NotAsked | None:
        """Settle a submission whose answer was lost long enough ago. None where nothing stands in the way any more."""
        row = await self.one(person, template_id)
        if row is None or row.asked_at is None or row.asked_at > self._pool.now() - LOST_AFTER:
            return None
        settled = await self._submission.settled(person, row)
        if settled is None:
            async with self._pool.acquire() as db:
                await queries.not_taken(db, person.org_id, row, None)
        return settled if isinstance(settled, NotAsked) else None

    async def _forget(self, person: Person, row: TemplateRow) -> Removal:
        now = self._pool.now()
        async with self._pool.acquire() as db, db.transaction():
            if not await queries.forget_draft(db, person.org_id, row.template_id):
                await queries.deleted(db, person.org_id, row.template_id, now)  # its name was Meta's once
            await audit(db, person, row, "template.deleted", now)
        return Deleted()
