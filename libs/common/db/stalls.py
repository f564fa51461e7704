"""PostgreSQL that stalls, or is about to start, while a service starts: no reason to end.

Law 1: what is tried again proves that the address is right, or takes long to fail. A refused connection, a wrong
       password, an unknown database and an old schema end the start at once.
Law 2: it is said once, and again when the server answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from libs.common.logging import get_logger

START_SECONDS = 10.0
"""For so long a start goes on trying a server that stalls. Probes of a start must allow more."""
_WAIT = 0.5

T = TypeVar("T")

log = get_logger()


async def outlast_stalls(step: Callable[[], Awaitable[T]], seconds: float = START_SECONDS) -> T:
    """The result of ``step``, which is repeated while PostgreSQL stalls, for ``seconds``. Then its error is raised."""
    loop = asyncio.get_running_loop()
    ends, stalled = loop.time() + seconds, False
    while True:
        try:
            done = await step()
        except Exception as error:
            if not is_stall(error) or loop.time() + _WAIT > ends:
                raise
            if not stalled:
                log.warning("dependency.away", dependency="postgres", detail=f"it stalls ({type(error).__name__})")
            stalled = True
            await asyncio.sleep(_WAIT)
        else:
            if stalled:
                log.info("dependency.back", dependency="postgres")
            return done


def is_stall(error: BaseException | None) -> bool:
    """Whether the server took too long, or said that it is starting or stopping; also as the cause of our own error."""
    while error is not None:
        if isinstance(error, TimeoutError | asyncpg.QueryCanceledError | asyncpg.CannotConnectNowError):
            return True
        error = error.__cause__
    return False
