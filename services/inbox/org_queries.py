"""What pages and reports say of an organisation itself."""

from typing import NamedTuple

from libs.common.db.pool import Connection


class Org(NamedTuple):
    """``currency``: ISO 4217; None where the directory named none."""

    name: str
    currency: str | None


_ORG = "select name, currency from orgs where org_id = $1"


async def org_of(db: Connection, org_id: str) -> Org:
    """The organisation of somebody who was let in. One that the directory does not know any more has its id as name."""
    row = await db.fetchrow(_ORG, org_id)
    return Org(org_id, None) if row is None else Org(**row)
