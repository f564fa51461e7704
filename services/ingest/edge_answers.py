"""The functions that the edge's applications share: reading a body within a limit, publishing, answering and logging.

Rule: each webhook taken has one log line; refused ones have one a second for each reason. No content is in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter

from prometheus_client import Counter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from libs.common import metrics
from libs.common.errors import Permanent, Transient
from libs.common.kafka.producer import Record
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.web import problem
from services.ingest.coalescing_producer import CoalescingProducer

log = get_logger()

RETRY_AFTER_SECONDS = "5"
BAD_SIGNATURE = "bad_signature"
_DIGITS = 20  # of a length; Python refuses to read numbers of thousands of digits


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, and why, for the log. ``unread``: the body was not read, and the connection is closed."""

    status: int
    outcome: str
    items: int = 0
    unread: bool = False


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes | bytearray | Answer:
    """The raw body, or the answer to a request that is too large or has no end."""
    declared = header_of(scope, b"content-length")
    if declared is not None and declared.isdigit() and (len(declared) > _DIGITS or int(declared) > limit):
        return Answer(413, "too_large", unread=True)
    message = await receive()
    body: bytes | bytearray = message.get("body", b"")
    if message.get("more_body"):
        body = bytearray(body)
        while message.get("more_body") and len(body) <= limit:
            message = await receive()
            body += message.get("body", b"")
    if len(body) > limit:
        return Answer(413, "too_large", unread=True)
    return body if message["type"] == "http.request" else Answer(400, "ended_early")


async def publish(producer: CoalescingProducer, records: Sequence[Record]) -> Answer:
    """Raises Permanent when a record is larger than its topic's declaration allows.

    What the brokers refuse below that is to come again: an operator can raise the topic's limit.
    """
    try:
        await producer.publish(records)
    except Transient:
        return Answer(503, "kafka_away", len(records))
    except Permanent:
        if not all(record.fits() for record in records):
            raise
        return Answer(503, "kafka_refused", len(records))
    return Answer(200, "accepted", len(records))


def not_allowed(refusals: LogThrottle, source: str, methods: str) -> Response:
    log_refused(refusals, source, 405, "method")
    return problem(405, "method not allowed", headers={"allow": methods, "connection": "close"})


def log_refused(refusals: LogThrottle, source: str, status: int, reason: str, **more: object) -> None:
    refusals.report(
        f"{source} {reason}",
        lambda times: log.warning("webhook.rejected", source=source, status=status, reason=reason, times=times, **more),
    )


def log_answer(refusals: LogThrottle, source: str, answer: Answer, began: float) -> None:
    _answered(source, answer.status).inc()
    if answer.outcome == BAD_SIGNATURE and not answer.unread:
        metrics.SIGNATURES_FAILED.labels(source).inc()
    duration = round((perf_counter() - began) * 1000, 1)
    if answer.status == 200:  # noqa: PLR2004 -- OK
        log.info("webhook.received", source=source, status=200, items=answer.items, duration_ms=duration)
    else:
        log_refused(refusals, source, answer.status, answer.outcome, duration_ms=duration)


@cache
def _answered(source: str, status: int) -> Counter:
    """The counter of these answers; the library takes a lock to find it."""
    return metrics.WEBHOOKS.labels(source=source, status=str(status))


_TITLES = {400: "bad request", 403: "forbidden", 413: "too large", 415: "unsupported media type", 503: "try again"}


async def send_answer(answer: Answer, send: Send, twiml: bytes = b"") -> None:
    """What was taken is answered with ``twiml``, or without a body: a body is a second write to the socket."""
    body, headers = twiml, [(b"content-type", b"text/xml")] if twiml else []
    if answer.status != 200:  # noqa: PLR2004 -- OK
        refusal = problem(answer.status, _TITLES[answer.status], detail=answer.outcome)
        body, headers = bytes(refusal.body), [(b"content-type", b"application/problem+json")]
    if answer.unread:
        headers.append((b"connection", b"close"))
    if answer.status == 503:  # noqa: PLR2004 -- Service Unavailable
        headers.append((b"retry-after", RETRY_AFTER_SECONDS.encode()))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """The first value of the header. White space around it is none of it (RFC 9110, 5.5); the server leaves some."""
    header: bytes
    value: bytes
    for header, value in scope["headers"]:
        if header == name:
            return value.strip(b" \t")
    return None


def last_of(query: dict[str, list[str]], name: str) -> str | None:
    return query[name][-1] if name in query else None
