"""What was judged when: the instants that stand in the tables, held against the database's clock."""

from datetime import datetime, timedelta

from tests.support.system import DAY, System

_INSTANTS = (
    "select claimed_at from sends where org_id = $1 and claimed_at is not null",
    "select created_at from sends where org_id = $1",
    "select settled_at from sends where org_id = $1 and settled_at is not null",
    "select decided_at from decisions where org_id = $1",
    f"select held_until - interval '{DAY} seconds' from bridge_slots where org_id = $1",
    "select caught_up_at from progress where caught_up_at > $2 and $1 <> ''",
)
_BOUND = timedelta(seconds=1)
"""More than a measurement of the clock is off where a machine is busy."""


async def now_of(system: System) -> datetime:
    """The database's present instant."""
    found: datetime = await system.value("select clock_timestamp()")
    return found


async def judged_by_the_database(system: System, org_id: str, began: datetime) -> None:
    """Asserts that all instants of this organisation's rows, and of progress, lie between ``began`` and now."""
    ended = await now_of(system)
    for question in _INSTANTS:
        arguments = (org_id, began) if "$2" in question else (org_id,)
        instants = [row[0] for row in await system.rows(question, *arguments)]
        assert instants, question
        assert began - _BOUND <= min(instants), f"{question}: too early by {began - min(instants)}"
        assert max(instants) <= ended + _BOUND, f"{question}: too late by {max(instants) - ended}"
