"""Statistics that say a table is all but empty, taken away before it fills.

PostgreSQL may look at a table while its first rows are not committed, or when a queue has just run empty. It then keeps
"many pages, no rows", and expects a few rows however many come. To read a whole index for those seems to cost nothing,
so statements that join by keys do it, some of them once for each key. Without statistics PostgreSQL counts on full
pages, and looks up what is asked for.
"""

from datetime import timedelta

from libs.common.db.errors import locked_db
from libs.common.db.pool import Pool

PERIOD = timedelta(seconds=5)
"""So long may plans be bad: new statistics end those that are kept."""

# A page holds four rows and more. A table that was never looked at has -1.
_EMPTY = """
select c.relnamespace::regnamespace::text as schema, c.relname::text as name
  from pg_class c
 where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.reltuples >= 0
   and c.reltuples < c.relpages and has_table_privilege(c.oid, 'maintain')
"""

# PostgreSQL ends its own work on a table for a session that waits longer than a deadlock takes (1 s).
_WAIT_BRIEFLY = "set local lock_timeout = '200ms'"

_FORGET = "select pg_clear_relation_stats($1, $2)"


async def forget_emptiness(pool: Pool) -> None:
    """Forget what was found of tables with fewer rows than pages. One that is locked is left for later."""
    async with pool.acquire() as db:
        for schema, name in await db.fetch(_EMPTY):
            try:
                async with db.transaction():
                    await db.execute(_WAIT_BRIEFLY)
                    await db.execute(_FORGET, schema, name)
            except Exception as error:
                if not locked_db(error):
                    raise
