"""The one private name of asyncpg that is replaced: docs/decisions/0003 and 0008 give reasons and test."""

import asyncio
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # generic in the stubs only
    Connection = asyncpg.Connection


class Plans(NamedTuple):
    """How a session plans, in seconds of the event loop.

    ``kept``: it uses the plans that it keeps. ``since``: when they were discarded last. ``stay``: how long they stay.
    """

    kept: bool = False
    since: float = -inf
    stay: float = 0.0


class ExpendableConnection(Connection):
    """A connection that closes when a command is cancelled or times out, where asyncpg might wait for ever."""

    __slots__ = ("cut_short", "plans")

    cut_short: bool  # a command timed out or was cancelled; set only then
    plans: Plans  # see ``plan``; not set before it is called

    def plan(self, plans: Plans) -> None:
        """Note how this session plans. The pool's proxy passes methods on, and takes no attribute."""
        self.plans = plans

    def _cancel_current_command(self, *_waiters: Any) -> None:
        self.cut_short = True
        # soon, not now: asyncpg is about to resolve the caller's future, and only one of both may
        asyncio.get_running_loop().call_soon(self.terminate)

    def get_reset_query(self) -> str:
        return ""
