"""The HTTP edge for providers' webhooks: verify, split, publish to Kafka, answer. Nothing else, and no database.

Rule 1: 200 means that every item is acknowledged by Kafka. After any other answer the provider tries again for days.
Rule 2: what is signed is taken, whether or not it can be parsed. What is not signed leaves nothing behind.
Rule 3: one log line per webhook taken; of refused ones one a second for each reason. Nothing of the content is in it.
Rule 4: without a header that has the form of a signature nothing of the body is read, and the connection is closed.
Rule 5: the edge records which of Meta's POSTs it took last and which it refused (``edge_coverage.py``). Silence proves
        nothing for that time.

These are bare ASGI applications, because every microsecond here is paid per webhook.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common import metrics
from libs.common.clock import Clock, utc_now
from libs.common.errors import Permanent, Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Record
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.web import problem
from services.ingest import meta, twilio
from services.ingest.coalescing_producer import CoalescingProducer
from services.ingest.edge_coverage import EdgeCoverage
from services.ingest.signature import (
    is_meta_signature,
    is_twilio_signature,
    same_token,
    signed_by_meta,
    signed_by_twilio,
)

log = get_logger()

SPLIT_IN_PLACE = 256 * 1024
META_LIMIT = 3 * 1024 * 1024
TWILIO_LIMIT = 256 * 1024
RETRY_AFTER_SECONDS = "5"

_OK = b"OK"
_DIGITS = 20  # of a length; Python refuses to read numbers of thousands of digits


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, and why, for the log. ``unread``: the body was not read, and the connection is closed."""

    status: int
    outcome: str
    items: int = 0
    unread: bool = False


PATIENCE_SECONDS = 3.0
"""How long a provider may wait for Kafka before it gets 503."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """What the edge verifies requests with.

    Without ``public_url`` or a Twilio token every callback of Twilio is refused.
    """

    meta_secrets: tuple[bytes, ...] = field(repr=False)
    verify_token: bytes = field(repr=False)
    twilio_tokens: tuple[bytes, ...] = field(repr=False)
    public_url: str | None


class MetaEdge:
    """``GET /webhooks/meta``: the verification challenge. ``POST /webhooks/meta``: signed webhooks."""

    def __init__(
        self,
        *,
        secrets: Sequence[bytes],
        verify_token: bytes,
        producer: CoalescingProducer,
        now: Clock,
        coverage: EdgeCoverage,
    ) -> None:
        self._coverage = coverage
        self._secrets = secrets
        self._verify_token = verify_token
        self._refusals = LogThrottle()
        self._producer = producer
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["method"]:
            case "POST":
                began = perf_counter()
                try:
                    answer = await self._accept(scope, receive)
                except BaseException as error:  # a bug, or a stop that cannot wait
                    self._coverage.refused("failed" if isinstance(error, Exception) else "cut_short")
                    raise
                _log(self._refusals, "meta", answer, began)
                await _answer(answer, send, _OK, b"text/plain")
            case "GET":
                await self._verify_challenge(scope)(scope, receive, send)
            case "HEAD":  # a monitor asks whether the address is there
                await Response()(scope, receive, send)
            case _:
                await _not_allowed(self._refusals, "meta", "GET, HEAD, POST")(scope, receive, send)

    def _verify_challenge(self, scope: Scope) -> Response:
        """200 and the raw challenge as text when the token is ours, else 403."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="replace")
        token, challenge = _last(query, "hub.verify_token"), _last(query, "hub.challenge")
        if _last(query, "hub.mode") == "subscribe" and challenge is not None and same_token(token, self._verify_token):
            log.info("webhook.received", source="meta", status=200, outcome="handshake")
            return PlainTextResponse(challenge)
        _refused(self._refusals, "meta", 403, "handshake")
        return problem(403, "forbidden")

    async def _accept(self, scope: Scope, receive: Receive) -> Answer:
        signature = _header(scope, b"x-hub-signature-256")
        if not is_meta_signature(signature):
            return Answer(403, "bad_signature", unread=True)
        answer = await self._accept_signed(scope, receive, signature or b"")
        if answer.status not in {200, 503}:
            self._coverage.refused(answer.outcome, "doubtful")
        return answer

    async def _accept_signed(self, scope: Scope, receive: Receive, signature: bytes) -> Answer:
        body = await _read(scope, receive, META_LIMIT)
        if isinstance(body, Answer):
            return body
        if not signed_by_meta(body, signature, self._secrets):
            return Answer(403, "bad_signature")
        now = self._now()
        try:
            large = len(body) > SPLIT_IN_PLACE  # others are answered meanwhile
            records = await asyncio.to_thread(meta.read, body, now) if large else meta.read(body, now)
        except meta.NotJsonError:
            return Answer(400, "not_json")
        try:
            return await self._publish(records)
        except Permanent:  # an item that grew beyond a record
            return await self._publish([await asyncio.to_thread(meta.whole, body, now, "too_large")])

    async def _publish(self, records: Sequence[meta.SplitRecord]) -> Answer:
        ticket = self._coverage.begin_publish()
        try:
            answer = await _publish(self._producer, [Record(WEBHOOKS, *record) for record in records])
            if answer.status != 200:  # noqa: PLR2004 -- OK
                self._coverage.refused(answer.outcome)
            return answer
        finally:
            self._coverage.end_publish(ticket)


