"""``audit_log``: which consent or credit changed, when, and by whose word."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection


class AuditLine(NamedTuple):
    """A line of the log. ``source_key`` names what was said, so a redelivery adds no second line."""

    org_id: str
    customer_id: UUID | None
    action: str
    detail: dict[str, Any]
    at: datetime
    source_key: str


_ADD = """
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::text[])
on conflict (source_key) do nothing
"""


async def add_lines(db: Connection, lines: Sequence[AuditLine]) -> None:
    """Add these lines, each once."""
    if lines:
        await db.execute(_ADD, *as_columns(lines))
