"""How much a statement reads: a connection that explains every statement before it is made, and says what was read too
much.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from libs.common.db.pool import Connection

LARGE = 1_000
"""Rows of a table from which on it is not read as a whole."""
ITSELF = 40_000
"""Pairs of rows that a batch of 200 has with itself: small ones are compared one by one."""


@dataclass
class Explaining:
    """Like the connection inside; ``plans`` are those of every statement that was made, as they ran.

    Use it inside a transaction.
    """

    db: Connection
    plans: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    async def fetch(self, query: str, *values: Any) -> Any:
        await self._explain(query, *values)
        return await self.db.fetch(query, *values)

    async def fetchrow(self, query: str, *values: Any) -> Any:
        await self._explain(query, *values)
        return await self.db.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        await self._explain(query, *values)
        return await self.db.fetchval(query, *values)

    async def execute(self, query: str, *values: Any) -> Any:
        await self._explain(query, *values)
        return await self.db.execute(query, *values)

    async def _explain(self, query: str, *values: Any) -> None:
        """Run it once to see what it reads, and as if it had not run."""
        saved = self.db.transaction()
        await saved.start()
        [plan] = await self.db.fetchval(f"explain (analyze, buffers, format json) {query}", *values)
        await saved.rollback()
        self.plans.append((query, plan["Plan"]))

    def too_much(self, rows: int) -> list[str]:
        """Per statement: sequential scans, and nodes that read or compare more than belongs to so many rows."""
        return [found for query, plan in self.plans for found in _too_much(query, plan, rows)]


def _too_much(query: str, plan: dict[str, Any], rows: int) -> Iterator[str]:
    what = " ".join(query.split())[:100]
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    if pages > 40 * rows:  # a row that is changed is found, and is entered in some indexes
        yield f"{what}: {pages} pages"
    nodes = [plan]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        compared = node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"]
        if compared > 40 * rows + ITSELF:
            yield f"{what}: {compared:.0f} pairs compared by {node['Node Type']}"
        if "Relation Name" in node and node["Node Type"] != "ModifyTable":
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            read = (node["Actual Rows"] + removed) * node["Actual Loops"]
            if read > 4 * rows or (node["Node Type"] == "Seq Scan" and read > LARGE):
                yield f"{what}: {read:.0f} rows of {node['Relation Name']} by {node['Node Type']}"
