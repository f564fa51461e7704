"""The spend of an organisation, read in one transaction, for the API and the page alike."""

from dataclasses import dataclass
from uuid import uuid4

from libs.common.db.pool import Pool
from libs.common.db.shares import Shares
from libs.common.directory.organisations import AuditLine, add_lines
from services.inbox import spend_queries
from services.inbox.org_queries import org_of
from services.inbox.people import Person
from services.inbox.spend import SpendQuery, SpendRow


@dataclass(frozen=True, slots=True)
class Report:
    """What was asked for, and the groups of charges. ``currency``: the organisation's, where it named one."""

    query: SpendQuery
    rows: list[SpendRow]
    currency: str | None


async def report(reads: Shares, person: Person, query: SpendQuery) -> Report:
    """The groups of the person's organisation. Raises SpendError when there are too many."""
    async with reads.of(person.org_id) as db:
        rows = await spend_queries.spend(db, person.org_id, query)
        return Report(query, rows, (await org_of(db, person.org_id)).currency)


async def exported(pool: Pool, person: Person, query: SpendQuery) -> None:
    """Keep in the audit log who took the figures out."""
    detail = {
        "what": "spend",
        "user_id": person.user_id,
        "from": query.first.isoformat(),
        "to": query.last.isoformat(),
        "group_by": list(query.groups),
    }
    line = AuditLine(person.org_id, None, "exported", detail, pool.now(), f"exported:{uuid4()}")
    async with pool.acquire() as db:
        await add_lines(db, [line])
