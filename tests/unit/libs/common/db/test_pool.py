from typing import Any, cast

import asyncpg
import pytest

from libs.common.clock import DatabaseClock
from libs.common.db.pool import Pool
from libs.common.errors import Transient


class Refusing:
    """A pool of asyncpg that gets no connection."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def acquire(self, **_options: object) -> None:
        raise self._error


def pool_that_gets(error: Exception) -> Pool:
    async def measure(connection: Any) -> None:
        raise AssertionError(connection)

    refusing = cast("asyncpg.Pool[asyncpg.Record]", Refusing(error))
    return Pool(refusing, acquire_seconds=1, now=DatabaseClock(), measure=measure)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (asyncpg.InvalidPasswordError("no"), "postgres lets us not in (InvalidPasswordError 28P01)"),
        (asyncpg.InvalidAuthorizationSpecificationError("no"), "28000"),
        (asyncpg.InvalidCatalogNameError("no such database"), "3D000"),
        (asyncpg.ObjectNotInPrerequisiteStateError("accepts no connections"), "55000"),
        (asyncpg.InsufficientPrivilegeError("no right to connect, or to take the role"), "42501"),
        (asyncpg.CannotConnectNowError("starting up"), "postgres is away (CannotConnectNowError)"),
        (ConnectionRefusedError("refused"), "postgres is away (ConnectionRefusedError)"),
    ],
)
async def test_a_connection_that_is_refused_is_no_records_fault(error: Exception, told: str) -> None:
    with pytest.raises(Transient) as refused:
        async with pool_that_gets(error).acquire():
            pass
    assert told in str(refused.value)


async def test_a_bug_of_ours_is_no_refusal() -> None:
    with pytest.raises(asyncpg.InterfaceError):
        async with pool_that_gets(asyncpg.InterfaceError("a wrong call")).acquire():
            pass
