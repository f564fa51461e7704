"""What pages and reports say of an organisation itself."""

from collections.abc import Sequence
from typing import NamedTuple

from libs.common.db.pool import Connection


class Org(NamedTuple):
    """``currency``: ISO 4217; None where the directory named none."""

    name: str
    currency: str | None


_ORG = "select name, currency from orgs where org_id = $1"
_NAMES = "select org_id, name from orgs where org_id = any($1::text[]) order by name, org_id"


async def org_of(db: Connection, org_id: str) -> Org:
    """The organisation of somebody who was let in. One that the directory does not know any more has its id as name."""
    row = await db.fetchrow(_ORG, org_id)
    return Org(org_id, None) if row is None else Org(**row)


async def names_of(db: Connection, org_ids: Sequence[str]) -> list[tuple[str, str]]:
    """Id and name of each of these organisations of one person, by name."""
    return [(row["org_id"], row["name"]) for row in await db.fetch(_NAMES, org_ids)]