class TwilioEdge:
    """``POST /webhooks/twilio/status``: what became of an SMS.

    Signed over PUBLIC_URL, path and query, never over the Host header.
    """

    def __init__(
        self, *, tokens: Sequence[bytes], public_url: str | None, producer: CoalescingProducer, now: Clock
    ) -> None:
        """Without a token or a public URL nothing can be verified, and everything is refused."""
        self._tokens = tokens
        self._public_url = public_url
        self._refusals = LogThrottle()
        self._producer = producer
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "POST":
            await _not_allowed(self._refusals, "twilio", "POST")(scope, receive, send)
            return
        began = perf_counter()
        answer = await self._accept(scope, receive)
        _log(self._refusals, "twilio", answer, began)
        await _answer(answer, send, b"<Response/>", b"text/xml")

    async def _accept(self, scope: Scope, receive: Receive) -> Answer:
        signature = _header(scope, b"x-twilio-signature")
        if self._public_url is None or not is_twilio_signature(signature):
            return Answer(403, "bad_signature" if self._public_url else "not_configured", unread=True)
        body = await _read(scope, receive, TWILIO_LIMIT)
        if isinstance(body, Answer):
            return body
        form = twilio.read_form(body)
        if form is None or not signed_by_twilio(self._url(scope), form, signature, self._tokens):
            return Answer(403, "bad_signature")
        text = scope["query_string"].decode("latin-1")
        if not twilio.is_split_as_sent(text, form):
            return Answer(403, "bad_form")
        query = parse_qs(text, errors="replace")
        key, value = twilio.status_record(form, self._now(), _last(query, "ref"))
        return await _publish(self._producer, [Record(WEBHOOKS, key, value)])

    def _url(self, scope: Scope) -> str:
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        query: bytes = scope["query_string"]
        target: bytes = path + (b"?" + query if query else b"")
        return (self._public_url or "") + target.decode("latin-1")


def edge_apps(
    config: EdgeConfig, producer: CoalescingProducer, coverage: EdgeCoverage, now: Clock = utc_now
) -> dict[str, ASGIApp]:
    """Ingest's own applications by exact path, also with a slash behind it. Providers do not follow redirects."""
    apps: dict[str, ASGIApp] = {
        "/webhooks/meta": MetaEdge(
            secrets=config.meta_secrets, verify_token=config.verify_token, producer=producer, now=now, coverage=coverage
        ),
        "/webhooks/twilio/status": TwilioEdge(
            tokens=config.twilio_tokens, public_url=config.public_url, producer=producer, now=now
        ),
    }
    return apps | {f"{path}/": app for path, app in apps.items()}


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes | bytearray | Answer:
    """The raw body, or the answer to a request that is too large or has no end."""
    declared = _header(scope, b"content-length")
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


async def _publish(producer: CoalescingProducer, records: Sequence[Record]) -> Answer:
    """Raises Permanent when a record is too large for its topic."""
    try:
        await producer.publish(records)
    except Transient:
        return Answer(503, "kafka_away", len(records))
    return Answer(200, "accepted", len(records))


def _not_allowed(refusals: LogThrottle, source: str, methods: str) -> Response:
    _refused(refusals, source, 405, "method")
    return problem(405, "method not allowed", headers={"allow": methods, "connection": "close"})


def _refused(refusals: LogThrottle, source: str, status: int, reason: str, **more: object) -> None:
    refusals.report(
        f"{source} {reason}",
        lambda times: log.warning("webhook.rejected", source=source, status=status, reason=reason, times=times, **more),
    )


def _log(refusals: LogThrottle, source: str, answer: Answer, began: float) -> None:
    metrics.WEBHOOKS.labels(source=source, status=str(answer.status)).inc()
    duration = round((perf_counter() - began) * 1000, 1)
    if answer.status == 200:  # noqa: PLR2004 -- OK
        log.info("webhook.received", source=source, status=200, items=answer.items, duration_ms=duration)
    else:
        _refused(refusals, source, answer.status, answer.outcome, duration_ms=duration)


_TITLES = {400: "bad request", 403: "forbidden", 413: "too large", 503: "try again"}


async def _answer(answer: Answer, send: Send, body: bytes, content_type: bytes) -> None:
    headers = [(b"content-type", content_type)]
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


def _header(scope: Scope, name: bytes) -> bytes | None:
    header: bytes
    value: bytes
    for header, value in scope["headers"]:
        if header == name:
            return value
    return None


def _last(query: dict[str, list[str]], name: str) -> str | None:
    return query[name][-1] if name in query else None
