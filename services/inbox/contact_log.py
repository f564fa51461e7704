"""Who read customers' numbers, in ``audit_log``.

Rule 1: a person has one line an hour for each customer, and one for lists and streams, which show many numbers.
Rule 2: the line is stored before the number is shown.
"""

from collections import OrderedDict
from datetime import datetime
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.organisations import AuditLine, add_lines
from services.inbox.people import Person

_MOST = 10_000


class ContactLog:
    """Writes the lines. What this process has written within the hour it does not write again."""

    def __init__(self) -> None:
        self._written: OrderedDict[str, None] = OrderedDict()

    def has(self, person: Person, customer_id: UUID | None, now: datetime) -> bool:
        """Whether the line of this hour is known to stand. ``customer_id``: None of lists and streams."""
        return _key(person, customer_id, now) in self._written

    async def note(self, db: Connection, person: Person, customer_id: UUID | None, now: datetime) -> None:
        """Store the line of this hour, unless it stands."""
        key = _key(person, customer_id, now)
        if key in self._written:
            return
        detail = {"user_id": person.user_id} | ({} if customer_id is not None else {"what": "lists"})
        await add_lines(db, [AuditLine(person.org_id, customer_id, "contact_seen", detail, now, key)])
        self._written[key] = None
        if len(self._written) > _MOST:
            self._written.popitem(last=False)


def _key(person: Person, customer_id: UUID | None, now: datetime) -> str:
    hour = now.replace(minute=0, second=0, microsecond=0)
    return f"contact:{person.org_id}:{person.user_id}:{customer_id or 'lists'}:{hour.isoformat()}"
