"""A Redis client that a service can do without: a call returns quickly, or is ``UNAVAILABLE`` and raises nothing.

Rule 1: no call takes longer than a quarter of a second, and the client never retries by itself. After a lost reply a
        repeated command could answer the opposite of the first.
Rule 2: after two failures in a row the breaker opens. While it is open every call is ``UNAVAILABLE`` at once. A probe
        in the background writes to the server every second, so that no caller waits for it. A server that is full, or a
        replica, answers a ping and takes no write.
Rule 3: Redis is a gate and a shared counter, never a record. A caller goes on without it.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from typing import Any, Final
from uuid import uuid4

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as LostConnectionError,
)
from redis.exceptions import (
    TimeoutError as SlowError,
)
from redis.maint_notifications import MaintNotificationsConfig

from libs.common import metrics
from libs.common.errors import ConfigurationError
from libs.common.log_throttle import PERIOD_SECONDS, LogThrottle
from libs.common.logging import get_logger
from libs.common.reaching import at, tls_cause, words_of

log = get_logger()

CALL_SECONDS = 0.25
_PROBE_SECONDS = 1.0
_FAILURES_TO_OPEN = 2
_START_SECONDS = 2.0

_TROUBLE = (
    *(LostConnectionError, SlowError, OSError, TimeoutError),
    *(InvalidResponse, ValueError),  # of the second class: a count or a length that is no number
    *(ReadOnlyError, OutOfMemoryError, ClusterDownError, TryAgainError),  # of the third class: MASTERDOWN, too
)
_ERRORS = (RedisError, *_TROUBLE)
_TROUBLE_CODE = re.compile(r"""(?:^|caused error: \(["'])(MISCONF|NOREPLICAS|BUSY) """)
"""Codes for which redis-py has no class. It leaves them in the text; of a pipeline the command stands before it."""


class Unavailable(Enum):
    """Why there is no reply. One member, so that ``reply is UNAVAILABLE`` narrows the type."""

    UNAVAILABLE = "unavailable"


UNAVAILABLE: Final = Unavailable.UNAVAILABLE


class Redis:
    """A client with a time limit and a breaker. Build it with ``open_redis``."""

    def __init__(self, client: "redis.asyncio.Redis", prefix: str) -> None:
        """``prefix``: under such keys the probe may write."""
        self._client = client
        self._prefix = prefix
        self._failures = 0
        self._probe: asyncio.Task[None] | None = None
        self._refusals = LogThrottle(PERIOD_SECONDS)

    async def pipeline(self, build: Callable[[Pipeline], object]) -> list[Any] | Unavailable:
        """Send what ``build`` puts into the pipeline, in one round trip. Returns the replies in order (text is str).

        Where the server is away it returns ``UNAVAILABLE``, which says nothing about whether the commands took effect.
        It is also returned when the server refuses one of them, with a warning a minute and without opening the
        breaker. Rights are checked at the start, but they can change under a running service.
        """
        if self._probe is not None:
            return UNAVAILABLE
        pipe = self._client.pipeline(transaction=False)
        build(pipe)  # outside: what it raises is an error of ours
        try:
            async with asyncio.timeout(CALL_SECONDS), pipe:
                replies: list[Any] = await pipe.execute()
        except _ERRORS as error:
            if _is_trouble(error):
                self._failed(error)
            else:
                told = partial(log.warning, "dependency.away", dependency="redis", exc_info=error)
                self._refusals.report(type(error).__name__, lambda times: told(times=times))
            return UNAVAILABLE
        self._failures = 0
        return replies

    def begin_away(self, url: str, error: BaseException) -> None:
        """Open the breaker at the start, because the server at ``url`` cannot be reached."""
        log.warning("dependency.away", dependency="redis", detail=f"redis{at(url)} cannot be reached: {_MEND}")
        self._failures = _FAILURES_TO_OPEN
        self._failed(error)

    async def close(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait({self._probe})
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(CALL_SECONDS):
                await self._client.aclose()

    def _failed(self, error: BaseException) -> None:
        self._failures += 1
        if self._failures >= _FAILURES_TO_OPEN and self._probe is None:
            metrics.BREAKER_OPEN.labels(dependency="redis").set(1)
            log.warning("breaker.opened", dependency="redis", detail=_trouble(error))
            self._probe = asyncio.create_task(self._probe_loop())

    async def _probe_loop(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await _write(self._client, self._prefix)
            except _ERRORS as error:
                if not isinstance(error, ResponseError) or _is_trouble(error):
                    continue
            break
        self._failures = 0
        self._probe = None
        metrics.BREAKER_OPEN.labels(dependency="redis").set(0)
        log.info("breaker.closed", dependency="redis")


@asynccontextmanager
async def open_redis(url: str, prefix: str = "bridge") -> AsyncIterator[Redis]:
    """Open a client after reaching the server and trying the commands of the gate once.

    A server that nobody can connect to is away, as it may be later: the breaker is open until it answers. Raises
    ConfigurationError when waiting does not mend it: no Redis URL, a wrong password, TLS, missing rights.
    """
    try:
        client = redis.asyncio.Redis.from_url(
            url,
            client_name="transom",
            decode_responses=True,
            encoding_errors="replace",  # others' values may be no text
            protocol=2,  # nothing of RESP3 is used, and it costs a round trip more at each connect
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            socket_timeout=CALL_SECONDS,
            socket_connect_timeout=CALL_SECONDS,
        )
    except ValueError as error:
        raise ConfigurationError(_UNREACHABLE.format("", "not a Redis URL", _MEND)) from error
    opened = Redis(client, prefix)
    try:
        if (absence := await _reach(client, url)) is None:
            await _try_out(client, prefix)
        else:
            opened.begin_away(url, absence)
        yield opened
    finally:
        await opened.close()


_UNREACHABLE = "redis{} cannot be used ({}): {}"
_MEND = "start it, or set TRANSOM_REDIS_URL to where it listens, with rediss:// where it speaks TLS"
_LOCKED_OUT = "it refuses the user of TRANSOM_REDIS_URL, or the password"  # logs mask a word behind "password"
_UNABLE = (
    "redis at TRANSOM_REDIS_URL refuses SET … NX GET or EVAL ({0}): "
    "use Redis 7 or newer, or Valkey, and allow both on {1}:*"
)


async def _reach(client: "redis.asyncio.Redis", url: str) -> Exception | None:
    """Ping for up to two seconds: the machine may be busy at a start. No later call waits so long.

    Returns the last error where nobody can connect to the server, or it serves nobody, and None where it answers.
    Raises ConfigurationError for any other failure.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _START_SECONDS
    while True:
        try:
            await client.ping()
        except _ERRORS as error:
            why = _why(url, error)
            late = loop.time() > deadline
            if late and why is None and _is_absence(error):
                return error
            if late or why is not None:
                raise ConfigurationError(_UNREACHABLE.format(at(url), type(error).__name__, why or _MEND)) from error
            await asyncio.sleep(0.1)
        else:
            return None


def _is_absence(error: BaseException) -> bool:
    """Whether no connection came about, or no answer that serves. One that is closed comes of a wrong setting, too."""
    below = error.__cause__ or error.__context__
    return isinstance(error, SlowError | TimeoutError | BusyLoadingError | ClusterDownError) or isinstance(
        below, ConnectionRefusedError | TimeoutError | socket.gaierror
    )


def _why(url: str, error: BaseException) -> str | None:
    """The cause in words, where waiting does not mend it."""
    if isinstance(error, AuthenticationError):
        return _LOCKED_OUT
    below = error.__cause__ or error.__context__
    if url.startswith("rediss:") and isinstance(below, FileNotFoundError | PermissionError | IsADirectoryError):
        return "a file of ssl_ca_certs, ssl_certfile or ssl_keyfile in TRANSOM_REDIS_URL cannot be read"
    return tls_cause(error)


async def _try_out(client: "redis.asyncio.Redis", prefix: str) -> None:
    """Try the commands of the bridge's gate once: an old server or a missing right shows at the start."""
    try:
        await _write(client, prefix)
    except ResponseError as error:
        if not _is_trouble(error):
            raise ConfigurationError(_UNABLE.format(type(error).__name__, prefix)) from error
    except _ERRORS:
        return  # gone since the ping: a running service goes on without it, too


async def _write(client: "redis.asyncio.Redis", prefix: str) -> None:
    """Send the commands of the bridge's gate on an unused key. Raises what redis-py does."""
    key = f"{prefix}:start:{uuid4()}"
    async with client.pipeline(transaction=False) as pipe:
        pipe.set(key, "", nx=True, get=True, px=1000)
        pipe.eval("return redis.call('del', KEYS[1])", 1, key)
        await pipe.execute()


def _is_trouble(error: BaseException) -> bool:
    return isinstance(error, _TROUBLE) or (isinstance(error, ResponseError) and bool(_TROUBLE_CODE.search(str(error))))


def _trouble(error: BaseException) -> str:
    """What ``_is_trouble`` found, in words with "it" for the server, or by the code that it answered."""
    if isinstance(error, AuthenticationError):
        return _LOCKED_OUT
    if isinstance(error, ResponseError | BusyLoadingError):
        code = _TROUBLE_CODE.search(str(error))
        return f"it answers {error.status_code if code is None else code[1]}"
    if isinstance(error, InvalidResponse | ValueError):
        return "what it answers is not Redis' protocol"
    return words_of(error)
