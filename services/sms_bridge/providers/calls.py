"""One call to a provider: a form is posted once, and read within limits. What providers have in common."""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

import aiohttp
import orjson

from libs.common.answers import Departure, Unreached, read_answer
from libs.common.backoff import retry_after
from libs.common.clock import Clock
from libs.common.sending.outcomes import BackoffPolicy, RetryLater, Unknown

THROTTLE = BackoffPolicy(timedelta(seconds=1), 2.0, timedelta(minutes=1))
MESSAGE_RETRY = BackoffPolicy(timedelta(seconds=15), 2.0, timedelta(minutes=5))
TRANSIENT_LIMIT = 5
_CONNECT_SHARE = 0.3


class Answered(NamedTuple):
    """An HTTP answer. ``body``: its JSON object, or empty; ``after``: how long the provider wants us to wait."""

    status: int
    body: Mapping[str, Any]
    after: timedelta | None = None


def timeout_of(seconds: float) -> aiohttp.ClientTimeout:
    """Of one call in all. A connection that is not made soon is one that never left."""
    return aiohttp.ClientTimeout(total=seconds, connect=seconds * _CONNECT_SHARE)


async def post_form(
    http: aiohttp.ClientSession,
    url: str,
    form: Mapping[str, str],
    *,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own
    now: Clock,
    unreached: Unreached,
    headers: Mapping[str, str] | None = None,
) -> Answered | RetryLater | Unknown:
    """Post once. A request that never left is ``RetryLater``; any later failure is ``Unknown``."""
    departure = Departure()
    try:
        async with http.post(
            url,
            data=form,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            trace_request_ctx=departure,
        ) as response:
            body = json_object(await read_answer(response))
            return Answered(response.status, body, retry_after(response.headers, now()))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        if departure.never_left(error):
            unreached.report(error)
            return RetryLater("account", THROTTLE, "never_left")
        return Unknown("no_answer")


async def is_answered(
    http: aiohttp.ClientSession,
    url: str,
    *,
    timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own
    unreached: Unreached,
    headers: Mapping[str, str],
) -> bool:
    """Whether a read is answered, be it refused. A server error is no answer, nor is a page instead of JSON."""
    departure = Departure()
    try:
        async with http.get(
            url, headers=headers, timeout=timeout, allow_redirects=False, trace_request_ctx=departure
        ) as response:
            body = json_object(await read_answer(response))
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        if departure.never_left(error):
            unreached.report(error)
        return False
    if response.status < HTTPStatus.MULTIPLE_CHOICES:
        return bool(body)
    return response.status < HTTPStatus.INTERNAL_SERVER_ERROR and response.status != HTTPStatus.REQUEST_TIMEOUT


def json_object(raw: bytes | None) -> Mapping[str, Any]:
    """The JSON object, or empty where there is none. None: larger than any answer about one message."""
    try:
        body = orjson.loads(raw or b"")
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
