"""The one private name of asyncpg that is replaced: docs/decisions/0003 and 0008 give reasons and test."""

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # generic in the stubs only
    Connection = asyncpg.Connection


class ExpendableConnection(Connection):
    """A connection that closes when a command is cancelled or times out, where asyncpg might wait for ever."""

    __slots__ = ("cut_short", "planned_at")

    cut_short: bool  # a command timed out or was cancelled; set only then
    planned_at: float | None  # see ``plan``; not set before it is called

    def plan(self, at: float | None) -> None:
        """Note since when this session keeps its plans, in the event loop's time; None where it keeps none.

        The pool's proxy passes methods on, and takes no attribute.
        """
        self.planned_at = at

    def _cancel_current_command(self, *_waiters: Any) -> None:
        self.cut_short = True
        # soon, not now: asyncpg is about to resolve the caller's future, and only one of both may
        asyncio.get_running_loop().call_soon(self.terminate)

    def get_reset_query(self) -> str:
        return ""
