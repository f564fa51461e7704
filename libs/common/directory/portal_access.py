"""The end of links and sessions of the portal. A link that ends opens nothing, and a session that ends reads nothing.

Rule 1: what ends the one ends the other: a merge of two threads, a split, a changed number or BSUID, an erasure, and
        staff.
Rule 2: a row that has ended is deleted. The portal asks for it in every request and at every heartbeat of a stream.

``services/ingest`` calls this for what it learns of identities. ``transom end-access`` and the inbox call it for staff.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from libs.common.db.pool import Connection

_OF_CUSTOMERS = """
delete from {table} t
 using unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
  join conversations c on c.customer_id = u.customer_id and c.org_id = u.org_id
 where t.conversation_id = c.conversation_id and t.org_id = u.org_id
"""
_OF_CONVERSATIONS = """
delete from {table} t
 using unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
 where t.conversation_id = u.conversation_id and t.org_id = u.org_id
returning 1
"""
_TABLES = ("portal_links", "portal_sessions")


async def end_access_of_customers(db: Connection, customers: Iterable[tuple[str, UUID]]) -> None:
    """End every link and session of these customers (organisation, customer)."""
    if rows := _columns(customers):
        for table in _TABLES:
            await db.execute(_OF_CUSTOMERS.format(table=table), *rows)


async def end_access(db: Connection, conversations: Iterable[tuple[str, UUID]]) -> int:
    """End every link and session of these conversations (organisation, conversation); returns how many there were.

    The ids are current ones: a conversation that was merged away has neither.
    """
    if not (rows := _columns(conversations)):
        return 0
    return sum([len(await db.fetch(_OF_CONVERSATIONS.format(table=table), *rows)) for table in _TABLES])


def _columns(pairs: Iterable[tuple[str, UUID]]) -> list[list[Any]]:
    ordered = sorted(set(pairs), key=str)
    return [list(column) for column in zip(*ordered, strict=True)]
